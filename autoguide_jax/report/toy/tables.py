"""The tables of the page: arms, corrupted pairs, controls, guides; and rows for a terminal."""

from typing import NamedTuple

from autoguide_jax.report import style
from autoguide_jax.report.drawing import plain_number
from autoguide_jax.report.sheet import esc
from autoguide_jax.report.tables import DASH, table
from autoguide_jax.report.toy import findings, reference
from autoguide_jax.report.toy.drawing import colours
from autoguide_jax.report.words import mean_and_spread, text_of

# In a terminal there is no room for all.
WITH_SPREAD = ('outliers_1', 'coverage', 'kl')


class Metric(NamedTuple):
    """One column of the main table; meaning as in the head of metrics/points.py."""

    title: str
    arrow: str
    places: int
    meaning: str


METRICS = {
    'outliers_0.1': Metric(
        'Outliers 0.1\u00a0%',
        '↓',
        4,
        'share of points less likely than the least likely 0.1 % of the truth',
    ),
    'outliers_1': Metric(
        'Outliers 1\u00a0%',
        '↓',
        4,
        'share of points less likely than the least likely 1 % of the truth',
    ),
    'far': Metric('Far', '↓', 4, 'share of points with log p below −20'),
    'clipped': Metric(
        'Clipped log p',
        '→\u00a0exact',
        3,
        'mean of max(log p, −20); above the value of the exact score means that points crowd '
        'where the truth is thickest',
    ),
    'coverage': Metric(
        'Coverage',
        '↑',
        3,
        'share of the mass in branches that get at least half of their expected points',
    ),
    'kl': Metric(
        'Branch KL',
        '↓',
        4,
        'Kullback–Leibler divergence of the points per branch from the truth: 0 if every branch '
        'gets its share',
    ),
    'empty': Metric('Empty branches', '↓', 1, 'branches without any point'),
    'sliced_w1': Metric(
        'Sliced W1', '↓', 4, 'mean 1-D Wasserstein distance to the truth over 256 directions'
    ),
    'energy': Metric('Energy', '↓', 5, 'energy distance to the truth'),
}


def arms(study):
    """Every arm × metric, mean ± sd over training seeds, the reference's value beneath."""
    heads = ''.join(
        f'<th title="{esc(m.meaning)}">{esc(m.title)}\u00a0{m.arrow}</th>' for m in METRICS.values()
    )
    body = []
    for i, (arm, about) in enumerate(study.arms.items()):
        cells = ''.join(_cell(study.stat(arm, key), m.places) for key, m in METRICS.items())
        dot = f'<span class="dot" style="background:var(--c{i})"></span>'
        small = f'<small>{esc(about.get("description") or "")}</small>'
        body.append(
            f'<tr data-arm="{esc(arm)}"><th scope="row">{dot}{esc(study.title(arm))}{small}</th>'
            f'{cells}</tr>'
        )
        if scores := reference.SCORES.get(arm):
            cells = ''.join(
                f'<td>{text_of(scores[key], m.places if m.places > 1 else 0)}</td>'
                for key, m in METRICS.items()
            )
            body.append(
                f'<tr class="ref" data-arm="reference {esc(arm)}"><th>reference</th>{cells}</tr>'
            )
    return table(f'<tr><th>Arm</th>{heads}</tr>', body)


def css_colours(study):
    """(light, dark) declarations of the arms' colours, for the dots of the table."""
    found = []
    for look in (style.LIGHT, style.DARK):
        by_arm = colours(study.arms, look)
        found.append(''.join(f'--c{i}:{by_arm[arm]};' for i, arm in enumerate(study.arms)))
    return tuple(found)


def _cell(stat, places):
    """Mean ± sd, with the exact mean for machines."""
    if stat is None:
        return DASH
    if places == 1 and all(v == int(v) for v in stat.values) and stat.n == 1:
        places = 0
    mean, sd = mean_and_spread(stat, places)
    spread = f' <small>± {sd}</small>' if sd else ''
    return f'<td class="two" data-mean="{stat.mean!r}">{mean}{spread}</td>'


def corrupted(study):
    """Corrupted pairs: what the error fields predict, and what was found."""
    pairs = [pair for pair in findings.corrupted(study) if not pair.control]
    heads = ('r', 'cosine', 'w*', 'predicted w, r/(r − 1)', 'best w', 'shift at w = 1')
    body = [
        _row(
            pair.name,
            pair.title,
            _cell(pair.r, 2),
            _cell(pair.cosine, 3),
            _cell(pair.optimal, 2),
            _cell(pair.predicted, 2) if pair.predicted else '<td>none</td>',
            _cell(pair.best, 2),
            _cell(pair.at_one, 4),
            _cell(pair.at_best, 4),
        )
        for pair in pairs
    ]
    return _plain('Main by guide', (*heads, 'shift at best w'), body) if body else ''


def controls(study):
    """Controls: an unharmed main network by a harmed guide, judged by outliers."""
    pairs = [pair for pair in findings.corrupted(study) if pair.control]
    heads = ('r', 'cosine', 'w*', 'best w', 'outliers at w = 1', 'outliers at best w')
    body = [
        _row(
            pair.name,
            pair.title.removeprefix('Control: '),
            _cell(pair.r, 2),
            _cell(pair.cosine, 3),
            _cell(pair.optimal, 2),
            _cell(pair.best, 2),
            _cell(pair.at_one, 4),
            _cell(pair.at_best, 4),
        )
        for pair in pairs
    ]
    return _plain('Main by guide', heads, body) if body else ''


def guides(study):
    """Every guide: alignment on the paths of outliers, best weight and what it gives."""
    heads = ('iterations', 'EMA', 'r', 'cosine', 'best w', 'outliers', '÷ unguided')
    body = [
        _row(
            f'{g.run} {g.nimg} {g.std:g}',
            study.run_title(g.run),
            f'<td>{study.iterations(g.nimg):g}</td>',
            f'<td>{g.std:g}</td>',
            _cell(g.r, 2),
            _cell(g.cosine, 3),
            DASH if g.weight is None else f'<td>{plain_number(g.weight)}</td>',
            _cell(g.outliers, 4),
            _cell(g.relative, 2),
            _cell(g.coverage, 3),
            _cell(g.kl, 4),
        )
        for g in findings.guides(study)
    ]
    return _plain('Guide', (*heads, 'coverage', 'branch KL'), body) if body else ''


def _row(name, title, *cells):
    return f'<tr data-arm="{esc(name)}"><th scope="row">{esc(title)}</th>{"".join(cells)}</tr>'


def _plain(first, heads, body):
    cells = ''.join(f'<th>{esc(head)}</th>' for head in heads)
    return table(f'<tr><th>{esc(first)}</th>{cells}</tr>', body)


def rows(study):
    """The main table as rows of numbers, for a terminal."""
    found = []
    for arm in study.arms:
        row = {'arm': study.title(arm)}
        for key in METRICS:
            stat = study.stat(arm, key)
            row[key] = stat and stat.mean
            if key in WITH_SPREAD and len(study.seeds) > 1:
                row['± ' + key] = stat and stat.sd
        found.append(row)
    return found
