"""The points of a sweep: the lists of `sweep`, crossed with what the config file declares.

A config file may define functions beside get_config:

    def sweep():            # the default
        for run, nimg in (('runs/xs', 2**27), ('runs/xs', 2**28), ('runs/xxs', 2**28)):
            yield {'guide.run': run, 'guide.nimg': nimg}

    def sweep_ema():        # another one, by name: --config.cross=sweep,ema
        for std in (0.05, 0.10, 0.15):
            yield {'main.std': std, 'guide.std': std}

Each yields settings that belong together; several, and the lists of `sweep`, are crossed. What one
yields is one axis, 'sweep' or 'ema', of a search; if it is a full product it is as many axes as it
has settings, with an order and neighbours.
"""

import dataclasses
import itertools
import math
import shlex

from autoguide_jax import config, values
from autoguide_jax.refs import run_of
from autoguide_jax.search import Space
from autoguide_jax.snapshots import list_snapshots
from autoguide_jax.sweep.settings import Setting

# Axes that have a list in `sweep`, and the settings that they stand for.
DOTTED = {
    'guide_run': 'guide.run',
    'guide_nimg': 'guide.nimg',
    'main_std': 'main.std',
    'guide_std': 'guide.std',
    'uncond_std': 'uncond.std',
    'num_steps': 'sampler.num_steps',
    'alpha': 'guidance.alpha',
    'weight': 'guidance.weight',
}
ENDS = ('interval_lo', 'interval_hi')  # of guidance.interval
LISTED = {*DOTTED, *ENDS}
WORDS = ('run', 'models', 'vae', 'name')  # settings that are text, though it may be digits
ALONE = 'setting'  # the axis of a grid without axes: one point, the pair as it is


class Grid:
    """The space of a sweep, and the Setting of each of its points.

    Errors: ValueError for an axis that is given twice, or without its network, and for a declared
    setting that does not exist.
    """

    def __init__(self, settings):
        fields = [f.name for f in dataclasses.fields(Setting)]
        self.base = Setting(**{name: getattr(settings, name) for name in fields})
        self.axes, self.bundles = declared_axes(settings)
        self.known, self.parsed, self.latest = {}, {}, {}
        for name, found in dataclasses.asdict(settings.sweep).items():
            if found and name in self.axes:
                raise ValueError(f'sweep.{name} ({found}): the config file declares it as well')
            self.axes |= {name: found} if found else {}
        self.space = Space(self.axes or {ALONE: ('as given',)})
        self._check_networks()

    def _check_networks(self):
        """Refuse lists for a network that no point has."""
        for name, found in self.axes.items():
            role = name.partition('_')[0]
            if role not in ('guide', 'uncond') or name in self.bundles or name not in DOTTED:
                continue
            if not any(getattr(some, role).run for some in self.each_network()):
                raise ValueError(f'sweep.{name} ({found}) needs {role}.run')
        next(self.each_network())  # what is declared is there at all

    def at(self, point):
        """The Setting of a point, axis → value. Errors: ValueError if there is no such pair."""
        key = tuple(point.items())
        if key not in self.known:
            point = {name: value for name, value in point.items() if name != ALONE}
            plain = point.keys() <= LISTED - {'num_steps'} - self.bundles
            setting = replaced(self.base, **point) if plain else self._parsed(point)
            self.known[key] = self._settled(setting)
        return self.known[key]

    def _settled(self, setting):
        """The Setting with nimg = 0 replaced by what a run's latest snapshot was at first.

        A run that is still trained would otherwise be another one in the midst of the sweep.
        """
        refs = {}
        for role, ref in setting.refs().items():
            run = run_of(ref, setting.models)
            if run not in self.latest:
                self.latest[run] = max((s.nimg for s in list_snapshots(run)), default=0)
            refs[role] = dataclasses.replace(ref, nimg=ref.nimg or self.latest[run])
        return dataclasses.replace(setting, **refs)

    def _parsed(self, point):
        """The Setting of a point that names settings by their dotted names, or a sampler's."""
        ends = {end: point.pop(end) for end in {*ENDS} & point.keys() - self.bundles}
        overrides, told = {}, {'guidance.interval'} if ends else set()
        for name, value in point.items():
            one = DOTTED.get(name, name), values.text(value)
            found = settings_of(value) if name in self.bundles else dict([one])
            if vae := sorted(found.keys() & {'vae', 'vae_dtype'}):
                raise ValueError(f'{name}: one {vae[0]} decodes a whole sweep; set it once')
            if twice := sorted(found.keys() & (overrides.keys() | told)):
                raise ValueError(f'{name}: {twice[0]} is swept twice')
            overrides |= found
        key = tuple(overrides.items())
        if key not in self.parsed:
            tree = config.load(config.to_dict(self.base), key, Setting)
            self.parsed[key] = config.parse(Setting, tree)
            config.build(self.parsed[key].sampler)  # which refuses what it cannot be
        return replaced(self.parsed[key], **ends)

    def each_network(self):
        """Settings in which all that can be refused is at least once, one by one.

        The runs, snapshots and EMA lengths of one role are crossed, and so are the two ends of the
        interval, and what has no list in `sweep` with all of these; the other axes stay.
        """
        kind = lambda name: name.partition('_')[0] if name in LISTED - self.bundles else ''
        for group in dict.fromkeys(map(kind, self.space.axes)):
            sizes = [
                n if kind(axis) in (group, '') else 1
                for axis, n in zip(self.space.axes, self.space.shape)
            ]
            for place in itertools.product(*map(range, sizes)):
                yield self.at(self.space.point(place))

    def points(self):
        """(point, Setting) of the whole grid, in order."""
        return [(point, self.at(point)) for point in self.space.points()]


def replaced(pair, interval_lo=None, interval_hi=None, weight=None, alpha=None, **networks):
    """The pair with some settings replaced: main_std, guide_run, guide_nimg, uncond_std, …"""
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


def located(setting):
    """The NetworkRefs of a Setting, whose folder of models may be swept, with whole paths."""
    return [
        dataclasses.replace(ref, run=run_of(ref, setting.models)) for ref in setting.refs().values()
    ]


def declared_axes(settings):
    """What the config file declares, as far as it is crossed: (axis → values, names of bundles).

    The values of a bundle are texts of several settings; those of the other axes are of one.
    """
    names = settings.cross or [n for n in settings.declared if n == 'sweep'] or settings.declared
    axes, bundles = {}, set()
    for name in names:
        found = product_axes(settings.declared[name])
        bundles |= set() if found else {name}
        for axis, known in (found or {name: settings.declared[name]}).items():
            if axis in axes:
                raise ValueError(f'cross ({name}): another declares {axis} as well')
            axes[axis] = known
    return axes, bundles


def product_axes(variants):
    """Axis → values, if the variants are every combination of the values of each of their settings.

    None if they are not.
    """
    told = [settings_of(variant) for variant in variants]
    names = list(told[0])
    if any(list(one) != names for one in told):
        return None
    axes = {name: list(dict.fromkeys(one[name] for one in told)) for name in names}
    combined = {tuple(one.values()) for one in told}
    if len(combined) != len(told) or math.prod(map(len, axes.values())) != len(told):
        return None
    short = {dotted: axis for axis, dotted in DOTTED.items()}
    return {short.get(name, name): values_of(name, found) for name, found in axes.items()}


def values_of(name, texts):
    """The values of a declared axis: numbers, which have an order, where all of them are."""
    kind = int if name.endswith(('.nimg', '.num_steps')) else float
    if name.rpartition('.')[2] in WORDS:
        return tuple(texts)
    try:
        return tuple(values.coerce(kind, text) for text in texts)
    except ValueError:
        return tuple(texts)


def settings_of(variant):
    """{dotted name: text} of 'name=value name=value'. Errors: ValueError for anything else."""
    pairs = [word.partition('=') for word in shlex.split(variant)]
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f'declared: {variant!r} must look like "guide.run=runs/a guide.nimg=8Mi"')
    return {DOTTED.get(name, name): text for name, _, text in pairs}
