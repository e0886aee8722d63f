"""Which networks are tried as guides: runs × moments × EMA lengths, without the impossible ones."""

import dataclasses
import os

from autoguide_jax import files, snapshots, values
from autoguide_jax.guides.settings import EXACT
from autoguide_jax.refs import NetworkRef, assess, check_pair, check_run, described

ALL, SIGNS = 'all', '*?['


@dataclasses.dataclass(frozen=True)
class Cast:
    """main, reference (None: the truth) and candidates as NetworkRefs; left_out: lines that say
    what was not tried and why.
    """

    main: NetworkRef
    reference: NetworkRef | None
    candidates: tuple[NetworkRef, ...]
    left_out: tuple[str, ...]


def cast(settings):
    """The Cast of the settings; reads configs and indices alone.

    Errors: ValueError for runs that are missing or of another space, for a moment or EMA length
    that was asked for and no candidate has, for a reference that is main, for no candidate at all.
    """
    s = settings
    main = settled('main', NetworkRef(s.main, s.main_std, s.main_nimg))
    reference = None
    if s.reference != EXACT:
        reference = settled('reference', NetworkRef(s.reference, s.reference_std, s.reference_nimg))
        check_alike(main, reference, 'reference')
        if same(main, reference):
            raise ValueError(
                f'reference ({s.reference}) is the main network itself, whose errors would all be '
                '0: give a stronger one (larger, trained for longer), or one that differs in nimg'
            )
    found, lines = [], []
    for run, named in runs(s.candidates):
        try:
            check_run(run, 'candidates')
            check_alike(main, NetworkRef(run), 'candidates')
        except ValueError as error:
            if named:
                raise
            lines.append(str(error))
            continue
        found += expand(settings, run, lines)
    check_asked(settings, found)
    kept = []
    for ref in found:
        if same(ref, main) or (reference and same(ref, reference)):
            what = 'the main network' if same(ref, main) else 'the reference'
            lines.append(f'{label(ref)} is {what} itself')
        elif not any(same(ref, other) for other in kept):
            kept.append(ref)
    if not kept:
        why = f': {"; ".join(lines)}' if lines else ''
        raise ValueError(f'candidates ({", ".join(s.candidates)}): there is none{why}')
    return Cast(main, reference, tuple(kept), tuple(lines))


def runs(patterns):
    """(run directory, whether it was named rather than found) of paths and patterns, each once."""
    found = {}
    for pattern in patterns:
        if not any(sign in pattern for sign in SIGNS):
            found[pattern.rstrip('/')] = True
            continue
        matches = [p for p in matching(pattern) if (files.path(p) / 'config.json').exists()]
        if not matches:
            raise ValueError(f'candidates ({pattern}): no run directory has such a name')
        for match in matches:
            found.setdefault(match, False)
    return list(found.items())


def matching(pattern):
    """Sorted paths, local or in a bucket, that a pattern names."""
    parts = pattern.rstrip('/').split('/')
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in SIGNS))
    base = '/'.join(parts[:first]) or ('/' if pattern.startswith('/') else '.')
    return sorted(str(path) for path in files.path(base).glob('/'.join(parts[first:])))


def expand(settings, run, lines):
    """The NetworkRefs of a candidate run that exist; adds a line for each that does not."""
    known = snapshots.list_snapshots(run)
    moments = sorted({snapshot.nimg for snapshot in known})
    if not moments:
        lines.append(f'{run} has no snapshots')
        return
    for nimg in chosen(settings, moments):
        if nimg not in moments:
            lines.append(f'{run} has no snapshot at nimg {nimg}')
            continue
        for std in settings.std or sorted({s.std for s in known if s.nimg == nimg}):
            ref = NetworkRef(run, std, nimg)
            try:
                assess(ref, 'candidates')
            except ValueError as error:
                lines.append(str(error))
                continue
            yield ref


def chosen(settings, moments):
    """The moments of a run that are tried: all, those asked for, or by halves from its last."""
    if settings.nimg == (ALL,):
        return moments
    if settings.nimg:
        return wanted(settings)
    halves = [moments[-1] / 2**k for k in range(settings.snapshots)]
    nearest = {min(moments, key=lambda m: abs(m - half)) for half in halves}
    return sorted(nearest)


def wanted(settings):
    """The moments that were asked for, int."""
    try:
        return [values.coerce(int, text) for text in settings.nimg]
    except ValueError as error:
        raise ValueError(f'nimg: {error}; give numbers of images, or all') from None


def check_asked(settings, found):
    """Refuse a moment or an EMA length that was asked for and that no candidate has."""
    asked = [('std', std) for std in settings.std]
    if settings.nimg and settings.nimg != (ALL,):
        asked += [('nimg', nimg) for nimg in wanted(settings)]
    for name, value in asked:
        if not any(getattr(ref, name) == value for ref in found):
            raise ValueError(
                f'{name} ({value}): no candidate has it; `{name}` empty = what the runs have'
            )


def settled(role, ref):
    """The NetworkRef with its moment as a number. Errors: ValueError naming the setting."""
    return dataclasses.replace(ref, nimg=assess(ref, role).nimg)


def check_alike(main, other, role):
    """Refuse a network of another space or task than main's."""
    try:
        check_pair(described(main.run), described(other.run), 'guide')
    except ValueError as error:
        raise ValueError(f'{role}: {error}'.replace('guide.run ', '')) from None


def same(a, b):
    """Whether two NetworkRefs with moments name one network."""
    return same_run(a, b) and (a.nimg, a.std) == (b.nimg, b.std)


def same_run(a, b):
    """Whether two NetworkRefs name one run directory."""
    place = lambda ref: os.path.normpath(str(files.path(ref.run)))
    return place(a) == place(b)


def label(ref):
    """'runs/a, nimg 1048576, std 0.1'."""
    return f'{ref.run}, nimg {ref.nimg}, std {ref.std:g}'


def identity(ref):
    """What decides the outputs of a network, as JSON; None for the truth."""
    if ref is None:
        return EXACT
    tree = described(ref.run).config
    parts = [tree.get(part) for part in ('network', 'denoiser', 'latents')]
    return [assess(ref, 'network').sources_hash, ref.std, files.content_hash(parts)]
