"""Draw samples from a main network, alone or guided, into a sample set.

python -m autoguide_jax sample --config=configs/pair.py --config.main.run=runs/digits/main …
"""

import dataclasses
import itertools
from dataclasses import dataclass, field

import numpy as np

from autoguide_jax import config, files, health, processes, provenance, sample_sets, stop
from autoguide_jax.claims import decisions
from autoguide_jax.generation import Programs, check_stack
from autoguide_jax.pairs import Networks, Pair, open_autoencoder
from autoguide_jax.progress import Progress
from autoguide_jax.seeds import sample_labels, seed_list


@dataclass(frozen=True)
class SampleSettings:
    """Which samples, and how they are kept.

    Settings:
      seeds: seeds of the samples, as '0-49999' or '0,7,100-199'
      classes: random (uniform, from each seed), balanced (seed mod number of classes), one class
        number, or none
      batch_size: images per call of the sampler
      formats: png (folders of 1000), npz (one file as the usual evaluators read it), or both
      stack: networks of equal architecture in one call: auto (measured), on, off
    """

    seeds: str = '0-63'
    classes: str = 'random'
    batch_size: int = 64
    formats: tuple[str, ...] = ('png',)
    stack: str = 'auto'

    def __post_init__(self):
        seed_list(self.seeds)
        if self.classes not in ('random', 'balanced', 'none') and not self.classes.isdigit():
            raise ValueError(
                f"classes ({self.classes!r}) must be 'random', 'balanced', 'none' or a number"
            )
        if self.batch_size < 1:
            raise ValueError(f'batch_size ({self.batch_size}) must be at least 1')
        if not self.formats or set(self.formats) - {'png', 'npz'}:
            raise ValueError(f"formats ({self.formats}) must name 'png', 'npz' or both")
        check_stack(self.stack)


@dataclass(frozen=True)
class Settings(Pair):
    """Everything that makes a sample set.

    Settings:
      sampler: the sampler
      sample: seeds, labels, files
    """

    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')
    sample: SampleSettings = field(default_factory=SampleSettings)


def main(settings, workdir):
    """Write the sample set of these settings to workdir; only what is missing is drawn.

    Several processes draw a share of the seeds each; the first completes the set.
    """
    networks = Networks()
    networks.check(settings)
    vae = open_autoencoder(settings)
    calls, rules = networks.calls(settings)
    seeds = seed_list(settings.sample.seeds)
    num_classes = calls[0].network.config['network'].get('label_dim', 0)
    classes = settings.sample.classes
    if classes.isdigit() and int(classes) >= num_classes:
        raise ValueError(f'sample.classes ({classes}) must be below {num_classes}, or random')
    sampler = config.build(settings.sampler)
    with stop.watch():
        health.quick(workdir, config.resolved(settings))
        # Not before: this is the first that needs a device, and quick tells of those that hang.
        labels = sample_labels(seeds, num_classes, classes)
        with processes.main_first('the sample set'):
            if processes.is_main():
                what = manifest(settings, calls, rules, vae)
                writer = sample_sets.create(workdir, what, seeds, settings.sample.formats)
            else:
                writer = sample_sets.join(workdir)
        size = settings.sample.batch_size
        own = processes.share(len(seeds), size)
        todo = own & np.isin(seeds, writer.missing())
        todo, done = np.flatnonzero(todo), int(own.sum() - todo.sum())
        settle = decisions(writer.folder)
        stack = settings.sample.stack
        programs = Programs(sampler, size, stack, settle=settle, autoencoder=vae)
        with Progress(done + len(todo), 'img', 'sample', done=done) as bar:
            for part in (todo[i : i + size] for i in range(0, len(todo), size)):
                images = programs.images(calls, rules, seeds[part], labels[part])
                writer.write(seeds[part], labels[part], images)
                bar.update(len(part))
                stop.check('sampling', saved=f'{workdir}: {bar.done} of {bar.total} images')
        complete(writer)
    return {'samples': str(files.path(workdir)), 'images': len(seeds), 'drawn': len(todo)}


def complete(writer):
    """Finish the set once every process has drawn its share."""
    parts = processes.gather(writer.own)
    with processes.main_first('completing the set'):
        if processes.is_main():
            writer.adopt(itertools.chain(*parts))
            writer.finish()


def manifest(settings, calls, rules, vae=None):
    """What makes a sample: two sets that differ in any of this never share a folder."""
    refs = settings.refs()
    # Of a run in a folder of models, its name there: the folder may move, contents decide.
    networks = {
        role: {
            'run': str(ref.run) if settings.models else call.network.run,
            'nimg': call.network.nimg,
            'std': call.network.std,
            'content_hash': call.network.content_hash,
            'network': call.network.config['network'],
            'denoiser': call.network.config['denoiser'],
            'labelled': call.labelled,
            **({'degrade': repr(call.degrade)} if call.degrade else {}),
            **({'latents': call.network.config['latents']} if vae else {}),
        }
        for (role, ref), call in zip(refs.items(), calls)
    }
    guidance = {role: dataclasses.asdict(rule) for role, rule in zip([*refs][1:], rules)}
    # Of networks that training did not track. Their content decides; its last digits are the CPU's.
    made = {
        role: call.network for role, call in zip(refs, calls) if not call.network.report.tracked
    }
    errors = {'fit_error': {role: network.fit_error for role, network in made.items()}}
    return files.plain(
        {
            'networks': networks,
            'guidance': guidance,
            'rule': settings.guidance.rule,
            'sampler': config.resolved(settings.sampler),
            'classes': settings.sample.classes,
            **({'vae': vae.describe()} if vae else {}),
            'provenance': {**provenance.describe(), **(errors if made else {})},
        }
    )
