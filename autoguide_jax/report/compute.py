"""Scores at equal computation: distance against FLOPs per image, and the table at equal FLOPs."""

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from autoguide_jax.report import spent, style
from autoguide_jax.report.drawing import WIDE, label_ends, limits, new, plain_number, score_axis
from autoguide_jax.report.sheet import esc
from autoguide_jax.report.stats import METRICS, marks, paired
from autoguide_jax.report.tables import DASH, ends_of, name_of, table
from autoguide_jax.report.words import decoder, mean_and_spread, times


def gflop(value):
    """Return FLOPs as a short text: '0.232 GFLOP', '12.1 TFLOP'."""
    for factor, unit in ((1e15, 'PFLOP'), (1e12, 'TFLOP'), (1e9, 'GFLOP')):
        if value >= factor:
            return f'{value / factor:.3g} {unit}'
    return f'{value / 1e6:.3g} MFLOP'


def steps(study, look):
    """Distance against FLOPs per image, a curve per arm over numbers of sampler steps."""
    curves = {arm: spent.measured(study, arm) for arm in study.arms}
    curves = {arm: points for arm, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    figure, axes = new(WIDE, 4.4)
    panel, colours, shapes = axes[0, 0], style.colours(study, look), style.markers(study)
    ends, values = [], []
    for arm, points in curves.items():
        x, stats = [cost for cost, _ in points], [spent.stat(blocks) for _, blocks in points]
        means, halves = [s.mean for s in stats], [s.half or 0.0 for s in stats]
        low = [m - h for m, h in zip(means, halves)]
        high = [m + h for m, h in zip(means, halves)]
        panel.fill_between(x, low, high, color=colours[arm], alpha=0.13, linewidth=0, zorder=2)
        panel.plot(x, means, color=colours[arm], marker=shapes[arm], markersize=6, zorder=3)
        ends.append((study.title(arm), colours[arm], means[-1]))
        values += means
    for target in spent.targets(study).values():
        panel.axvline(target, color=look.muted, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
    score_axis(panel.yaxis, *limits(min(values), max(values), 1.2, 1.15))
    flops_axis(panel)
    panel.set(xlabel='FLOPs of sampling per image', ylabel=study.metric_title)
    figure.get_layout_engine().set(rect=(0, 0, 0.79, 1))
    label_ends(panel, ends)
    return figure


def flops_axis(panel):
    """Scale the x axis of a panel for FLOPs: logarithmic, with units."""
    panel.set_xscale('log')
    low, high = panel.get_xlim()
    # A logarithmic locator within one decade would crowd its labels.
    wide = LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,))
    panel.xaxis.set_major_locator(wide if high / low > 10 else MaxNLocator(4))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: gflop(value)))
    panel.xaxis.set_minor_formatter(NullFormatter())


def section(study, drawn):
    """The part of the page: figure and table; '' for a study of one number of steps.

    drawn: HTML of the figure.
    """
    costs = spent.targets(study)
    columns = {title: _at(study, cost) for title, cost in costs.items()}
    if not drawn or not any(any(column.values()) for column in columns.values()):
        return ''
    heads = ''.join(
        f'<th>{esc(study.metric_title)} at {esc(title)}<br>{gflop(costs[title])} per image</th>'
        for title in columns
    )
    marked = {title: _marks(column) for title, column in columns.items()}
    places = study.places()
    body = []
    for arm in study.arms:
        cells = ''.join(
            _cell(spent.stat(column[arm]), places, marked[title].get(arm, ''))
            for title, column in columns.items()
        )
        price = spent.training(study, arm)
        cells += DASH if price is None else f'<td>{times(price)}</td>'
        body.append(f'<tr data-arm="{esc(arm)}">{name_of(study, arm)}{cells}</tr>')
    head = f'<tr><th>Method</th>{heads}<th>training</th></tr>'
    return (
        '<p>Every method at its chosen setting, on the same fresh seeds, with several numbers of '
        'sampler steps: a method with a dearer image may take fewer steps.</p>'
        f'{drawn}<h3>At equal computation</h3>{table(head, body)}<p class="note key"><b>best</b> '
        'mean of its column<i>tie</i> the interval of its difference to the best holds 0. '
        'Between two measured numbers of steps scores are interpolated, linearly in log FLOPs and '
        'block by block; there is no extrapolation: a dash. '
        f'{training_note(study)} Settings were searched at {esc(_default(study))} steps and kept '
        'for the others.</p>'
    )


def training_note(study):
    """How training is counted, and what no FLOPs count."""
    return (
        'Training: FLOPs of all networks that a method uses, relative to the training of the run '
        f'{esc(str(spent.yardstick(study)))}: images seen × 3 × the forward pass, which XLA counts '
        'before optimisation. A run that several methods share counts in each; an early snapshot '
        f'of the main network costs nothing more.{decoder(study.meta)}'
    )


def _default(study):
    steps = (study.meta.get('sampler') or {}).get('num_steps')
    return 'the sampler’s own' if steps is None else plain_number(steps)


def _at(study, cost):
    return {arm: spent.at(spent.measured(study, arm), cost) for arm in study.arms}


def _marks(column):
    stats = {arm: spent.stat(blocks) for arm, blocks in column.items()}
    apart = lambda arm, other: paired(column[arm], column[other])
    return marks(METRICS['frechet'], stats, apart)  # every distance is better if lower


def _cell(stat, places, mark):
    if stat is None:
        return DASH
    mean, spread = mean_and_spread(stat, places)
    ends, shown = ends_of(stat, places)
    spread = f' <small>± {spread}</small>' if spread else ''
    return f'<td class="two {mark}" data-mean="{stat.mean!r}"{ends}>{mean}{spread}{shown}</td>'


def missing(study):
    """What of the scores at other numbers of steps is not there yet, as short sentences."""
    settings = study.meta.get('settings') or {}
    asked = (settings.get('extra') or {}).get('steps') or []
    wanted = set(asked) - {(study.meta.get('sampler') or {}).get('num_steps')}
    lacking = sorted(wanted - {row.get('steps') for row in study.of('steps')})
    texts = ', '.join(map(str, lacking))
    return [f'the scores with {texts} sampler steps'] if lacking else []
