"""The sentences that the numbers write: the answer, and how to read the rest."""

from autoguide_jax.report.stats import METRICS, differ

MINUS = '−'


def text_of(value, places):
    """Return a number with a true minus sign."""
    return f'{value:.{places}f}'.replace('-', MINUS)


def mean_and_sd(stat, places):
    """Return both as texts, sd as '' if there is a single value."""
    return text_of(stat.mean, places), '' if stat.sd is None else text_of(stat.sd, places)


def plus_minus(stat, places):
    """Return 'mean ± sd', which does not break over lines, or a single value alone."""
    return '\u00a0±\u00a0'.join(text for text in mean_and_sd(stat, places) if text)


def times(value):
    """Return a factor as '1.35×'."""
    return f'{value:.2f}×'


def question(study):
    """Return what was asked, in one sentence."""
    images = study.data.get('name', 'this data')
    return (
        f'Does a denoiser of {images} make better images when it is guided by a bad version of '
        'itself, and what does that cost in variation and computation?'
    )


def answer(study):
    """Return the answer as a list of sentences; it says so where numbers are missing or equal."""
    auto, base = study.role('autoguidance'), study.role('baseline')
    if auto is None or base is None:
        return ['This study has no arm with autoguidance and one without guidance to compare.']
    mine, other = study.stat(auto), study.stat(base)
    if mine is None or other is None:
        return ['No answer yet: the final scores with and without autoguidance are not both there.']
    found = [_distance(study, mine, other) + _blocks(study, auto, base)]
    recall = _recall(study, auto, base)
    price = study.cost(auto)
    cost = f'It takes {times(price)} the computation of no guidance.' if price else ''
    return [text for text in (*found, recall, cost, _cfg(study, mine)) if text]


def _distance(study, mine, other):
    places = study.places()
    numbers = f'from {plus_minus(other, places)} to {plus_minus(mine, places)}'
    change = mine.mean / other.mean - 1 if other.mean else 0.0
    percent = f'{change:+.0%}'.replace('-', MINUS)
    verdict = differ(mine, other)
    if verdict is False:
        return (
            f'Autoguidance takes the {study.metric_title} {numbers}: the difference lies within '
            'the error bars, so this study shows none'
        )
    verb = 'lowers' if change < 0 else 'raises'
    result = f'Autoguidance {verb} the {study.metric_title} {numbers} ({percent}'
    if verdict is None:
        return (
            f'{result}); one of them has a single seed block, so no error bars tell if it is chance'
        )
    return f'{result}), more than the error bars'


def _blocks(study, auto, base):
    """Return on how many of the shared seed blocks the method did better."""
    scores = [
        {tuple(r.get('seeds') or ()): study.value(r) for r in study.of('final', arm)}
        for arm in (auto, base)
    ]
    shared = [s for s in scores[0] if s and None not in (scores[0][s], scores[1].get(s))]
    if len(shared) < 2:
        return '.'
    wins = sum(scores[0][s] < scores[1][s] for s in shared)
    return f'; it is lower on {wins} of {len(shared)} blocks of fresh seeds.'


def _recall(study, auto, base):
    mine, other = study.stat(auto, 'recall'), study.stat(base, 'recall')
    if mine is None or other is None:
        return ''
    places = study.places('recall')
    verdict = differ(mine, other)
    says = {
        None: 'with no error bars to judge it by',
        False: 'within the error bars',
        True: 'a loss of variation' if mine.mean < other.mean else 'a gain in variation',
    }[verdict]
    return f'Recall goes from {plus_minus(other, places)} to {plus_minus(mine, places)}, {says}.'


def _cfg(study, mine):
    cfg = study.role('cfg')
    theirs = study.stat(cfg) if cfg else None
    if theirs is None:
        return ''
    price = study.cost(cfg)
    reach = f'{study.title(cfg)} reaches {plus_minus(theirs, study.places())}'
    reach += f' at {times(price)} the computation' if price else ''
    better = 'worse' if theirs.mean > mine.mean else 'better'
    verdict = {
        None: '',
        False: ', within the error bars of autoguidance',
        True: f', {better} than autoguidance beyond the error bars',
    }[differ(mine, theirs)]
    return f'{reach}{verdict}.'


def notes(study):
    """Return (heading, text) of what a reader must know to judge the numbers."""
    final, search = study.meta.get('final') or {}, study.meta.get('search') or {}
    floor, name = study.stat('real'), study.metric_title
    noun, accuracy = study.features
    data = study.data
    count, blocks = final.get('images', '?'), len(final.get('seed_blocks') or [])
    judge = (
        f'{name} is a Fréchet distance between features of real images and of samples: those of '
        f'the {noun}'
    )
    judge += ', trained on these very images' if 'classifier' in noun else ''
    judge += f' (its recipe has {accuracy:.1%} accuracy on held-out ones)' if accuracy else ''
    return [
        (
            'Not FID',
            f'{judge}. It ranks the arms of this study; it cannot be compared with FID, with other '
            'data sets, or with the same number at another sample count.',
        ),
        (
            'Few samples',
            f'Each value is taken over {count} images. A Fréchet distance of few samples is too '
            'high by an amount that depends on their number, so all arms use the same.',
        ),
        (
            'Error bars',
            f'± is the standard deviation over {blocks or "the"} blocks of fresh sampling seeds. '
            'Every network was trained once: how the result varies from one training run to the '
            'next is not in it. “Beyond the error bars” means that the two bars do not touch.',
        ),
        (
            'Best is luck',
            'The best of several blocks is lower than what to expect of the next one. It stands '
            'beside the mean because papers often report it; every comparison here uses means.',
        ),
        (
            'Choosing and judging',
            f'Each arm had the same {search.get("budget", "")} evaluations to choose its settings, '
            'on selection seeds; the numbers of the table come from other seeds. The best score '
            'of a search is too good for the same reason as above.'.replace('  ', ' '),
        ),
        (
            'The floor',
            'Real images, drawn from the reference itself and scored like samples'
            + (f', reach {plus_minus(floor, study.places())}' if floor else '')
            + '. Unseen real images would score higher: no arm can be expected to get there.',
        ),
        (
            'Small data',
            f'{data.get("num_images", "?")} images of {data.get("resolution", "?")}×'
            f'{data.get("resolution", "?")} pixels. The order of methods here '
            'need not be the order on large images.',
        ),
        *(
            (metric.title, f'{metric.meaning[0].upper()}{metric.meaning[1:]}.')
            for metric in METRICS.values()
            if metric.key != 'frechet'
        ),
    ]
