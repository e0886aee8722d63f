"""Which networks, how combined: the settings of a guided denoiser, and the networks they name.

D = D_m + Σ_i (w_i(σ) − 1)·(D_m − D_i),  i ∈ {guide, uncond}           arXiv 2406.02507, Eq. 6
"""

import dataclasses
from dataclasses import dataclass, field

import jax

from autoguide_jax import autoencoder, config, files, snapshots
from autoguide_jax import guidance as guidance_room
from autoguide_jax.generation import Call, latents_of
from autoguide_jax.guidance import split_total
from autoguide_jax.refs import NetworkRef, assess, check_run, run_of


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
      models: folder, local or gs://, that main.run, guide.run and uncond.run are relative to;
        empty = they are paths themselves
      vae: weights of the autoencoder, .safetensors or .npz, where the main network draws latents
      vae_dtype: float32, or bfloat16 between the autoencoder's norms
    """

    main: NetworkRef = field(default_factory=NetworkRef)
    guide: NetworkRef = field(default_factory=NetworkRef)
    uncond: NetworkRef = field(default_factory=NetworkRef)
    guidance: GuidanceSettings = field(default_factory=GuidanceSettings)
    models: str = ''
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

    def refs(self):
        """{role: NetworkRef} of main and the guides that are used."""
        return {'main': self.main, **{role: ref for role, ref, _ in self.rules()}}


class Networks:
    """Loads each (run, std, nimg) once, while they fit: a sweep asks for the same ones again.

    max_bytes: host memory for networks that are kept; the one asked for last always is.
    """

    def __init__(self, max_bytes=2**31):
        self.max_bytes, self.loaded = max_bytes, {}

    def get(self, ref, role='main', models=''):
        """The network of a NetworkRef, on the host; role says whose it is in errors."""
        run = run_of(ref, models)
        key = (run, ref.std, ref.nimg)
        network = self.loaded.pop(key, None)
        if network is None:
            assess(ref, role, models)
            on_host = lambda variables: variables
            network = snapshots.load_network(run, ref.std, ref.nimg or None, place=on_host)
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
        main = self.get(pair.main, models=pair.models)
        calls, rules = [Call(main, degrade=harm(pair.main))], []
        for role, ref, rule in pair.rules():
            network = self.get(ref, role, pair.models)
            calls.append(Call(network, labelled=role != 'uncond', degrade=harm(ref)))
            rules.append(rule)
            check_pair(calls[0].network, calls[-1].network, role)
        return calls, rules


def config_of_main(pair):
    """config.json of the main network's run."""
    run = run_of(pair.main, pair.models)
    check_run(run, 'main')
    return files.read_json(files.path(run) / 'config.json')


def open_autoencoder(pair):
    """The Autoencoder that makes images of what pair.main draws; None where it draws images.

    Errors: ValueError for points, for a file that is missing, damaged or another one, and for one
    that is not needed.
    """
    tree, run = config_of_main(pair), run_of(pair.main, pair.models)
    if (tree.get('latents') or {}).get('name') == 'points':
        raise ValueError(
            f'main.run ({run}) draws points, not images: study --config=configs/toy.py draws, '
            'scores and shows them'
        )
    needs = f'main.run ({run}) draws latents' if latents_of(tree).needs_vae else ''
    found = autoencoder.open_where_needed(pair, needs, f'main.run ({run}) draws images')
    drawn = tree['network'].get('channels')
    if found and found.latent_channels != drawn:
        raise ValueError(
            f'vae ({pair.vae}) decodes {found.latent_channels} channels; main.run ({run}) draws '
            f'{drawn}. Give the autoencoder that its data were made with'
        )
    return found


def settled(pair):
    """The pair with nimg = 0, the latest snapshot, replaced by what that is now.

    Errors: ValueError with all that is wrong with any of its networks.
    """
    moments, faults = {}, []
    for role, ref in pair.refs().items():
        try:
            moments[role] = assess(ref, role, pair.models).nimg
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError('; '.join(faults))
    refs = {role: dataclasses.replace(ref, nimg=moments[role]) for role, ref in pair.refs().items()}
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
    networks = {}
    for role, ref in pair.refs().items():
        report = assess(ref, role, pair.models)
        tree = files.read_json(files.path(run_of(ref, pair.models)) / 'config.json')
        network = [tree.get(part) for part in ('network', 'denoiser', 'latents')]
        networks[role] = {
            'sources': report.sources_hash,
            'std': ref.std,
            'nimg': report.nimg,
            'network': files.content_hash(network),
        }
        if ref.degrade:
            networks[role]['degrade'] = config.resolved(ref.degrade)
    guidance = {role: dataclasses.asdict(rule) for role, _, rule in pair.rules()}
    return {'networks': networks, 'guidance': guidance, 'rule': pair.guidance.rule}


def setting_row(pair):
    """The pair as the row of a table."""
    used = lambda ref: config.resolved(ref) if ref.run else None
    rule = pair.guidance
    row = {'main': used(pair.main), 'guide': used(pair.guide), 'uncond': used(pair.uncond)}
    row.update(weight=rule.weight, interval=list(rule.interval), alpha=rule.alpha)
    return files.plain(row)
