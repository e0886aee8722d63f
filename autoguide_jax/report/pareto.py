"""Which methods no other one beats in both of two things, and how sure that is.

An arm is dominated if another is at least as good in both, and better in one, by its means. That is
beyond the error bars if the paired intervals of what is better exclude 0; FLOPs have no error.
"""

from autoguide_jax.report import compute, spent, style
from autoguide_jax.report.drawing import WIDE, bar, half, label_points, new
from autoguide_jax.report.sheet import esc
from autoguide_jax.report.stats import METRICS
from autoguide_jax.report.tables import name_of, table

PALE = 0.35
WRAPPED = 'style="white-space:normal;text-align:left"'


def dominators(points, arm):
    """Return the arms that dominate one. points: arm → numbers of which lower is better."""
    mine = points[arm]
    return [
        other
        for other, theirs in points.items()
        if theirs != mine and all(a <= b for a, b in zip(theirs, mine))
    ]


def front(points):
    """Return the arms that nothing dominates, by their first number."""
    found = [arm for arm in points if not dominators(points, arm)]
    return sorted(found, key=lambda arm: points[arm])


def by_cost(study):
    """Return arm → (FLOPs per image, mean distance)."""
    found = {arm: (spent.per_image(study, arm), study.stat(arm)) for arm in study.arms}
    return {arm: (cost, stat.mean) for arm, (cost, stat) in found.items() if cost and stat}


def by_recall(study):
    """Return arm → (−mean recall, mean distance): lower is better in both."""
    found = {arm: (study.stat(arm, 'recall'), study.stat(arm)) for arm in study.arms}
    return {a: (-recall.mean, stat.mean) for a, (recall, stat) in found.items() if recall and stat}


def pareto(study, look):
    """Distance against FLOPs of sampling and against recall; what is not dominated, connected."""
    panels = [points for points in (by_cost(study), by_recall(study)) if len(points) > 1]
    if not panels:
        return None
    figure, axes = new(WIDE if len(panels) > 1 else WIDE / 2, 4.4, ncols=len(panels))
    for panel, points in zip(axes.flat, panels):
        costs = min(x for x, _ in points.values()) > 0
        _panel(panel, study, look, points, costs)
        panel.set_ylabel(f'{study.metric_title}, lower is better')
        recall = f'{METRICS["recall"].title} → variation'
        panel.set_xlabel('FLOPs of sampling per image' if costs else recall)
    return figure


def _panel(panel, study, look, points, costs):
    colours, shapes = style.colours(study, look), style.markers(study)
    best, named = front(points), []
    at = lambda arm: points[arm][0] if costs else study.stat(arm, 'recall')
    if costs:
        compute.flops_axis(panel)
    for arm in points:
        pale = {} if arm in best else {'alpha': PALE}
        bar(panel, at(arm), study.stat(arm), colours[arm], shapes[arm], reach=half, **pale)
        ink = colours[arm] if arm in best else look.muted
        named.append((study.title(arm), ink, at(arm), study.stat(arm)))
    x = [abs(points[arm][0]) for arm in best]
    line = {'color': look.muted, 'linewidth': 1.3, 'zorder': 1.5}
    panel.plot(x, [points[arm][1] for arm in best], **line)
    panel.margins(0.16, 0.12)
    if costs:
        compute.flops_axis(panel)
    label_points(panel, named, reach=half)


def verdicts(study):
    """Return arm → [what is said of it by computation, by recall], None where nothing is known."""
    cost, recall = by_cost(study), by_recall(study)
    return {
        arm: [_verdict(study, cost, arm, None), _verdict(study, recall, arm, 'recall')]
        for arm in study.arms
        if arm in cost or arm in recall
    }


def _verdict(study, points, arm, key):
    """key: the metric behind the first number of the points, None = FLOPs."""
    if arm not in points or len(points) < 2:
        return None
    others = dominators(points, arm)
    if not others:
        return _on_the_front(study, points, arm)
    keys = key, study.distance
    better = lambda other: [k for k, a, b in zip(keys, points[other], points[arm]) if a < b]
    sure = [other for other in others if _beyond(study, arm, other, better(other))]
    # The best of those that are sure, or of all.
    other = min(sure or others, key=lambda name: points[name][1])
    how = 'beyond the error bars' if sure else 'within the error bars'
    return f'dominated by {study.title(other)}, {how}'


def _beyond(study, arm, other, keys):
    apart = [study.difference(arm, other, key) for key in keys if key]
    return all(stat is not None and stat.excludes_zero for stat in apart)


def _on_the_front(study, points, arm):
    """Say whose distance an arm may not lead, of those as good in the other: the lowest of them."""
    rivals = [a for a in points if a != arm and points[a][0] <= points[arm][0]]
    unsure = [a for a in rivals if not _beyond(study, arm, a, [study.distance])]
    if not unsure:
        return 'not dominated'
    rival = min(unsure, key=lambda name: points[name][1])
    return f'not dominated, but its lead over {study.title(rival)} is within the error bars'


def section(study):
    """The table of what dominates what, '' as long as no two arms can be compared."""
    found = verdicts(study)
    if not any(any(said) for said in found.values()):
        return ''
    body = []
    for arm, said in found.items():
        cells = ''.join(f'<td class="text" {WRAPPED}>{esc(text or "–")}</td>' for text in said)
        body.append(f'<tr data-arm="{esc(arm)}">{name_of(study, arm)}{cells}</tr>')
    title = esc(study.metric_title)
    head = (
        f'<tr><th>Method</th><th {WRAPPED}>{title} and computation of sampling</th>'
        f'<th {WRAPPED}>{title} and recall</th></tr>'
    )
    return f'<h3>What dominates what</h3>{table(head, body)}'
