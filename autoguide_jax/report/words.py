"""The sentences that the numbers write: the answer, and how to read the rest."""

from autoguide_jax.report.stats import METRICS, UNBIASED, column_of, decimals, title_of

MINUS = '−'


def text_of(value, places):
    """Return a number with a true minus sign."""
    return f'{value:.{places}f}'.replace('-', MINUS)


def mean_and_spread(stat, places):
    """Return mean and what stands behind ± as texts, '' if that is not known."""
    spread = '' if stat.spread is None else text_of(stat.spread, places)
    return text_of(stat.mean, places), spread


def plus_minus(stat, places):
    """Return 'mean ± sd', which does not break over lines, or the mean alone."""
    return '\u00a0±\u00a0'.join(text for text in mean_and_spread(stat, places) if text)


def interval_of(stat, places):
    """Return the 95 % interval as '[low, high]', '' if it is not known."""
    if stat.interval is None:
        return ''
    return '[' + ',\u00a0'.join(text_of(end, places) for end in stat.interval) + ']'


def excludes(stat):
    """Return what the interval of a difference says of 0."""
    return {None: 'no interval', True: 'excludes 0', False: 'holds 0'}[stat.excludes_zero]


def times(value):
    """Return a factor as '1.35×'."""
    return f'{value:.2f}×'


def decoder(meta):
    """Say what no FLOPs count where images are made of latents, '' where they are not."""
    drawn = (meta.get('settings') or {}).get('vae')
    return ' The decoder that makes images of latents is in no count of FLOPs.' if drawn else ''


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
    recall = _recall(study, auto, base)
    price = study.cost(auto)
    cost = f'It takes {times(price)} the computation of no guidance.' if price else ''
    found = (_distance(study, auto, base), recall, cost, _cfg(study, auto))
    return [text for text in found if text]


def _distance(study, auto, base):
    mine, other, apart = study.stat(auto), study.stat(base), study.difference(auto, base)
    places = study.places()
    numbers = f'from {plus_minus(other, places)} to {plus_minus(mine, places)}'
    if apart and apart.excludes_zero is False:
        return (
            f'Autoguidance takes the {study.metric_title} {numbers}: {_told(apart)}, so this study '
            f'shows no difference{_wins(apart)}.'
        )
    verb = 'lowers' if mine.mean < other.mean else 'raises'
    # An unbiased distance may be negative: of that there is no percentage.
    ratio = mine.mean / other.mean if min(mine.mean, other.mean) > 0 else None
    percent = f' ({ratio - 1:+.0%})'.replace('-', MINUS) if ratio else ''
    result = f'Autoguidance {verb} the {study.metric_title} {numbers}{percent}'
    return f'{result}: {_told(apart)}{_wins(apart)}.'


def _told(apart):
    """What the interval of a paired difference says."""
    if apart is None:
        return 'the two share no block of seeds, so no interval tells if it is chance'
    if apart.interval is None:
        alone = 'they share a single block of seeds'
        why = 'the spread of the difference is 0' if apart.spread == 0 else alone
        return f'{why}, so no interval tells if it is chance'
    places = decimals([apart])
    sign = '+' if apart.mean > 0 else ''
    return (
        f'{sign}{text_of(apart.mean, places)} on the same seeds, 95\u00a0% interval '
        f'{interval_of(apart, places)}, which {excludes(apart)}'
    )


def _wins(apart):
    """Return on how many of the shared seed blocks the method did better."""
    if apart is None or apart.n < 2:
        return ''
    wins = sum(value < 0 for value in apart.values)
    return f'; it is lower on {wins} of {apart.n} blocks of fresh seeds'


def _recall(study, auto, base):
    mine, other = study.stat(auto, 'recall'), study.stat(base, 'recall')
    if mine is None or other is None:
        return ''
    places, apart = study.places('recall'), study.difference(auto, base, 'recall')
    kind = ''
    if apart and apart.excludes_zero:
        kind = ': a loss of variation' if apart.mean < 0 else ': a gain in variation'
    numbers = f'from {plus_minus(other, places)} to {plus_minus(mine, places)}'
    return f'Recall goes {numbers}; {_told(apart)}{kind}.'


def _cfg(study, auto):
    cfg = study.role('cfg')
    theirs = study.stat(cfg) if cfg else None
    if theirs is None:
        return ''
    price, apart = study.cost(cfg), study.difference(auto, cfg)
    reach = f'{study.title(cfg)} reaches {plus_minus(theirs, study.places())}'
    reach += f' at {times(price)} the computation' if price else ''
    less = f'; autoguidance less this arm is {_told(apart)}' if _known(apart) else ''
    return f'{reach}{less}.'


def _known(apart):
    return apart is not None and apart.interval is not None


def short_of(study):
    """Return a sentence for every metric that asks for more images than it was given, or []."""
    found = []
    for name, (least, counts) in study.fewer().items():
        metric = column_of(name)
        title = title_of(study.meta, metric.key) if metric else name
        told = lambda counts: ' and '.join(map(str, sorted(counts - {None}))) or 'fewer'
        given = [f'{who} have {told(n)}' for who, n in counts.items()]
        found.append(f'{title} asks for {least} images; {", ".join(given)}.')
    return found


def _intervals(study, blocks):
    if blocks == 1:
        return (
            'There is one block of sampling seeds: ± is the standard error of its score over draws '
            'of the samples, and brackets hold the 95\u00a0% interval of that. '
            'A metric without ± has no such error.'
        )
    t = f'Student’s t with {blocks - 1} degree{"s" * (blocks > 2)} of freedom' if blocks else 't'
    text = (
        f'± is the standard deviation over {blocks or "the"} blocks of fresh sampling seeds, and '
        f'brackets hold the 95\u00a0% confidence interval of their mean ({t}). '
    )
    stats = [stat for arm in study.arms if (stat := study.stat(arm)) and stat.n > 1]
    own = [e for stat in stats for e in stat.errors if e is not None]
    if own:
        places = study.places()
        mean = lambda values: text_of(sum(values) / len(values), places)
        text += (
            'Each block also has a standard error of its own, over draws of its samples; it is '
            f'not in the table. For the {study.metric_title} it is {mean(own)} on average, and the '
            f'standard deviation over blocks {mean([stat.sd for stat in stats])}. The bands of '
            'curves, scored on one block, are the 95\u00a0% interval of the former.'
        )
    return text


def _statistics(study, blocks):
    """What ±, brackets and differences mean, and what they do not cover."""
    return [
        ('Intervals', _intervals(study, blocks)),
        (
            'What the intervals hold fixed',
            'One training of each network, the settings that the search chose, the real images of '
            'the reference, the network whose features are compared, and the number of samples '
            'with what it adds to a distance. Other samples are all that varies: how the result '
            'changes from one training run to the next is not in any interval here.',
        ),
        (
            'Differences',
            'Arms share seeds and labels, so what a block adds to both falls out of their '
            'difference: its interval says more than those of the two arms. 0 outside of it means '
            'that other samples would hardly undo the order. Of twenty true zeros one is excluded '
            'by chance, and the best arm was picked for its low mean, so that what others lack '
            'is a little overstated.',
        ),
    ]


def _bias(study):
    """What few samples do to the distance."""
    if study.distance in UNBIASED:
        return 'It is not too high for few samples, but less sure; it may fall below 0.'
    return (
        'A Fréchet distance of few samples is too high by an amount that depends on their number, '
        'so all arms use the same.'
    )


def notes(study):
    """Return (heading, text) of what a reader must know to judge the numbers."""
    final, search = study.meta.get('final') or {}, study.meta.get('search') or {}
    floor, name = study.stat('real'), study.metric_title
    noun, accuracy = study.features
    data = study.data
    count, blocks = final.get('images', '?'), len(final.get('seed_blocks') or [])
    judge = f'{name} is a {METRICS[study.distance].meaning}. The features are those of the {noun}'
    judge += ', trained on these very images' if 'classifier' in noun else ''
    judge += f' (its recipe has {accuracy:.1%} accuracy on held-out ones)' if accuracy else ''
    return [
        (
            'One ruler',
            f'{judge}. It ranks the arms of this study; it cannot be compared with distances in '
            'other features, on other data sets, or at another number of samples.',
        ),
        ('Few samples', f'Each value is taken over {count} images. {_bias(study)}'),
        *_statistics(study, blocks),
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
            + '. Unseen real images would score higher: no arm can be expected to get there. Its '
            'draws overlap, so that their spread makes no interval.',
        ),
        (
            'Small data',
            f'{data.get("num_images", "?")} images of {data.get("resolution", "?")}×'
            f'{data.get("resolution", "?")} pixels. The order of methods here '
            'need not be the order on large images.',
        ),
        *(
            (title_of(study.meta, metric.key), f'{metric.meaning[0].upper()}{metric.meaning[1:]}.')
            for metric in (METRICS[key] for key in study.columns if key != study.distance)
        ),
    ]
