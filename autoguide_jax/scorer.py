"""Draw, score and record one setting; rows that are finished are never redone.

Nothing is written but the table: images go from the sampler to the metrics in memory.
"""

import time

import numpy as np

from autoguide_jax import config, files, pairs, stop
from autoguide_jax.generation import calls_per_image, program_key
from autoguide_jax.seeds import sample_labels


class Scorer:
    """Scores pairs with one sampler and one evaluator into a results.jsonl.

    evaluator: has measure(batches) → {metrics, errors, …} and identity, what decides its numbers.
    programs: generation.Programs; networks: pairs.Networks; classes: as in `sample_labels`.
    worker: a name where several workers share the table: each then writes a file of its own,
    results/WORKER.jsonl, and reads all of them; `merge` makes one table of them.
    """

    def __init__(self, networks, programs, evaluator, file, sampler, classes='random', worker=None):
        self.networks, self.programs, self.evaluator = networks, programs, evaluator
        self.file, self.sampler = files.path(file), config.resolved(sampler)
        self.classes = classes
        self.others = self.file.parent / self.file.stem
        self.own = self.others / f'{worker}.jsonl' if worker else self.file
        self.rows, self.measured = {}, {}
        self.drawn, self.used = 0, {}
        self.refresh()

    def refresh(self):
        """Read the rows that are there by now."""
        tables = [self.file, *(self.others / n for n in files.names(self.others, '.jsonl'))]
        for row in (row for table in tables for row in files.read_jsonl(table)):
            self.rows |= {row['key']: row} if 'key' in row else {}
            self.measured |= {row['measurement']: row} if 'measurement' in row else {}

    def keys(self, pair, first_seed, count, **tags):
        """(measurement, key): what decides the numbers of a row, and the row."""
        vae = self.programs.autoencoder
        measurement = files.content_hash(
            {
                **self.identity(pair),
                **({'vae': vae.describe()} if vae else {}),
                'sampler': self.sampler,
                'seeds': [first_seed, count],
                'classes': self.classes,
                'evaluator': self.evaluator.identity,
            }
        )
        return measurement, files.content_hash({'measurement': measurement, **tags})

    def identity(self, pair):
        """What decides the images of a pair, given seeds and labels; guides that do not act do not.

        So a grid scores w = 1 once, whatever the EMA lengths of the guide.
        """
        return pairs.identity(pairs.acting(pair))

    def score(self, pair, first_seed, count, **tags):
        """The row of this pair on seeds first_seed … first_seed + count − 1.

        tags (phase, arm, …) are part of the row and of its key, not of the measurement: a setting
        that two phases ask for is drawn once.
        """
        measurement, key = self.keys(pair, first_seed, count, **tags)
        self.used[key] = None
        if key in self.rows:
            return self.rows[key]
        known = self.measured.get(measurement)
        known = known or self.measure(pairs.settled(pair), first_seed, count)
        row = {**known, 'measurement': measurement, 'key': key, **tags}
        if pair.guidance.weight == 1:  # drawn once for all guides, but the row names its own
            row['setting'] = self.setting(pairs.settled(pair))
        files.append_jsonl(self.own, row)
        self.rows[key] = self.measured[measurement] = files.plain(row)
        return self.rows[key]

    def merge(self):
        """Make one table of what all workers wrote; their files stay."""
        if self.own != self.file:
            self.refresh()
            files.write_jsonl(self.file, self.rows.values())

    def measure(self, pair, first_seed, count):
        """Draw and score, without the table."""
        calls, rules = self.networks.calls(pair)
        seeds, labels = self.told(calls, first_seed, count)
        self.compile(calls, rules, seeds, labels)
        start = time.monotonic()
        found = self.evaluator.measure(self.batches(calls, rules, seeds, labels))
        self.drawn += count
        spent = {'seconds': time.monotonic() - start, 'drawn': count}
        return self.row(pair, [first_seed, count], found, calls, rules, spent)

    def row(self, pair, seeds, found, calls, rules, spent):
        """What is told of a setting, scored on seeds [first, count].

        found: of the evaluator; spent: seconds, and drawn, the images that were not there already.
        """
        per_image = calls_per_image(self.programs.sampler, rules)
        costs = [self.programs.cost(call) for call in calls]
        main = per_image['main'] * costs[0]
        guides = sum(n * cost for n, cost in zip(per_image['guides'], costs[1:]))
        return {
            'setting': self.setting(pair),
            'seeds': seeds,
            **found,
            'nfe': {'main': per_image['main'], 'guide': sum(per_image['guides'])},
            'cost': {'relative': (main + guides) / main},
            **spent,
            'images': seeds[1],
        }

    def setting(self, pair):
        """A pair, its moments settled, and the sampler, as a row tells them."""
        return pairs.setting_row(pair) | {'sampler': self.sampler}

    def told(self, calls, first_seed, count):
        """(seeds [count], labels int32 [count]) of a set of seeds."""
        seeds = list(range(first_seed, first_seed + count))
        num_classes = calls[0].network.config['network'].get('label_dim', 0)
        return seeds, sample_labels(seeds, num_classes, self.classes)

    def keep(self, pair, first_seed, count, name, programs):
        """Store the images of `count` seeds, drawn by programs, beside the table, if not there."""
        target = self.file.parent / name
        if target.exists():
            with files.open_npz(target) as old:
                if len(old['seeds']) >= count:
                    return
        calls, rules = self.networks.calls(pairs.settled(pair))
        seeds, labels = self.told(calls, first_seed, count)
        images = programs.all_images(calls, rules, seeds, labels)
        files.save_npz(target, {'images': images, 'labels': labels, 'seeds': np.array(seeds)})

    def compile(self, calls, rules, seeds, labels):
        """Outside the clock; a no-op after the first setting of an architecture."""
        key = program_key(calls, rules)
        if key not in self.programs.compiled:
            self.programs.images(calls, rules, seeds[:1], labels[:1])

    def batches(self, calls, rules, seeds, labels):
        """(images, labels or None) in batches, stopping cleanly in between."""
        size = self.programs.batch_size
        labelled = bool((labels >= 0).any())
        for i in range(0, len(seeds), size):
            stop.check('sampling', saved=f'finished rows in {self.file}')
            part = slice(i, i + size)
            images = self.programs.images(calls, rules, seeds[part], labels[part])
            yield images, labels[part] if labelled else None


def table(rows):
    """The rows of the printed table, one per setting: means over its sets of seeds."""
    found = {}
    for row in {row['key']: row for row in rows}.values():
        found.setdefault(files.content_hash(row['setting']), []).append(row)
    told = [flat(group[0]['setting']) for group in found.values()]
    names = list(dict.fromkeys(name for one in told for name in one))
    varied = [name for name in names if len({str(one.get(name)) for one in told}) > 1]
    return [table_row(group, varied) for group in found.values()]


def flat(tree, prefix=''):
    """{dotted name: value} of a tree of dicts."""
    found = {}
    for name, value in (tree or {}).items():
        below = isinstance(value, dict)
        found |= flat(value, f'{prefix}{name}.') if below else {f'{prefix}{name}': value}
    return found


def table_row(rows, varied=()):
    """One row of the printed table, of the rows of one setting.

    varied: dotted names of what differs between settings, shown where no column has it already.
    """
    setting = rows[0]['setting']
    roles = [role for role in ('main', 'guide', 'uncond') if setting[role]]
    lo, hi = setting['interval']
    shown = {'weight', 'alpha', 'interval', *(f'{role}.std' for role in roles)}
    told = flat(setting)
    metrics = {}
    for name in rows[0]['metrics']:
        metrics |= summary(rows, name) if name != 'count' else {name: rows[0]['metrics'][name]}
    short = {name: least for row in rows for name, least in row.get('fewer', {}).items()}
    return {
        **{name.replace('.', '_'): told.get(name) for name in varied if name not in shown},
        **{f'{role}_std': setting[role]['std'] for role in roles},
        'weight': setting['weight'],
        **({'alpha': setting['alpha']} if len(roles) == 3 else {}),
        'interval': f'({lo:g}, {float(hi):g}]',
        **({'schedule': schedule_text(setting)} if 'schedule' in setting else {}),
        **metrics,
        **{f'{name}: fewer images than': least for name, least in short.items()},
        'guide_calls': rows[0]['nfe']['guide'],
        'seconds': sum(row['seconds'] for row in rows),
    }


def schedule_text(setting):
    """The knots of a setting's schedule: 'noise level:scale, …'."""
    return ', '.join(f'{sigma:g}:{scale:g}' for sigma, scale in setting['schedule'])


def summary(rows, name):
    """A metric over sets of seeds: its mean, None without any, and what tells how sure it is.

    NAME_sd: the standard deviation (n − 1 below the line) over the sets; NAME_se: with one set,
    its standard error over draws of the samples, where the metric has one. Sets without a value
    are left out, and it is said of how many the mean is.
    """
    known, left_out = defined(rows, name)
    values = [row['metrics'][name] for row in known]
    found = {name: float(np.mean(values)) if values else None}
    if len(values) > 1:
        found[f'{name}_sd'] = float(np.std(values, ddof=1))
    elif values and (error := known[0].get('errors', {}).get(name)) is not None:
        found[f'{name}_se'] = error
    return {**found, **left_out}


def defined(rows, name):
    """(rows that have a value of a metric, what is printed where these are some but not all)."""
    known = [row for row in rows if row['metrics'][name] is not None]
    some = 0 < len(known) < len(rows)
    return known, {f'{name}: sets with a value': f'{len(known)} of {len(rows)}'} if some else {}
