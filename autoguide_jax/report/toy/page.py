"""The page of the 2-D example: one HTML file with everything in it."""

from autoguide_jax.report import style
from autoguide_jax.report.sheet import data_uri, document, esc, figure, making, notice
from autoguide_jax.report.toy import reference, tables, words
from autoguide_jax.report.toy.read import missing

RULES = """
tr.ref td,tr.ref th{color:var(--muted);font-size:.78rem;font-weight:400;padding-top:0}
tr:has(+tr.ref) td,tr:has(+tr.ref) th{border-bottom:0;padding-bottom:3px}
tr.ref th{padding-left:1.85em}
figure.moving{max-width:820px}
"""


def build(study, figures, moving):
    """The page as text. figures: name → Drawn; moving: {'gif', 'gif-dark': bytes}, may be empty."""
    title = study.meta.get('title') or 'The 2-D example'
    parts = [
        ('', _opening(study, title, figures)),
        ('Scores', _scores(study)),
        ('Up close', _figure(figures, 'closeup') + _moving(figures, moving)),
        ('Outliers against coverage', _figure(figures, 'trade_off')),
        ('Known corruption', _known(study, figures)),
        ('Why a guide works', _why(study, figures)),
        ('How to read this', _notes()),
        ('How it was made', _making(study)),
    ]
    return document(title, _css(study), parts)


def _css(study):
    """The style of all reports, with the colours of these arms."""
    light, dark = tables.css_colours(study)
    return (
        f'{style.css(study)}:root{{{light}}}\n'
        f'@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{RULES}'
    )


def _opening(study, title, figures):
    seeds = len(study.seeds)
    kicker = f'2-D example · {seeds} training seed{"s" * (seeds != 1)}'
    kicker += f' · {study.meta["created"]}' if study.meta.get('created') else ''
    reasons = ' '.join(words.reasons(study))
    reasons = f'<p>{esc(reasons)}</p>' if reasons else ''
    return (
        f'<header><p class="kicker">{esc(kicker)}</p><h1>{esc(title)}</h1>'
        f'<p class="note">{esc(words.QUESTION)}</p>'
        f'<p class="lede">{esc(" ".join(words.answer(study)))}</p>{reasons}<!--nav--></header>'
        f'{notice(missing(study))}{_figure(figures, "clouds")}'
    )


def _scores(study):
    if not study.of('arms'):
        return '<p class="note">No arm has been scored yet.</p>'
    several = len({row['seed'] for row in study.of('arms')}) > 1
    images = max(row.get('images') or 0 for row in study.of('arms'))
    count = f', {images} points each' if images else ''
    means = 'Mean ± standard deviation over training seeds' if several else 'One training seed'
    return (
        f'<p>{means}{count}; all arms start from the same points.</p>{tables.arms(study)}'
        f'<p class="note">Lines “reference”: {esc(reference.LABEL)}. ↓ lower, ↑ higher is better. '
        'No column ranks the arms alone: points that crowd in few branches make few outliers.</p>'
    )


def _figure(figures, name):
    return figure(figures[name]) if name in figures else ''


def _moving(figures, moving):
    """The animation; its frames as a strip for print and for who wants nothing to move."""
    if not moving or 'trajectories_strip' not in figures:
        return ''
    strip = figures['trajectories_strip']
    still = {end: data_uri(strip.files[end]) for end in ('.png', '-dark.png')}
    gif = {name: data_uri(moving[name], 'gif') for name in ('gif', 'gif-dark')}
    dark, calm = '(prefers-color-scheme:dark)', '(prefers-reduced-motion:reduce)'
    return (
        '<figure class="moving"><picture>'
        f'<source media="screen and {calm} and {dark}" srcset="{still["-dark.png"]}">'
        f'<source media="print, {calm}" srcset="{still[".png"]}">'
        f'<source media="screen and {dark}" srcset="{gif["gif-dark"]}">'
        f'<img alt="{esc(strip.alt)}" src="{gif["gif"]}"></picture>'
        f'<figcaption>{esc(strip.caption)}</figcaption></figure>'
    )


def _known(study, figures):
    pairs, controls = tables.corrupted(study), tables.controls(study)
    text = ''
    if pairs:
        text += (
            '<h3>Corrupted pairs</h3><p>Main and guide are the same network, harmed a little and '
            'harmed more. r and cosine compare their errors, counted from the whole network: '
            'medians over noise levels. w* is the weight that leaves the least error with that '
            f'cosine, r/(r − 1) that of aligned errors.</p>{pairs}<p class="note">Shift: median '
            'distance to the sample of the whole network from the same start. Best w: least shift '
            'of the weights tried, for each training seed.</p>'
        )
    if controls:
        text += (
            '<h3>Controls</h3><p>Here the main network is whole and only the guide is harmed; '
            'errors are counted from the truth.</p>'
            f'{controls}<p class="note">Best w: fewest outliers of the weights tried, for each '
            'training seed; w = 1 is no guidance.</p>'
        )
    return _figure(figures, 'degradation') + text


def _why(study, figures):
    table = tables.guides(study)
    if table:
        table = (
            '<details><summary>Every guide that was tried</summary><p class="note">r and cosine on '
            'the paths of samples that end as outliers, mean over σ in (0.003, 0.1). Best w: the '
            'tried weight with the fewest outliers in the mean over seeds; w = 1 was not among '
            f'them, ÷ unguided compares with it.</p>{table}</details>'
        )
    return _figure(figures, 'why') + table


def _notes():
    items = ''.join(
        f'<li><strong>{esc(m.title)}.</strong> {esc(m.meaning[0].upper() + m.meaning[1:])}.</li>'
        for m in tables.METRICS.values()
    )
    return (
        '<p>log p is the exact log density of the distribution at σ = 0, in float64. Thresholds '
        'and expected counts come from 2²⁰ points drawn from the truth. A point belongs to the '
        f'branch of its most responsible Gaussian.</p><ul>{items}</ul>'
        '<p>± is the standard deviation over training seeds (n − 1 below the line). “Beyond the '
        'error bars” means that the two bars do not touch. Weights and guides were chosen and '
        'judged on the same samples, which flatters the best of many a little.</p>'
    )


def _making(study):
    record = {k: v for k, v in study.meta.items() if k not in ('settings', 'rows')}
    return making(study.meta, {'settings': study.settings, 'study.json': record})
