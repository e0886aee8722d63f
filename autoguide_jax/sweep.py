"""Score every combination of EMA lengths, weights and intervals of one pair.

The grid is over arguments of one compiled sampler: 50 settings compile once.

    WORKDIR/sweep.json      what is swept, and the keys of its rows
    WORKDIR/results.jsonl   a row per setting and set of seeds
    WORKDIR/examples/       the first images of each setting, MEASUREMENT.npz as its first row says
"""

import contextlib
import dataclasses
import itertools
import shlex
import sys
import time
from dataclasses import dataclass, field

from autoguide_jax import config, files, health, processes, provenance, stop
from autoguide_jax.claims import Claims, decisions, pause
from autoguide_jax.evaluator import Evaluator
from autoguide_jax.generation import Programs
from autoguide_jax.metrics import minimised
from autoguide_jax.pairs import Networks, Pair, open_autoencoder
from autoguide_jax.progress import Progress
from autoguide_jax.scorer import Scorer, table
from autoguide_jax.search import rank
from autoguide_jax.seeds import check_classes


@dataclass(frozen=True)
class GridSettings:
    """The grid: every combination of these lists; an empty list keeps the pair's own value.

    Settings:
      main_std: EMA lengths of the main network
      guide_std: EMA lengths of the guide
      guide_nimg: snapshots of the guide, images seen
      uncond_std: EMA lengths of the unconditional network
      weight: guidance weights
      interval_lo: lower ends of the guidance interval, exclusive
      interval_hi: upper ends of the guidance interval, inclusive
      alpha: shares of the guide in w − 1
    """

    main_std: tuple[float, ...] = ()
    guide_std: tuple[float, ...] = ()
    guide_nimg: tuple[int, ...] = ()
    uncond_std: tuple[float, ...] = ()
    weight: tuple[float, ...] = ()
    interval_lo: tuple[float, ...] = ()
    interval_hi: tuple[float, ...] = ()
    alpha: tuple[float, ...] = ()


@dataclass(frozen=True)
class ScoreSettings:
    """How each setting is scored.

    Settings:
      images: samples per setting and set of seeds
      repeats: sets of seeds, each scored on its own: mean and standard deviation (NAME_sd); with
        one set the standard error over draws of its samples (NAME_se), where there is one
      first_seed: seed of the first sample; the others follow
      classes: labels of the samples: random, or balanced (seed mod number of classes)
      examples: images of each setting that are kept, those of the first seeds
      batch_size: images per call of the sampler
      stack: networks of equal architecture in one call: auto (measured), on, off
      metrics: metrics to compute; the table is sorted by the first, a distance
      allow_fewer: score fewer images than a metric asks for; rows and table say so
      shared: several machines or slices work on this workdir at once; always so in a bucket, and
        with several processes
    """

    images: int = 1000
    repeats: int = 1
    first_seed: int = 0
    classes: str = 'random'
    examples: int = 0
    batch_size: int = 250
    stack: str = 'auto'
    metrics: tuple[str, ...] = ('frechet', 'precision', 'recall', 'density', 'coverage')
    allow_fewer: bool = False
    shared: bool = False

    def __post_init__(self):
        if self.images < 2 or self.batch_size < 1:
            raise ValueError(
                f'images ({self.images}) must be at least 2, batch_size ({self.batch_size}) at '
                'least 1'
            )
        if self.repeats < 1 or not 0 <= self.examples <= self.images:
            raise ValueError(
                f'repeats ({self.repeats}) must be at least 1, examples ({self.examples}) in '
                f'0…{self.images}, the images per setting'
            )
        check_classes(self.classes)
        minimised(self.metrics)

    def blocks(self):
        """The arguments of Scorer.score that tell the sets of seeds apart."""
        first = [self.first_seed + i * self.images for i in range(self.repeats)]
        return [{'first_seed': f, 'count': self.images, 'phase': 'sweep'} for f in first]


@dataclass(frozen=True)
class Settings(Pair):
    """A sweep.

    Settings:
      main: the main network D_m
      guide: a worse version of it with the same labels (autoguidance)
      uncond: an unconditional network, or a labelled one that is told no label (CFG)
      guidance: weight and noise levels where the grid has no list
      models: folder, local or gs://, that main.run, guide.run and uncond.run are relative to;
        empty = they are paths themselves
      vae: weights of the autoencoder, .safetensors or .npz, where the main network draws latents
      vae_dtype: float32, or bfloat16 between the autoencoder's norms
      sampler: the sampler
      sweep: the grid
      score: samples and metrics of each setting
      data: the real images to compare with
      features: the network whose features are compared
    """

    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')
    sweep: GridSettings = field(default_factory=GridSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    data: config.Part = config.part('autoguide_jax.data:table', name='digits')
    features: config.Part = config.part('autoguide_jax.metrics.features:table', name='classifier')


def grid(settings):
    """All pairs of the grid, in order."""
    axes = {k: v for k, v in dataclasses.asdict(settings.sweep).items() if v}
    base = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Pair)}
    for name in axes:
        role = name.partition('_')[0]
        if role in ('guide', 'uncond') and not getattr(settings, role).run:
            raise ValueError(f'sweep.{name} ({axes[name]}) needs {role}.run')
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values))
        yield at(Pair(**base), **chosen)


def at(pair, interval_lo=None, interval_hi=None, weight=None, alpha=None, **networks):
    """The pair with some settings replaced: main_std, guide_std, guide_nimg, uncond_std, …"""
    rule = pair.guidance
    lo = rule.interval[0] if interval_lo is None else interval_lo
    hi = rule.interval[1] if interval_hi is None else interval_hi
    rule = dataclasses.replace(
        rule,
        interval=(lo, hi),
        weight=rule.weight if weight is None else weight,
        alpha=rule.alpha if alpha is None else alpha,
    )
    refs = {}
    for name, value in networks.items():
        role, setting = name.split('_')
        refs[role] = dataclasses.replace(refs.get(role, getattr(pair, role)), **{setting: value})
    return dataclasses.replace(pair, guidance=rule, **refs)


def main(settings, workdir):
    """Score the grid into workdir/results.jsonl; returns the table, best first.

    Several processes, and several machines or slices that are given one workdir, share the settings
    among them, one each at a time.
    """
    workdir = files.path(workdir)
    pairs = list(grid(settings))
    networks = Networks()
    for pair in pairs:
        networks.check(pair)
    vae = open_autoencoder(settings)
    with stop.watch(), contextlib.ExitStack() as stack:
        health.quick(workdir, config.resolved(settings))
        claims = None
        if settings.score.shared or processes.count() > 1 or files.is_remote(workdir):
            claims = stack.enter_context(Claims(workdir / 'claims'))
        scorer = open_scorer(settings, workdir, networks, claims, vae)
        asked = itertools.product(pairs, settings.score.blocks())
        asked = [(pair, block, scorer.keys(pair, **block)[1]) for pair, block in asked]
        record(scorer, settings, workdir, asked)
        first = minimised(settings.score.metrics)
        with Progress(len(asked), 'settings', f'sweep {workdir.name}') as bar:
            rows = []
            for row in score_all(scorer, asked, claims):
                rows.append(row)
                bar.update(1)
                bar.note(best=min(rank(r['metrics'][first]) for r in rows))
        keep_examples(scorer, pairs, settings.score, claims)
        scorer.merge()
        processes.gather()
    compiled = scorer.programs.count
    print(f'{len(pairs)} settings, {scorer.drawn} images drawn, {compiled} compilation(s)')
    return sorted(table(rows), key=lambda row: rank(row[first]))


def record(scorer, settings, workdir, asked):
    """sweep.json: what a reader of the rows must know of the whole."""
    if not processes.is_main():
        return
    facts = {
        'commands': [f'python -m autoguide_jax {shlex.join(sys.argv[1:])}'],
        'created': time.strftime('%Y-%m-%d %H:%M:%S'),
        'settings': config.resolved(settings),
        'provenance': provenance.describe(),
        'rows': list(dict.fromkeys(key for *_, key in asked)),
        **scorer.evaluator.describe(),
    }
    files.write_json(workdir / 'sweep.json', files.plain(facts))


def open_scorer(settings, workdir, networks, claims, vae):
    """The Scorer of a sweep; one worker prepares features and reference, the others read them."""
    s = settings.score
    facts = [config.resolved(part) for part in (settings.data, settings.features)]
    prepare = lambda: Evaluator(
        config.build(settings.data),
        settings.features,
        s.metrics,
        workdir,
        allow_fewer=s.allow_fewer,
        count=s.images,
    )
    name = f'evaluator-{files.content_hash([facts, s.metrics])}'
    evaluator = claims.once(name, prepare) if claims else prepare()
    evaluator.check_defined(minimised(s.metrics))
    sampler = config.build(settings.sampler)
    settle = decisions(workdir)
    programs = Programs(sampler, s.batch_size, s.stack, settle=settle, autoencoder=vae)
    worker = claims and claims.worker
    file = workdir / 'results.jsonl'
    return Scorer(networks, programs, evaluator, file, settings.sampler, s.classes, worker)


def score_all(scorer, asked, claims=None):
    """Yield the row of every (pair, block, key) asked; with claims, another worker may score it."""
    if claims is None:
        yield from (scorer.score(pair, **block) for pair, block, _ in asked)
        return
    todo = asked
    while todo:
        left = []
        for pair, block, key in todo:
            with claims.taking(key) if key not in scorer.rows else contextlib.nullcontext() as mine:
                if mine:
                    scorer.refresh()  # another worker may have finished it since
                if mine or key in scorer.rows:
                    yield scorer.score(pair, **block)
                else:
                    left.append((pair, block, key))
        if len(left) == len(todo):
            pause('waiting for settings that other workers score')
        todo = left
        if todo:
            scorer.refresh()


def keep_examples(scorer, pairs, settings, claims=None):
    """Keep the first images of every setting in examples/, those that are not there yet.

    With claims one worker draws them; the others wait for it.
    """
    if not settings.examples:
        return
    block, count = settings.blocks()[0], settings.examples
    names = [scorer.keys(pair, **block)[0] for pair in pairs]
    programs = scorer.programs.smaller(count)

    def draw():
        with Progress(len(pairs), 'settings', 'examples') as bar:
            for pair, name in zip(pairs, names):
                stop.check('drawing examples', saved=f'finished rows in {scorer.file}')
                scorer.keep(pair, block['first_seed'], count, f'examples/{name}.npz', programs)
                bar.update(1)

    claims.once(f'examples-{files.content_hash([names, count])}', draw) if claims else draw()
