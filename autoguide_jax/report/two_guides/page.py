"""What the page of a sweep of two guides opens with: answer, figure, scores over (w, α)."""

from autoguide_jax.report.sheet import Drawn, esc, figure, notice
from autoguide_jax.report.stats import column_of, decimals, title_of
from autoguide_jax.report.two_guides.read import UNGUIDED
from autoguide_jax.report.words import plus_minus, times

TITLE = 'CFG and autoguidance at once'
QUESTION = (
    'D = D_m + (w_u − 1)(D_m − D_u) + (w_c − 1)(D_m − D_c), with w_u = (1 − α)(w − 1) + 1 and '
    'w_c = α(w − 1) + 1: α = 0 is classifier-free guidance by the unconditional network D_u, α = 1 '
    'autoguidance by the worse conditional network D_c (arXiv 2406.02507, Eq. 6).'
)
DISTANCE = 4  # column of the table
ENDS = {0.0: 'CFG alone', 1.0: 'Autoguidance alone'}
ALT = 'Distance over total weight w and share α of autoguidance, with examples at each setting'


def opening(sweep, drawn):
    """The opening as HTML. drawn: the figure as drawing.render gives it."""
    data = sweep.meta.get('data') or {}
    kicker = ' · '.join(str(p) for p in (data.get('name'), sweep.meta.get('created')) if p)
    lacking = notice(_missing(sweep), 'sweep')
    return (
        f'<header><p class="kicker">{esc(kicker)}</p><h1>{TITLE}</h1>'
        f'<p class="note">{esc(QUESTION)}</p><p class="lede">{esc(answer(sweep))}</p><!--nav-->'
        f'</header>{lacking}{figure(Drawn(drawn, ALT, caption(sweep)))}'
    )


def scores(sweep):
    """The scores of all settings as HTML."""
    score = sweep.score
    return (
        f'<p>Mean ± {sweep.spread} over {score["repeats"]} set(s) of seeds, '
        f'{score["images"]} images each, the same seeds for every setting.</p>{_short(sweep)}'
        f'{_table(sweep)}'
    )


def _short(sweep):
    """What says that a metric was given fewer images than it asks for, or has no value."""
    texts = [f'{_head(sweep, name)} asks for {n} images' for name, n in sweep.fewer().items()]
    short = f'<p class="note">Fewer images: {esc("; ".join(texts))}.</p>' if texts else ''
    scores = sum(map(len, sweep.rows.values()))
    texts = [
        f'{_head(sweep, name)} in {count} of {scores} scores: {why}'
        for name, (count, why) in sweep.undefined().items()
    ]
    return short + (f'<p class="note">No value: {esc("; ".join(texts))}</p>' if texts else '')


def caption(sweep):
    """How to read the figure."""
    real = (sweep.meta.get('reference') or {}).get('count', '?')
    kept = ' Below, the first seeds of each setting, the same everywhere, not selected.'
    return (
        f'{sweep.title} over {sweep.score["images"]} samples against {real} real images, '
        'and depends on these counts. Dashed line and band: no guidance, w = 1. All '
        'settings share seeds and EMA lengths, which were not searched for; the best of so many '
        f'settings is a little too good, by luck.{kept if sweep.examples else ""}'
    )


def answer(sweep):
    """What is seen, in words: the best setting, and how far behind it both ends and w = 1 are."""
    stats, guided = sweep.stats(), sweep.best()
    best = guided if sweep.guided_is_best else UNGUIDED
    told = lambda key: plus_minus(stats[key], sweep.places)
    setting = f'w = {guided[0]:g} at α = {guided[1]:g}'
    if best == guided:
        texts = [f'Best is {setting}: {told(best)}.']
    else:
        texts = [f'Best is no guidance, w = 1: {told(best)}.']
        texts += [f'The best guidance is {setting}: {told(guided)}{_behind(sweep, guided, best)}.']
    for alpha, name in ENDS.items():
        if alpha in sweep.alphas and alpha != guided[1]:
            key = sweep.best(alpha)
            said = f'{name} reaches {told(key)} at w = {key[0]:g}'
            texts.append(f'{said}{_behind(sweep, key, best)}.')
    if UNGUIDED in stats and best == guided:
        texts.append(f'Without guidance: {told(UNGUIDED)}{_behind(sweep, UNGUIDED, best)}.')
    return ' '.join(texts)


def _behind(sweep, key, best):
    """How much more than the best a setting has on the seeds that both share, '' if they have none.

    In a sweep that is not finished they may have been scored on different seeds.
    """
    excess = sweep.excess(key, best)
    if excess is None:
        return ''
    return f', {plus_minus(excess, decimals([excess]))} more than the best on the same seeds'


def _missing(sweep):
    have = sum(map(len, sweep.rows.values()))
    asked = len(sweep.meta['rows'])
    return [] if have == asked else [f'{asked - have} of {asked} scores']


def table_rows(sweep):
    """A dict per setting: w, α, both weights, every metric as mean ± sd, cost; best first."""
    stats, marked = sweep.stats(), sweep.marks()
    names = [n for n in sweep.score['metrics'] if any(sweep.stat(k, n) for k in stats)]
    places = {n: decimals([sweep.stat(k, n) for k in stats]) for n in names}
    places[names[0]] = sweep.places
    found = []
    for key in sorted(stats, key=lambda key: stats[key].mean):
        weight, alpha = key
        share = 0.0 if alpha is None else alpha
        cell = lambda name: (s := sweep.stat(key, name)) and plus_minus(s, places[name])  # noqa: B023
        relative = (sweep.rows[key][0].get('cost') or {}).get('relative')
        found.append(
            {
                'w': f'{weight:g}',
                'α': '–' if alpha is None else f'{alpha:g}',
                'w_u': f'{(1 - share) * (weight - 1) + 1:g}',
                'w_c': f'{share * (weight - 1) + 1:g}',
                **{_head(sweep, name): cell(name) or '–' for name in names},
                'computation': times(relative) if relative else '–',
                'mark': marked.get(key, ''),
            }
        )
    return found


def _head(sweep, name):
    known = column_of(name)
    return f'{title_of(sweep.meta, known.key)} {known.arrow()}' if known else name


def _table(sweep):
    rows = table_rows(sweep)
    heads = [name for name in rows[0] if name != 'mark']
    head = ''.join(f'<th>{esc(name)}</th>' for name in heads)
    lines = []
    for row in rows:
        kinds = [f' class="{row["mark"]}"' if i == DISTANCE else '' for i in range(len(heads))]
        cells = ''.join(f'<td{kind}>{esc(row[n])}</td>' for kind, n in zip(kinds, heads))
        lines.append(f'<tr>{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        '</table></div><p class="note key"><b>best</b> lowest mean <i>tie</i> the 95 % interval of '
        'the difference to the best, on the same seeds, holds 0. Computation: floating-point '
        'operations per image, relative to the main network alone.</p>'
    )
