"""What a training run and its guided sampler cost on a TPU slice, told before one is rented.

The real training step and the real sampler are traced as shapes; what follows from shapes is
arithmetic, and the TPU compiler (libtpu, an optional extra; no TPU) says the rest. Figures carry
where they come from: figures.py.
"""

from dataclasses import dataclass, field

import jax

from autoguide_jax import config, stop
from autoguide_jax.generation import calls_per_image
from autoguide_jax.guidance import Guidance
from autoguide_jax.plan import advice, analytic, chips, compiler, figures, programs
from autoguide_jax.plan.report import Report
from autoguide_jax.run_settings import Settings as TrainSettings


@dataclass(frozen=True)
class Settings:
    """A plan.

    Settings:
      main: the main network, as a training run
      guide: the guide, as a training run; none plans main alone
      sampler: the sampler
      topology: the slice, as v5e:16x16 (v4, v5e, v5p, v6e)
      price: price of one chip for one hour, in the money of your choice; 0 = unknown
      sample_batch: images that the sampler has on one chip
      sample_images: images of the sample set whose cost is told
      compare: further policies of network.remat whose training step is compiled, as block
      compile: ask the TPU compiler, where it is installed
      effort: how much time the compiler takes, from -1.0 (minutes) to 0.0 (as where the program
        runs: about six times as long, and its temporaries may be larger)
      cache: folder that keeps what the compiler found
    """

    main: TrainSettings = field(default_factory=TrainSettings)
    guide: TrainSettings | None = None
    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')
    topology: str = 'v5e:16x16'
    price: float = 0.0
    sample_batch: int = 8
    sample_images: int = 50000
    compare: tuple[str, ...] = ()
    compile: bool = True
    effort: float = -1.0
    cache: str = '~/.cache/autoguide_jax/plan'

    def __post_init__(self):
        topology = chips.read(self.topology)
        if self.price < 0 or self.sample_batch < 1 or self.sample_images < 1:
            raise ValueError(
                f'price ({self.price}) must be ≥ 0, sample_batch ({self.sample_batch}) and '
                f'sample_images ({self.sample_images}) ≥ 1'
            )
        if not -1 <= self.effort <= 0:
            raise ValueError(f'effort ({self.effort}) must be from -1 to 0')
        for name in ('main', 'guide'):
            if getattr(self, name) is not None:
                check_batch(name, getattr(self, name), topology)


def check_batch(name, run, topology):
    """Refuse batches and shards that the devices of a slice do not divide."""
    loop, devices = run.train, topology.chips
    for setting in ('batch_size', 'microbatch_size'):
        size = getattr(loop, setting)
        if size % devices:
            raise ValueError(
                f'{name}.train.{setting} ({size}) must be a multiple of the {devices} devices of '
                f'{topology.name}'
            )
    if run.mesh.shards and devices % run.mesh.shards:
        raise ValueError(
            f'{name}.mesh.shards ({run.mesh.shards}) must divide the {devices} devices of '
            f'{topology.name}'
        )


def main(settings, workdir=None):
    """Plan; returns a Report, tables of figures for each program and for the pair.

    Errors: ValueError for a run whose network does not say what it is built for, or a slice that
    the compiler does not know; RuntimeError if it refuses a program for another reason than memory.
    """
    # A TPU that is here is left alone: all of this is for one that is not.
    jax.config.update('jax_platforms', 'cpu')
    topology = chips.read(settings.topology)
    names = [name for name in ('main', 'guide') if getattr(settings, name) is not None]
    for name in names:
        programs.check(name, getattr(settings, name))
    with stop.watch():
        runs = {name: programs.Run(getattr(settings, name)) for name in names}
        asked = settings.compile and compiler.version() is not None
        devices = compiler.devices(topology) if asked else None
        report = Report(topology, compiler.version(), settings)
        for name, run in runs.items():
            report.add(f'train {name}', *plan_training(name, run, topology, devices, settings))
        report.add('sample', *plan_sampling(list(runs.values()), topology, devices, settings))
    return report


def plan_training(name, run, topology, devices, settings):
    """(rows, suggestion, what the compiler found) of one training step."""
    model, now = figures.model_of(run, topology), figures.option_of(run, topology)
    rows = figures.network_rows(run) + figures.memory_rows(run, topology, model)
    useful = 3 * run.forward_flops * run.settings.train.batch_size / topology.chips
    traced = run.step(devices or programs.stand_ins(topology, run))
    executed = analytic.flops(traced.jaxpr.jaxpr) / topology.chips
    found, others = None, []
    if devices:
        found = compiler.compile(traced.lower(), topology, settings, f'train {name}')
        arguments = model.arguments[now.shards]
        rows += figures.compiled_rows(found, executed, arguments)
        others = compare(name, run, topology, devices, settings, arguments)
        rows += others
        model = figures.calibrated(model, now, found)
    else:
        rows.append(figures.row('executed FLOPs', executed / 1e12, 'TFLOP per chip', 'analytic'))
    terms = figures.roofline(topology.chip, executed, found)
    rows += figures.roofline_rows(terms, useful, topology.chip, 'step')
    rows += figures.file_rows(run, topology, model)
    rows += figures.run_rows(run, topology, terms['bound'], settings.price)
    return rows, suggestion(name, model, now, topology, found), found


def compare(name, run, topology, devices, settings, arguments):
    """Rows of the same step, with the same bytes of arguments, under other policies of remat."""
    rows = []
    for remat in settings.compare:
        other = run.changed(**{'network.remat': remat})
        what = f'train {name}, remat {remat}'
        found = compiler.compile(other.step(devices).lower(), topology, settings, what)
        used = figures.needed(found, arguments)
        verdict = '' if found['fits'] else ', does not fit'
        rows.append(
            figures.row(f'HBM, remat {remat}{verdict}', used / 1e9, 'GB per chip', 'compiler')
        )
    return rows


def suggestion(name, model, now, topology, found):
    """One sentence: that it fits, or the smallest change that should make it fit."""
    available = topology.chip.hbm * figures.SLACK
    fits = found['fits'] if found else model.need(now) <= available
    said = 'the compiler says so' if found else 'by the estimate; only the compiler knows'
    if fits:
        return f'fits ({said})'
    if found:
        available = min(available, found['available'])
    better = advice.smallest(model, now, available)
    if better is None:
        return f'does not fit ({said}), nor would any change of shards, remat and microbatch'
    changes = advice.words(better, now, topology.chips)
    typed = ' '.join(f'--config.{name}.{key}={value}' for key, value in changes.items())
    need = model.need(better) / 1e9
    return f'does not fit ({said}). Smallest change: {typed} (about {need:.3g} GB per chip)'


def plan_sampling(runs, topology, devices, settings):
    """(rows, suggestion, what the compiler found) of the guided sampler, one chip for all."""
    rule = config.build(settings.sampler)
    nfe = calls_per_image(rule, [Guidance(2.0)] * (len(runs) - 1))
    calls = [nfe['main'], *nfe['guides']]
    forward = [run.forward_flops for run in runs]
    per_image = sum(n * flops for n, flops in zip(calls, forward))
    weights = [analytic.tree_bytes(programs.ready_variables(run)) for run in runs]
    row = figures.row
    rows = [row('evaluations per image', ' + '.join(map(str, calls)), '', 'analytic')]
    for name, flops in zip(('main', 'guide'), forward):
        rows.append(row(f'{name}, one evaluation', flops / 2e9, 'GMAC', 'analytic'))
    if len(runs) > 1:
        extra = 100 * calls[1] * forward[1] / (calls[0] * forward[0])
        rows.append(row('overhead of the guide', extra, '%', 'analytic'))
    rows.append(row('one image, without decoding latents', per_image / 1e12, 'TFLOP', 'analytic'))
    rows.append(row('weights, all networks', sum(weights) / 1e9, 'GB per chip', 'analytic'))
    found, batch = None, settings.sample_batch
    if devices:
        traced = programs.sampler(runs, rule, batch, devices[0])
        what = f'sampler, {batch} images on a chip'
        found = compiler.compile(traced.lower(), topology, settings, what)
        rows += figures.compiled_rows(found, batch * per_image, sum(weights))
    terms = figures.roofline(topology.chip, batch * per_image, found)
    rows += figures.roofline_rows(terms, batch * per_image, topology.chip, f'{batch} images')
    batches = settings.sample_images / (batch * topology.chips)
    hours = batches * terms['bound'] / 3600
    what = f'{settings.sample_images} images on {topology.chips} chips at least'
    rows.append(row(what, 60 * hours, 'min', 'roofline'))
    if settings.price:
        cost = hours * topology.chips * settings.price
        rows.append(row('price at least', cost, '', 'roofline'))
    return rows, sampling_verdict(found, sum(weights), topology), found


def sampling_verdict(found, weights, topology):
    """Whether the sampler fits."""
    if found:
        return (
            'fits (the compiler says so)'
            if found['fits']
            else ('does not fit: lower --config.sample_batch')
        )
    fits = weights < topology.chip.hbm * figures.SLACK
    return 'the weights fit; only the compiler knows the rest' if fits else 'the weights do not fit'
