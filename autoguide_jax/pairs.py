"""Which networks, how combined: the settings of a guided denoiser, and the networks they name.

D = D_m + Σ_i (w_i(σ) − 1)·(D_m − D_i),  i ∈ {guide, uncond}           arXiv 2406.02507, Eq. 6
"""

import dataclasses
import itertools
from dataclasses import dataclass, field

import jax

from autoguide_jax import autoencoder, config, files, snapshots
from autoguide_jax.generation import Call, latents_of
from autoguide_jax.guidance import split_total
from autoguide_jax.guidance_settings import EVERYWHERE, GuidanceSettings
from autoguide_jax.refs import (
    NetworkRef,
    assess,
    assess_many,
    check_pair,
    check_run,
    described,
    run_of,
)


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
        if rule.schedule_sigma and not (self.guide.run or self.uncond.run):
            raise ValueError(
                f'guidance.schedule_sigma ({rule.schedule_sigma}) needs guide.run or uncond.run'
            )
        if rule.uncond_interval != EVERYWHERE and not self.uncond.run:
            raise ValueError(
                f'guidance.uncond_interval ({rule.uncond_interval}) needs uncond.run; the interval '
                'of the guide is guidance.interval'
            )
        if not self.guide.run and EVERYWHERE not in (rule.interval, rule.uncond_interval):
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
        found = [
            ('guide', self.guide, rule.make(w_c, rule.interval)),
            ('uncond', self.uncond, rule.make(w_u, rule.uncond_interval)),
        ]
        if self.uncond.run and not self.guide.run and rule.uncond_interval == EVERYWHERE:
            found[1] = ('uncond', self.uncond, rule.make(w_u, rule.interval))
        used = [item for item in found if item[1].run]
        if len(used) > 1 and not hasattr(rule.component(), 'combine'):
            raise ValueError(f'guidance.rule ({rule.rule}) takes one guide; give guide or uncond')
        return used

    def refs(self):
        """{role: NetworkRef} of main and the guides that are used."""
        return {'main': self.main, **{role: ref for role, ref, _ in self.rules()}}


class Networks:
    """Loads each (run, std, nimg) once, while they fit: a sweep asks for the same ones again.

    max_bytes: host memory for networks that are kept; the one asked for last always is. While a
    run's snapshots are read, the sums of what is new take as much once more.
    """

    def __init__(self, max_bytes=2**31):
        self.max_bytes, self.loaded, self.wanted, self.sizes = max_bytes, {}, [], {}

    def prepare(self, refs, models=''):
        """Load NetworkRefs that will be asked for, in this order: a run's snapshots once for all.

        What is held and not among them makes room. What does not fit max_bytes is loaded later:
        when `get` misses one, those that follow it in this list come from the same reading.
        Errors: ValueError with all that is wrong with any of them.
        """
        refs = list({(run_of(ref, models), ref.std, ref.nimg): ref for ref in refs}.values())
        reports = assess_many([('network', ref) for ref in refs], models)
        keys = [(run_of(ref, models), ref.std, r.nimg) for ref, r in zip(refs, reports)]
        self.wanted = list(dict.fromkeys(keys))
        held = sum(size(network) for k, network in self.loaded.items() if k in self.wanted)
        missing = [key for key in self.wanted if key not in self.loaded]
        missing = self.fitting(missing, self.max_bytes - held)
        self.shrink(self.max_bytes - sum(map(self.bytes, missing)), keep=self.wanted)
        self.load(missing)

    def get(self, ref, role='main', models='', beside=()):
        """The network of a NetworkRef, on the host; role says whose it is in errors.

        beside: NetworkRefs that are used with it, which what is loaded ahead must not push out.
        """
        key = self.key(ref, role, models)
        if key not in self.loaded:
            assess(ref, role, models)
            self.load(self.ahead(key, [self.key(r, role, models) for r in beside]))
        self.loaded[key] = self.loaded.pop(key)
        self.shrink(self.max_bytes, keep=[key])
        return self.loaded[key]

    def key(self, ref, role, models):
        """(run, std, nimg) with the latest moment settled."""
        return run_of(ref, models), ref.std, ref.nimg or assess(ref, role, models).nimg

    def ahead(self, key, beside):
        """What to read with a network that is missing; makes room for it."""
        here = self.wanted.index(key) if key in self.wanted else len(self.wanted)
        rest = [k for k in self.wanted[here + 1 :] if k[0] == key[0] and k not in self.loaded]
        kept = sum(size(self.loaded[k]) for k in beside if k in self.loaded)
        own = self.bytes(key)
        rest = self.fitting(rest, self.max_bytes - kept - own)
        self.shrink(self.max_bytes - own - sum(map(self.bytes, rest)), keep=beside)
        return [key, *rest]

    def fitting(self, keys, room):
        """The first of these keys whose networks fit in `room` bytes together."""
        sizes = itertools.accumulate(map(self.bytes, keys))
        return [key for key, total in zip(keys, sizes) if total <= room]

    def bytes(self, key):
        """Bytes of the network (run, std, nimg) on the host; one run's are all alike."""
        if key[0] not in self.sizes:
            self.sizes[key[0]] = snapshots.held_bytes(key[0])
        return self.sizes[key[0]]

    def shrink(self, room, keep):
        """Let those go that were asked for longest ago, until the rest fits in `room` bytes."""
        for key in [k for k in self.loaded if k not in keep]:
            if sum(map(size, self.loaded.values())) > room:
                self.loaded.pop(key)

    def load(self, keys):
        """Load (run, std, nimg)s, run by run, each run's snapshots read once."""
        for run in dict.fromkeys(run for run, _, _ in keys):
            targets = [key[1:] for key in keys if key[0] == run]
            found = snapshots.load_networks(run, targets, place=lambda variables: variables)
            for target, network in zip(targets, found):
                self.loaded[run, *target] = network

    def check(self, *pairs):
        """Refuse what cannot be loaded, reconstructed or combined, before any device work.

        Errors: one ValueError with all that is wrong with any network of any of these pairs, or
        else with what keeps a guide from its main network.
        """
        errors = []
        for models in dict.fromkeys(pair.models for pair in pairs):
            named = [n for p in pairs if p.models == models for n in p.refs().items()]
            once = {(role, ref.run, ref.std, ref.nimg): (role, ref) for role, ref in named}
            try:
                assess_many(once.values(), models)
            except ValueError as error:
                errors.append(error)
        snapshots.refuse_all(errors)
        used = [(p, role, ref) for p in pairs for role, ref in p.refs().items() if role != 'main']
        runs = [(run_of(p.main, p.models), run_of(ref, p.models), role) for p, role, ref in used]
        for main, guide, role in dict.fromkeys(runs):
            check_pair(described(main), described(guide), role)

    def calls(self, pair):
        """([Call of main and guides], [Guidance of the guides]) of a Pair, checked."""
        harm = lambda ref: ref.degrade and config.build(ref.degrade)
        used = list(pair.refs().values())
        main = self.get(pair.main, 'main', pair.models, used)
        calls, rules = [Call(main, degrade=harm(pair.main))], []
        for role, ref, rule in pair.rules():
            network = self.get(ref, role, pair.models, used)
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
    reports = dict(zip(pair.refs(), assess_many(pair.refs().items(), pair.models)))
    refs = {r: dataclasses.replace(ref, nimg=reports[r].nimg) for r, ref in pair.refs().items()}
    return dataclasses.replace(pair, **refs)


def size(network):
    """Bytes of a network's variables."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(network.variables))


def acting(pair):
    """The pair without the guides, if its weight is 1 and none of them acts."""
    if pair.guidance.weight != 1:
        return pair
    none = {'guide': NetworkRef(), 'uncond': NetworkRef(), 'guidance': GuidanceSettings()}
    return dataclasses.replace(pair, **none)


def identity(pair, told=None):
    """What decides the numbers of a pair: the weights' sources, EMA lengths and guidance rule.

    told: what tells networks apart, in place of network_identity, which reads their folders.
    """
    told = told or network_identity
    networks = {role: told(ref, role, pair.models) for role, ref in pair.refs().items()}
    guidance = {role: dataclasses.asdict(rule) for role, _, rule in pair.rules()}
    return {'networks': networks, 'guidance': guidance, 'rule': pair.guidance.rule}


def network_identity(ref, role, models=''):
    """What decides the numbers of a network, wherever its run lies."""
    report = assess(ref, role, models)
    tree = described(run_of(ref, models)).config
    network = [tree.get(part) for part in ('network', 'denoiser', 'latents')]
    return {
        'sources': report.sources_hash,
        'std': ref.std,
        'nimg': report.nimg,
        'network': files.content_hash(network),
        **({'degrade': config.resolved(ref.degrade)} if ref.degrade else {}),
    }


def setting_row(pair):
    """The pair as the row of a table."""
    used = lambda ref: config.resolved(ref) if ref.run else None
    row = {'main': used(pair.main), 'guide': used(pair.guide), 'uncond': used(pair.uncond)}
    return files.plain(row | pair.guidance.row())
