"""Which networks, how combined: the settings of a guided denoiser, and the networks they name.

D = D_m + Σ_i (w_i(σ) − 1)·(D_m − D_i),  i ∈ {guide, uncond}           arXiv 2406.02507, Eq. 6
"""

import dataclasses
from dataclasses import dataclass, field

import jax

from autoguide_jax import autoencoder, config, files, snapshots
from autoguide_jax import guidance as guidance_room
from autoguide_jax.autoencoder import Autoencoder
from autoguide_jax.generation import Call, latents_of
from autoguide_jax.guidance import split_total


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


@dataclass(frozen=True)
class GuidanceSettings:
    """How strongly, and at which noise levels, the guides act.

    Settings:
      weight: total guidance weight w; 1 = off
      interval: noise levels (lo, hi] at which the guide acts
      alpha: share of the guide in w − 1, the rest is the unconditional network's; −1 = decided by
        which of the two is given (1 or 0), required when both are
      uncond_interval: noise levels (lo, hi] at which the unconditional network acts
      rule: the guidance rule, a name in autoguide_jax/guidance/__init__.py
    """

    weight: float = 1.0
    interval: tuple[float, ...] = (0.0, float('inf'))
    alpha: float = -1.0
    uncond_interval: tuple[float, ...] = (0.0, float('inf'))
    rule: str = 'autoguidance'

    def __post_init__(self):
        for name in ('interval', 'uncond_interval'):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
                raise ValueError(f'{name} ({pair}) must be two noise levels, 0 ≤ lo < hi')
        guidance_room.table.get(self.rule)
        if self.alpha != -1 and not 0 <= self.alpha <= 1:
            raise ValueError(f'alpha ({self.alpha}) must be in [0, 1], or −1 to leave it open')


@dataclass(frozen=True)
class Pair:
    """Main network, guides and how they are combined: D_m + Σ_i (w_i − 1)(D_m − D_i).

    Settings:
      main: the main network D_m
      guide: a worse version of it with the same labels (autoguidance)
      uncond: an unconditional network, or a labelled one that is told no label (CFG)
      guidance: weight and noise levels
      vae: weights of the autoencoder, .safetensors or .npz, where the main network draws latents
      vae_dtype: float32, or bfloat16 between the autoencoder's norms
    """

    main: NetworkRef = field(default_factory=NetworkRef)
    guide: NetworkRef = field(default_factory=NetworkRef)
    uncond: NetworkRef = field(default_factory=NetworkRef)
    guidance: GuidanceSettings = field(default_factory=GuidanceSettings)
    vae: str = ''
    vae_dtype: str = 'float32'

    def __post_init__(self):
        autoencoder.check_dtype('vae_dtype', self.vae_dtype)
        rule, both = self.guidance, bool(self.guide.run and self.uncond.run)
        if both and rule.alpha == -1:
            raise ValueError('guidance.alpha (-1) must be in [0, 1]: guide and uncond are given')
        if rule.weight != 1 and not (self.guide.run or self.uncond.run):
            raise ValueError(
                f'guidance.weight ({rule.weight}) needs guide.run or uncond.run; 1 is off'
            )
        everywhere = (0.0, float('inf'))
        if rule.uncond_interval != everywhere and not self.uncond.run:
            raise ValueError(
                f'guidance.uncond_interval ({rule.uncond_interval}) needs uncond.run; the interval '
                'of the guide is guidance.interval'
            )
        if not self.guide.run and everywhere not in (rule.interval, rule.uncond_interval):
            raise ValueError(
                f'guidance.interval ({rule.interval}) and guidance.uncond_interval '
                f'({rule.uncond_interval}) both speak of the one network uncond; give one'
            )
        if not both and rule.alpha not in (-1, 1.0 if self.guide.run else 0.0):
            raise ValueError(
                f'guidance.alpha ({rule.alpha}) shares the weight between guide and uncond; '
                'give both runs, or leave it out'
            )

    def rules(self):
        """[(role, NetworkRef, Guidance)] of the guides that are used."""
        rule = self.guidance
        alpha = rule.alpha if rule.alpha != -1 else float(bool(self.guide.run))
        w_c, w_u = split_total(rule.weight, alpha)
        make = guidance_room.table.get(rule.rule)
        found = [
            ('guide', self.guide, make(w_c, rule.interval)),
            ('uncond', self.uncond, make(w_u, rule.uncond_interval)),
        ]
        if self.uncond.run and not self.guide.run and rule.uncond_interval == (0.0, float('inf')):
            found[1] = ('uncond', self.uncond, make(w_u, rule.interval))
        used = [item for item in found if item[1].run]
        if len(used) > 1 and not hasattr(make, 'combine'):
            raise ValueError(f'guidance.rule ({rule.rule}) takes one guide; give guide or uncond')
        return used


class Networks:
    """Loads each (run, std, nimg) once, while they fit: a sweep asks for the same ones again.

    max_bytes: host memory for networks that are kept; the one asked for last always is.
    """

    def __init__(self, max_bytes=2**31):
        self.max_bytes, self.loaded = max_bytes, {}

    def get(self, ref, name='main'):
        """The network of a NetworkRef, on the host; name says whose it is in errors."""
        key = (str(ref.run), ref.std, ref.nimg)
        network = self.loaded.pop(key, None)
        if network is None:
            check_run(ref, name)
            on_host = lambda variables: variables
            network = snapshots.load_network(ref.run, ref.std, ref.nimg or None, place=on_host)
        self.loaded[key] = network
        while len(self.loaded) > 1 and sum(map(size, self.loaded.values())) > self.max_bytes:
            self.loaded.pop(next(iter(self.loaded)))
        return network

    def check(self, pair):
        """Refuse what cannot be loaded or reconstructed, before any device work."""
        settled(pair)

    def calls(self, pair):
        """([Call of main and guides], [Guidance of the guides]) of a Pair, checked."""
        harm = lambda ref: ref.degrade and config.build(ref.degrade)
        calls, rules = [Call(self.get(pair.main), degrade=harm(pair.main))], []
        for role, ref, rule in pair.rules():
            network = self.get(ref, role)
            calls.append(Call(network, labelled=role != 'uncond', degrade=harm(ref)))
            rules.append(rule)
            check_pair(calls[0].network, calls[-1].network, role)
        return calls, rules


def check_run(ref, role):
    """Refuse a NetworkRef without a run directory, naming the setting."""
    if not ref.run:
        raise ValueError(f'{role}.run is empty: give the run directory of the network')
    if not (files.path(ref.run) / 'config.json').exists():
        raise ValueError(f'{role}.run ({ref.run}) is not a run directory: it has no config.json')


def check_images(pair):
    """Refuse a main network whose samples are no images, and cannot be made images by pair.vae."""
    check_run(pair.main, 'main')
    tree = files.read_json(files.path(pair.main.run) / 'config.json')
    if (tree.get('latents') or {}).get('name') == 'points':
        raise ValueError(
            f'main.run ({pair.main.run}) draws points, not images: study '
            '--config=configs/toy.py draws, scores and shows them'
        )
    if latents_of(tree).needs_vae:
        autoencoder.check_file(pair.vae, f'main.run ({pair.main.run}) draws latents')


def open_autoencoder(pair):
    """The Autoencoder that makes images of what pair.main draws; None where it draws images.

    Errors: ValueError for a file that is missing, damaged or another one.
    """
    check_images(pair)
    tree = files.read_json(files.path(pair.main.run) / 'config.json')
    return Autoencoder(pair.vae, pair.vae_dtype) if latents_of(tree).needs_vae else None


def assess(ref, role):
    """snapshots.Report of a NetworkRef; reads the index of its run alone."""
    check_run(ref, role)
    return snapshots.assess(ref.run, ref.std, ref.nimg or None)


def settled(pair):
    """The pair with nimg = 0, the latest snapshot, replaced by what that is now."""
    refs = {'main': pair.main, **{role: ref for role, ref, _ in pair.rules()}}
    moments = {role: assess(ref, role).nimg for role, ref in refs.items()}
    refs = {role: dataclasses.replace(ref, nimg=moments[role]) for role, ref in refs.items()}
    return dataclasses.replace(pair, **refs)


def size(network):
    """Bytes of a network's variables."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(network.variables))


def check_pair(main, guide, role):
    """Main and guide must live in one space: same images, same latents, same classes."""
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


def identity(pair):
    """What decides the numbers of a pair: the weights' sources, EMA lengths and guidance rule."""
    rules = pair.rules()
    refs = {'main': pair.main, **{role: ref for role, ref, _ in rules}}
    networks = {}
    for role, ref in refs.items():
        report = assess(ref, role)
        tree = files.read_json(files.path(ref.run) / 'config.json')
        network = [tree.get(part) for part in ('network', 'denoiser', 'latents')]
        networks[role] = {
            'sources': report.sources_hash,
            'std': ref.std,
            'nimg': report.nimg,
            'network': files.content_hash(network),
        }
        if ref.degrade:
            networks[role]['degrade'] = config.resolved(ref.degrade)
    guidance = {role: dataclasses.asdict(rule) for role, _, rule in rules}
    return {'networks': networks, 'guidance': guidance, 'rule': pair.guidance.rule}


def setting_row(pair):
    """The pair as the row of a table."""
    used = lambda ref: config.resolved(ref) if ref.run else None
    rule = pair.guidance
    row = {'main': used(pair.main), 'guide': used(pair.guide), 'uncond': used(pair.uncond)}
    row.update(weight=rule.weight, interval=list(rule.interval), alpha=rule.alpha)
    return files.plain(row)
