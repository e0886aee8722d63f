"""The parts of a study's page that can be turned over: curves, trade-offs, samples by weight."""

import numpy as np

from autoguide_jax import files
from autoguide_jax.report import mosaics, script
from autoguide_jax.report.samples import images_of
from autoguide_jax.report.stats import METRICS, title_of
from autoguide_jax.report.strips import arrange
from autoguide_jax.report.study import weight_of

SCRIPTS = ('page', 'chart', 'tables', 'slider', 'study')
CHOSEN = 'chosen'


def place(name):
    """Where a script puts a part; the static part before it goes if there is one."""
    return f'<div class="live" data-live="{name}"></div>'


def charts(study):
    """The curves and the trade-off, with what to know; '' before anything is scored."""
    curves = '<h3>Score against guidance weight</h3>' + place('curves')
    note = (
        '<p class="note">Lines: every weight on selection seeds, at the EMA lengths that the '
        'search chose. Large dots: the chosen settings on fresh seeds. They may have different '
        'numbers of images: compare lines with lines and dots with dots. Bands and whiskers are '
        '95 % intervals, where the score has one.</p>'
    )
    trade = '<h3>One metric against another</h3>' + place('trade')
    shown = (curves + note if study.of('curve') else '') + (trade if study.of('final') else '')
    return f'<div class="scripted">{shown}</div>' if shown else ''


def code(study):
    """The scripts of the page with their data."""
    return script.data('study', payload(study)) + script.inline(*SCRIPTS)


def payload(study):
    """What the script reads: arms, metrics, scores, and the grids of samples by weight."""
    arms, shown = list(study.arms), study.columns
    curves = {arm: sorted(study.of('curve', arm), key=weight_of) for arm in arms}
    heads, pictures, note = _pictures(study)
    return {
        'arms': [
            {'title': study.title(arm), 'colour': f'var(--c{i})', 'cost': study.cost(arm)}
            for i, arm in enumerate(arms)
        ],
        'metrics': [_metric(study, key) for key in shown],
        'weights': [_weight(study, arm) for arm in arms],
        'finals': {key: [script.stat(study.stat(arm, key)) for arm in arms] for key in shown},
        'curves': {
            key: [[_curve_point(study, row, key) for row in curves[arm]] for arm in arms]
            for key in shown
        },
        'heads': heads,
        'pictures': [pictures.get(arm, {}) for arm in arms],
        'note': note,
    }


def _curve_point(study, row, key):
    """[w, what script.stat makes of the metric of a row], Nones without a value."""
    return [weight_of(row), *(script.stat(study.of_row(row, key)) or [None] * 4)]


def _weight(study, arm):
    """The chosen weight of a guided arm, None for others."""
    setting = study.chosen(arm)
    guided = any(setting.get(who) for who in ('guide', 'uncond'))
    return weight_of({'setting': setting}) if guided else None


def _metric(study, key):
    metric = METRICS[key]
    about = {'name': key, 'title': title_of(study.meta, key), 'arrow': metric.arrow()}
    return about | {'better': metric.better, 'places': study.places(key)}


def _pictures(study):
    """(heads of the columns, arm → {'chosen' or a weight → PNG}, what is not shown)."""
    found = {(arm, CHOSEN): sample for arm, sample in study.samples.items()}
    folder = study.workdir / 'samples'
    for name in files.names(folder, '.npz'):
        arm, _, weight = name.removesuffix('.npz').rpartition('@')
        if arm in study.arms and _is_number(weight):
            found[arm, f'{float(weight):g}'] = images_of(folder / name)
    if all(weight == CHOSEN for _, weight in found):
        return [], {}, ''
    labelled = [sample for sample in found.values() if (sample[1] >= 0).any()]
    images, labels = (labelled or list(found.values()))[0]
    count, pixels = mosaics.affordable(images, len(found))
    index, heads = arrange(labels[:count], 10, count)
    drawn, used = {}, 0
    for (arm, weight), (mine, _) in found.items():
        picture = mosaics.small(mine[:count], index, pixels)
        used += len(picture)
        if used <= mosaics.BUDGET or not drawn:
            drawn.setdefault(arm, {})[weight] = mosaics.text(picture)
    left = len(found) - sum(map(len, drawn.values()))
    return (
        heads,
        drawn,
        mosaics.note(images, (count, pixels), 'grids', (left, len(found)), 'samples/'),
    )


def _is_number(text):
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False
