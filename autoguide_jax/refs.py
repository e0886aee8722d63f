"""One network by name: run, moment of training, EMA length; and where it lies."""

import contextlib
import types
from dataclasses import dataclass

from autoguide_jax import config, files, published, snapshots


@dataclass(frozen=True)
class NetworkRef:
    """One network: a run, a moment of its training, an EMA length.

    Settings:
      run: run directory; empty = not used
      std: relative EMA length; lengths that were not tracked are reconstructed
      nimg: images seen; 0 = the run's latest snapshot
      degrade: a way to make the network worse on purpose; none = the network as it is
    """

    run: str = ''
    std: float = 0.10
    nimg: int = 0
    degrade: config.Part | None = config.part('autoguide_jax.guidance:degradations', name=None)


def run_of(ref, models=''):
    """The run directory of a NetworkRef, which may lie in a folder of models; text."""
    run = str(ref.run)
    here = not models or not run or files.path(run).is_absolute()
    return run if here else str(files.path(models) / run)


def check_run(run, role):
    """Refuse what is no run directory, naming the setting."""
    if not run:
        raise ValueError(f'{role}.run is empty: give the run directory of the network')
    if not (files.path(run) / 'config.json').exists():
        raise ValueError(f'{role}.run ({run}) is not a run directory: it has no config.json')


def described(run):
    """A run and its config.json, without a network."""
    tree = files.read_json(files.path(run) / 'config.json')
    return types.SimpleNamespace(run=run, config=tree)


def check_pair(main, guide, role):
    """Main and guide must live in one space: same images, same latents, same classes.

    main, guide: what has .run and .config, as networks have.
    """
    space = {'network': ('resolution', 'channels'), 'latents': ('name', 'scale', 'bias')}
    for part, names in space.items():
        for name in names:
            a, b = main.config[part].get(name), guide.config[part].get(name)
            if a != b:
                raise ValueError(
                    f'{role}.run ({guide.run}): {name} {b} differs from main.run ({main.run}): {a}'
                )
    a, b = (net.config['network'].get('label_dim', 0) for net in (main, guide))
    if role == 'guide' and a != b:
        raise ValueError(
            f'guide.run ({guide.run}) has {b} classes, main.run ({main.run}) {a}: a guide solves '
            'the same task. For classifier-free guidance give it as uncond.run'
        )


def assess(ref, role, models=''):
    """snapshots.Report of a NetworkRef; reads the index of its run alone.

    Errors: ValueError naming the setting and, of a network that is published, its file.
    """
    return assess_many([(role, ref)], models)[0]


def assess_many(named, models=''):
    """The Reports of (role, NetworkRef) pairs.

    Errors: one ValueError with all that is wrong with any of them, as `assess`.
    """
    reports, errors, listed = [], [], {}
    for role, ref in named:
        run = run_of(ref, models)
        try:
            check_run(run, role)
            if run not in listed:
                listed[run] = snapshots.list_snapshots(run)
            report = snapshots.assess(run, ref.std, ref.nimg or None, among=listed[run])
            reports.append(report)
        except ValueError as error:
            # What to import comes first: the rest may speak of training.
            faults = '; '.join(getattr(error, 'faults', [str(error)]))
            text = '. '.join([*import_advice(ref, models), faults])
            errors.append(snapshots.Refused([text], getattr(error, 'advice', ())))
    snapshots.refuse_all(errors)
    return reports


def import_advice(ref, models):
    """What to do about a published network that is not there; nothing about any other."""
    *folders, network = str(ref.run).rstrip('/').split('/')
    if not published.is_network(network):
        return
    if not models and not folders:
        yield 'models is empty: give the folder of imported networks, --config.models=FOLDER'
    run = run_of(ref, models or ('' if folders else 'FOLDER'))
    file = ''
    if ref.nimg:
        with contextlib.suppress(ValueError):
            file = published.file_name(network, ref.nimg, ref.std)
            yield f'nimg {ref.nimg} at std {ref.std:g} has the public name {file}'
    yield f'Put it there: python -m autoguide_jax import --src={file or "FILE"} --workdir={run}'
