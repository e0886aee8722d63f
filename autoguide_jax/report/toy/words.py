"""The sentences that the numbers of the 2-D example write."""

from autoguide_jax.report.drawing import plain_number
from autoguide_jax.report.toy import findings
from autoguide_jax.report.toy.trade import interval_text
from autoguide_jax.report.words import MINUS

QUESTION = (
    'Guide a small score network of a 2-D distribution, whose true score is known, by a worse '
    'version of itself: how many outliers go, how much of the distribution is lost, and why?'
)


def percent(stat):
    """'11.5 ± 0.4 %', or '11.5 %' for a single seed."""
    spread = '' if stat.sd is None else f'\u00a0±\u00a0{100 * stat.sd:.1f}'
    return f'{100 * stat.mean:.1f}{spread}\u00a0%'


def answer(study):
    """The answer as a list of sentences; what is not measured is not mentioned."""
    if study.stat(study.unguided, 'outliers_1') is None:
        return ['No answer yet: the main network alone has not been scored.']
    return [text for text in (_start(study), *_arms(study), _target(study)) if text]


def reasons(study):
    """What corrupted networks and the trial of guides say of why, as sentences."""
    return [text for text in (_prediction(study), _guides(study), _alignment(study)) if text]


def _start(study):
    own, exact = (study.stat(arm, 'outliers_1') for arm in (study.unguided, 'exact'))
    covered = study.stat(study.unguided, 'coverage')
    head = f'Mean ± sd over {own.n} training seeds'
    head = 'With one training seed, so without error bars' if own.n == 1 else head
    floor = f' (with the exact score {percent(exact)})' if exact else ''
    rest = f' and {percent(covered)} of the mass is covered' if covered else ''
    return f'{head}: of the unguided samples {percent(own)} are outliers{floor}{rest}.'


def _arms(study):
    """One sentence per way of guiding, for its weight with the fewest outliers."""
    base = study.stat(study.unguided, 'outliers_1')
    for start in ('autoguidance', 'cfg'):
        tried = {arm: study.stat(arm, 'outliers_1') for arm in study.arms if arm.startswith(start)}
        tried = {arm: stat for arm, stat in tried.items() if stat}
        if not tried:
            continue
        arm = min(tried, key=lambda a: tried[a].mean)
        covered, verdict = study.stat(arm, 'coverage'), _apart(tried[arm], base)
        change = f'{change_text(tried[arm].mean, base.mean)}'
        if verdict is not None:
            change += ', beyond the error bars' if verdict else ', within the error bars'
        which = f' has the fewest outliers of its {len(tried)} weights,' * (len(tried) > 1)
        text = f'{study.title(arm)}{which or ":"} {percent(tried[arm])} ({change})'
        yield f'{text}, with {percent(covered)} covered.' if covered else f'{text}.'


def _apart(a, b):
    """Whether the error bars do not touch, |mean_a − mean_b| > sd_a + sd_b; None without bars."""
    if a.sd is None or b.sd is None:
        return None
    return abs(a.mean - b.mean) > a.sd + b.sd


def change_text(new, old):
    """A relative change in percent, with a true minus sign."""
    return f'{100 * (new / old - 1):+.0f}\u00a0%'.replace('-', MINUS)


def _target(study):
    """How many settings reach the target zone."""
    points, corner = findings.trade(study), findings.target(study)
    if not points or not corner:
        return ''
    inside = [p for p in points if p.outliers.mean <= corner[0] and p.kl.mean <= corner[1]]
    text = (
        f'Of {len(points)} guided settings over families, weights and noise levels, '
        f'{len(inside) or "none"} at least halve{"s" * (len(inside) < 2)} the outliers with at '
        'most 1.5 times the unguided branch KL'
    )
    near = [p for p in points if p.kl.mean <= corner[1]]
    if inside or not near:
        best = min(inside or points, key=lambda p: p.outliers.mean)
        head = 'the best of these' if inside else 'the fewest outliers of all'
    else:
        best, head = min(near, key=lambda p: p.outliers.mean), 'the fewest outliers at that KL'
    where = f'{study.title(best.family)}, w = {plain_number(best.weight)}'
    return f'{text}; {head}: {percent(best.outliers)} ({where}, {interval_text(best.interval)}).'


def _prediction(study):
    """In which corrupted pairs guidance helps, and whether at the predicted weight."""
    pairs = [p for p in findings.corrupted(study) if not p.control and p.best and p.cosine]
    if not pairs:
        return ''
    helped = [p for p in pairs if findings.best_weight(p) > 1]
    rest = [p for p in pairs if p not in helped]
    text = f'Guidance undoes part of a known corruption in {len(helped)} of {len(pairs)} pairs'
    if helped:
        listed = '; '.join(
            f'{p.title}: best w {_plain(p.best)}, predicted {_plain(p.predicted)}, shift '
            f'{change_text(p.at_best.mean, p.at_one.mean)}, cosine {_plain(p.cosine)}'
            for p in helped
            if p.at_one and p.at_one.mean > 0
        )
        text += f' ({listed})'
    if rest:
        cosines = ' and '.join(_plain(p.cosine) for p in rest)
        text += f'; in the other {len(rest)}, with cosine {cosines}, no weight above 1 helps'
    return f'{text}.'


def _plain(stat):
    return 'none' if stat is None else f'{stat.mean:.2f}'.replace('-', MINUS)


def _guides(study):
    """The guide with the fewest outliers."""
    found = [g for g in findings.guides(study) if g.relative]
    if not found:
        return ''
    best = min(found, key=lambda g: g.relative.mean)
    text = (
        f'Of {len(found)} guides the one that leaves the fewest outliers is {best.run} after '
        f'{study.iterations(best.nimg):g} iterations (EMA {best.std:g}, w = '
        f'{plain_number(best.weight)}): {100 * best.relative.mean:.0f}\u00a0% of the unguided ones'
    )
    return f'{text}, with {percent(best.coverage)} covered.' if best.coverage else f'{text}.'


def _alignment(study):
    """How well the errors of the guide in the close-up are aligned, and where."""
    key = findings.paper_guide(study)
    means = {}
    for where in ('outliers', 'rest'):
        if key and (found := findings.along(study, key, where, 'cosine')):
            sigma, mean, _ = found
            chosen = mean[(sigma > findings.LOW) & (sigma < findings.HIGH)]
            means[where] = chosen.mean() if len(chosen) else None
    if len(means) < 2 or None in means.values():
        return ''
    run, nimg, _ = key
    return (
        f'On paths that end as outliers the errors of main network and guide ({run}, '
        f'{study.iterations(nimg):g} iterations) have a mean cosine of {means["outliers"]:.2f} '
        f'for σ in ({findings.LOW:g}, {findings.HIGH:g}), on the other paths '
        f'{means["rest"]:.2f}.'
    ).replace('-', MINUS)
