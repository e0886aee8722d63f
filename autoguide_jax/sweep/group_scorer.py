"""Scores settings that differ in weight alone in common batches, and goes on from n to N images."""

import dataclasses
import time

import numpy as np

from autoguide_jax import config, files, pairs, stop
from autoguide_jax.generation import calls_per_image
from autoguide_jax.metrics.metric import Bank
from autoguide_jax.scorer import Scorer

KEPT_BYTES = 2**30


class GroupScorer(Scorer):
    """A Scorer whose batches hold samples of several settings, told apart by their weights.

    mixed: whether they do; else one setting after the other. keep: whether what the images told is
    kept, up to KEPT_BYTES, so that more images of a setting cost only the difference.
    """

    def __init__(self, *args, mixed=False, keep=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.mixed, self.keep_banks, self.kept, self.identities = mixed, keep, {}, {}

    def identity(self, pair):
        """As Scorer's, asked once: it reads the folders of all runs, which may lie in a bucket."""
        if id(pair) not in self.identities:
            # The pair is kept beside it, for another one may get its id once it is gone.
            self.identities[id(pair)] = pair, super().identity(pair)
        return self.identities[id(pair)][1]

    def score_group(self, group, first_seed, count, **tags):
        """The rows of some pairs that may share batches, on seeds first_seed … + count − 1."""
        todo = {}
        for pair in group:
            measurement, key = self.keys(pair, first_seed, count, **tags)
            if key not in self.rows and measurement not in self.measured:
                todo[measurement] = pairs.settled(pair)
        if todo:
            found = self.measure_group(list(todo.values()), first_seed, count)
            self.measured |= dict(zip(todo, found))
        return [self.score(pair, first_seed, count, **tags) for pair in group]

    def measure(self, pair, first_seed, count):
        """Draw and score one setting, without the table."""
        return self.measure_group([pair], first_seed, count)[0]

    def measure_group(self, group, first_seed, count):
        """Draw and score settings of the same networks together, without the table."""
        calls, rules = zip(*map(self.networks.calls, group))
        calls, known = calls[0], [self.known(pair, first_seed, count) for pair in group]
        done = {0 if banks is None else next(iter(banks.values())).count for banks in known}
        start = done.pop() if len(done) == 1 else 0
        seeds, labels = self.told(calls, first_seed + start, count - start)
        batches = self.mixed_batches(calls, rules, seeds, labels)
        began = time.monotonic()
        drawn = self.evaluator.banks(batches)
        self.drawn += len(group) * len(seeds)
        rows = []
        for j, pair in enumerate(group):
            banks = parts(drawn, slice(j * len(seeds), (j + 1) * len(seeds)))
            if start:
                banks = {e: joined(known[j][e], bank) for e, bank in banks.items()}
            self.keep_for_more(pair, first_seed, banks)
            spent = {'seconds': (time.monotonic() - began) / len(group), 'drawn': len(seeds)}
            found, told = self.evaluator.judge(banks), [first_seed, count]
            rows.append(self.row(pair, told, found, calls, rules[j], spent))
        return rows

    def mixed_batches(self, calls, rules, seeds, labels):
        """(images, labels or None) of all seeds of the first setting, then of the next, ….

        The first batch is drawn only when asked for, but compiled before.
        """
        which, at = np.divmod(np.arange(len(rules) * len(seeds)), len(seeds))
        seeds, labels = np.asarray(seeds)[at], np.asarray(labels)[at]
        told = (lambda part: by_sample(rules, which[part])) if self.mixed else lambda _: rules[0]
        if not self.mixed and len(rules) > 1:
            raise ValueError('settings share batches only where the scorer is mixed')
        self.compile(calls, told(slice(0, 1)), seeds, labels)
        labelled = bool((labels >= 0).any())

        def draw():
            for i in range(0, len(seeds), self.programs.batch_size):
                stop.check('sampling', saved=f'finished rows in {self.file}')
                part = slice(i, i + self.programs.batch_size)
                images = self.programs.images(calls, told(part), seeds[part], labels[part])
                yield images, labels[part] if labelled else None

        return draw()

    def known(self, pair, first_seed, count):
        """{extractor: Bank} of the first images of a setting, None if there are none."""
        banks = self.kept.get(self.base(pair, first_seed))
        return banks if banks and next(iter(banks.values())).count < count else None

    def keep_for_more(self, pair, first_seed, banks):
        """Keep what the images of a setting told; those kept longest are forgotten first."""
        if not self.keep_banks:
            return
        base = self.base(pair, first_seed)
        self.kept.pop(base, None)
        self.kept[base] = banks
        while sum(map(size, self.kept.values())) > KEPT_BYTES and len(self.kept) > 1:
            self.kept.pop(next(iter(self.kept)))

    def base(self, pair, first_seed):
        """What decides the images, apart from their number."""
        return self.keys(pair, first_seed, 0)[0]


def alike(settings, sampler, size):
    """Split settings, in order, into lists of up to `size` that may share batches."""
    lists = {}
    for pair in settings:
        rules = [rule for _, _, rule in pair.rules()]
        per_image = calls_per_image(sampler, rules)
        # Where a guide does not act, it is not to be evaluated for the sake of the others.
        fixed = dataclasses.replace(pair, guidance=dataclasses.replace(pair.guidance, weight=1.0))
        mixes = all(hasattr(rule, 'excess') for rule in rules)
        told = [config.to_dict(fixed), per_image, mixes or pair.guidance.weight]
        lists.setdefault(files.content_hash(told), []).append(pair)
    return [group[i : i + size] for group in lists.values() for i in range(0, len(group), size)]


def by_sample(rules, which):
    """The rules of several settings as those of single samples: which [n] tells whose they are."""
    weight = lambda same: np.asarray([rule.weight for rule in same], np.float32)[which]
    return [dataclasses.replace(same[0], weight=weight(same)) for same in zip(*rules)]


def parts(banks, rows):
    """{extractor: Bank} of some rows of Banks."""
    return {extractor: part(bank, rows) for extractor, bank in banks.items()}


def part(bank, rows):
    """The Bank of some rows, with all that is kept."""
    found = Bank(bank.keep)
    found.extend({name: array[rows] for name, array in bank.arrays.items()})
    return found


def joined(first, second):
    """The Bank of the images of two."""
    found = Bank(first.keep)
    found.extend(first.arrays)
    found.extend(second.arrays)
    return found


def size(banks):
    """Bytes of some Banks."""
    return sum(a.nbytes for bank in banks.values() for a in bank.arrays.values())
