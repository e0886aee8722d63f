"""A network = (run directory, nimg, std), ready to call: main and guides are loaded alike."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from autoguide_jax import config as settings
from autoguide_jax import files
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.snapshots import archive, posthoc


@dataclasses.dataclass(frozen=True)
class Network:
    """One (run, nimg, std): apply(variables, x, sigma, labels) → x0, and where it comes from.

    config: the run's resolved config.json. content_hash: sha256 of the float32 variables; that of
    the snapshot itself if it was tracked and stored in float32.
    """

    denoiser: Denoiser
    variables: dict
    config: dict
    run: str
    nimg: int
    std: float
    content_hash: str
    report: posthoc.Report

    @property
    def apply(self) -> Callable:
        return self.denoiser.apply

    @property
    def fit_error(self) -> float:
        return self.report.fit_error

    @property
    def noise_gain(self) -> float:
        return self.report.noise_gain


@dataclasses.dataclass(frozen=True)
class _Record:
    """What of a run's config.json makes its network.

    Settings:
      network: the backbone with every setting, inferred ones too
      denoiser: what is around it; runs that do not say have the first there was
    """

    network: settings.Part = settings.part('autoguide_jax.backbones:table')
    denoiser: settings.Part = settings.part('autoguide_jax.denoiser:table', name='edm')


def build_denoiser(config: dict) -> Denoiser:
    """Return the denoiser of a run from its resolved config.json.

    config['network'], config['denoiser']: {'name': …, settings}; the latter may be absent, as may
    its name. Errors: ValueError naming the setting, if it is unknown or missing.
    """
    given = {part: config.get(part, {}) for part in ('network', 'denoiser')}
    record = settings.parse(_Record, given)
    return settings.build(record.denoiser, backbone=settings.build(record.network))


def sample_shape(config: dict) -> tuple[int, ...]:
    """Shape of one sample of a run in model space: images [h, w, c], points [d]."""
    network = config['network']
    side = network.get('resolution')
    return (side, side, network['channels']) if side else (network['channels'],)


def load_network(
    run_dir,
    std: float,
    nimg: int | None = None,
    max_fit_error: float = posthoc.MAX_FIT_ERROR,
    place: Callable[[Any], Any] = jax.device_put,
) -> Network:
    """Return the network of a run directory at EMA length std and nimg images (None: the latest).

    A tracked EMA is read as it is, any other is reconstructed from all snapshots up to nimg, or
    read from RUN/posthoc if it was stored there from the same snapshots.
    place: puts the variables (nested dict of numpy arrays) on devices.
    Errors: ValueError for a nimg without snapshot (the nearest are named), or a std that the
    snapshots cannot give within max_fit_error (what they can is named); FileNotFoundError.
    """
    record = _record(run_dir)
    found = posthoc.read_many(run_dir, [(std, nimg)], None, max_fit_error)
    return next(_networks(record, found, place))


def load_networks(run_dir, targets, place: Callable[[Any], Any] = jax.device_put):
    """Yield the Networks of targets [(std, nimg or None)] in order, each as load_network gives it.

    Each snapshot is read once for all. Errors: those of load_network, of all targets in one.
    """
    record = _record(run_dir)
    return _networks(record, posthoc.read_many(run_dir, targets), place)


def _record(run_dir):
    """Return what the networks of a run have in common."""
    config = files.read_json(files.path(run_dir) / 'config.json')
    denoiser = build_denoiser(config)
    return {'denoiser': denoiser, 'config': config, 'run': str(files.path(run_dir))}


def _networks(record, found, place):
    for leaves, report in found:
        variables = {'params': {}, 'buffers': {}} | archive.unflatten(leaves)
        yield Network(
            **record,
            variables=place(variables),
            nimg=report.nimg,
            std=report.std,
            content_hash=archive.content_hash(leaves),
            report=report,
        )
