"""Scores settings that differ in weight alone in common batches, and goes on from n to N images."""

import dataclasses
import functools
import time

import numpy as np

from autoguide_jax import config, files, pairs, stop
from autoguide_jax.generation import calls_per_image
from autoguide_jax.metrics.metric import Bank
from autoguide_jax.refs import run_of
from autoguide_jax.scorer import Scorer

KEPT_BYTES = 2**30


class GroupScorer(Scorer):
    """A Scorer whose batches hold samples of several settings, told apart by their weights.

    mixed: whether they do; else one setting after the other. keep: what fewer images than these
    told is kept, up to KEPT_BYTES, so that more images of a setting cost only the difference.
    """

    def __init__(self, *args, mixed=False, keep=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.mixed, self.keep_below, self.kept, self.identities = mixed, keep, {}, {}

    def identity(self, pair):
        """As Scorer's; each network is asked once, whose folder may lie in a bucket."""
        return pairs.identity(pairs.acting(pair), self.network_identity)

    def network_identity(self, ref, role, models):
        """pairs.network_identity, remembered."""
        key = run_of(ref, models), ref.std, ref.nimg, repr(ref.degrade)
        if key not in self.identities:
            self.identities[key] = pairs.network_identity(ref, role, models)
        return self.identities[key]

    def score_group(self, group, first_seed, count, **tags):
        """The rows of some pairs that may share batches, on seeds first_seed … + count − 1."""
        todo, keys = {}, [self.keys(pair, first_seed, count, **tags) for pair in group]
        for pair, (measurement, key) in zip(group, keys):
            if key not in self.rows and measurement not in self.measured:
                todo.setdefault(measurement, pair)
        found = self.measure_group(list(todo.values()), first_seed, count)
        self.measured |= dict(zip(todo, found))
        return [self.score(pair, first_seed, count, **tags) for pair in group]

    def measure_group(self, group, first_seed, count):
        """Draw and score settings of the same networks, without the table; their rows in order.

        Those of which as many images are known already share batches.
        """
        known, together = [self.known(pair, first_seed, count) for pair in group], {}
        for i, banks in enumerate(known):
            together.setdefault(count_of(banks) if banks else 0, []).append(i)
        rows = {}
        for start, places in together.items():
            calls, rules = zip(*(self.networks.calls(group[i]) for i in places))
            drawn, seconds = self.draw(calls[0], rules, first_seed + start, count - start)
            for place, banks, rule in zip(places, split(drawn, len(places)), rules):
                began = time.monotonic()
                if start:
                    banks = {e: joined(known[place][e], bank) for e, bank in banks.items()}
                self.keep_for_more(group[place], first_seed, banks)
                found = self.evaluator.judge(banks)
                spent = seconds / len(places) + time.monotonic() - began
                spent = {'seconds': spent, 'drawn': count - start}
                seeds = [first_seed, count]
                rows[place] = self.row(group[place], seeds, found, calls[0], rule, spent)
        return [rows[i] for i in range(len(group))]

    def draw(self, calls, rules, first_seed, count):
        """({extractor: Bank} of images of settings that share batches, seconds it took)."""
        seeds, labels = self.told(calls, first_seed, count)
        batches, began = self.mixed_batches(calls, rules, seeds, labels), time.monotonic()
        drawn = self.evaluator.banks(batches)
        self.drawn += len(rules) * count
        return drawn, time.monotonic() - began

    def mixed_batches(self, calls, rules, seeds, labels):
        """(images, labels or None) of all seeds of the first setting, then of the next, ….

        The first batch is drawn only when asked for, but compiled before.
        """
        which, at = np.divmod(np.arange(len(rules) * len(seeds)), len(seeds))
        seeds, labels = np.asarray(seeds)[at], np.asarray(labels)[at]
        mixed = self.mixed and mixable(rules[0])
        told = (lambda part: by_sample(rules, which[part])) if mixed else lambda _: rules[0]
        if not mixed and len(rules) > 1:
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
        return banks if banks and count_of(banks) < count else None

    def keep_for_more(self, pair, first_seed, banks):
        """Keep what the images of a setting told; those kept longest are forgotten first."""
        base = self.base(pair, first_seed)
        self.kept.pop(base, None)
        if count_of(banks) < self.keep_below:
            self.kept[base] = banks
        while sum(map(size, self.kept.values())) > KEPT_BYTES:
            self.kept.pop(next(iter(self.kept)))

    def base(self, pair, first_seed):
        """What decides the images, apart from their number."""
        return self.keys(pair, first_seed, 0)[0]


def alike(settings, sampler, size):
    """Split settings, in order, into lists of up to `size` that may share batches."""
    lists = {}
    for pair in settings:
        rules = tuple(rule for _, _, rule in pair.rules())
        # Where a guide does not act, it is not to be evaluated for the sake of the others.
        fixed = dataclasses.replace(pair, guidance=dataclasses.replace(pair.guidance, weight=1.0))
        calls = per_image(sampler, rules)
        told = [config.to_dict(fixed), calls, mixable(rules) or pair.guidance.weight]
        lists.setdefault(files.content_hash(told), []).append(pair)
    return [group[i : i + size] for group in lists.values() for i in range(0, len(group), size)]


@functools.lru_cache(2**16)
def per_image(sampler, rules):
    """calls_per_image, of the few rules that a grid has asked for once."""
    return calls_per_image(sampler, rules)


def mixable(rules):
    """Whether the weight of each of these rules may be an array, one for each sample."""
    return all(hasattr(rule, 'excess') for rule in rules)


def by_sample(rules, which):
    """The rules of several settings as those of single samples: which [n] tells whose they are."""
    weight = lambda same: np.asarray([rule.weight for rule in same], np.float32)[which]
    return [dataclasses.replace(same[0], weight=weight(same)) for same in zip(*rules)]


def count_of(banks):
    """How many images some Banks are of."""
    return next(iter(banks.values())).count


def parts(banks, rows):
    """{extractor: Bank} of some rows of Banks, with all that is kept."""
    of = lambda bank: {name: array[rows] for name, array in bank.arrays.items()}
    return {extractor: banked(bank, of(bank)) for extractor, bank in banks.items()}


def split(banks, count):
    """{extractor: Bank} of each of `count` settings, whose images follow each other."""
    each = count_of(banks) // count
    return [parts(banks, slice(i * each, (i + 1) * each)) for i in range(count)]


def joined(first, second):
    """The Bank of the images of two."""
    return banked(first, first.arrays, second.arrays)


def banked(like, *rows):
    """The Bank of some arrays, which keeps what another one does."""
    found = Bank(like.keep)
    for arrays in rows:
        found.extend(arrays)
    return found


def size(banks):
    """Bytes of some Banks."""
    return sum(a.nbytes for bank in banks.values() for a in bank.arrays.values())
