"""Does the order that `guides` predicts hold? Against the truth of the toy, and against a sweep.

    PYTHONPATH=. python tests/guide_validation.py toy --study=runs/toy --workdir=out/toy_guides
    PYTHONPATH=. python tests/guide_validation.py fashion --guides=out/guides \
        --grid=out/sweep/results.jsonl

toy: every guide of a finished `study --config=configs/toy.py` (or :quick), seed by seed: 40
candidates by run, age and EMA length; the prediction is made here with the exact denoiser as
reference, the truth is what the study's samples scored at each candidate's best of w. --draw=0 also
draws samples for seed 0 (energy distance, w to 4, and guides that the study does not try: its two
mismatched runs, the longer EMA of main itself).
fashion: --guides is the workdir of a ranking, --grid the rows of sweeps (FILE,FILE) over its
candidates and w, which for the stored result were two of tests/exhaustive_grids.py, over the runs
`narrow` and `main` of configs/fashion_mnist.py:reduced as guides, with w = 1.25, 1.5, 2, 2.5;
the truth is the lowest distance (--metric=frechet) over w.

The score was chosen on the toy's five seeds, among some hundred forms (other weights of σ, parts of
its range, points weighed by their error, noisier points); the kinds that there were are told.
→ tests/guide_validation.json and docs/guide_finder.png.
"""

import argparse
import json
import os
import pathlib

import jax
import numpy as np
from scipy import stats

from autoguide_jax import config, files, guides, pairs
from autoguide_jax.generation import Programs
from autoguide_jax.metrics.points import PointScores
from autoguide_jax.mixture import mixture
from autoguide_jax.report import drawing, style

HERE = pathlib.Path(__file__).resolve().parent
RESULT, FIGURE = HERE / 'guide_validation.json', HERE.parent / 'docs/guide_finder.png'
POINTS, WEIGHTS, KL = 2**13, (1.25, 1.5, 2.0, 2.5, 3.0, 4.0), 0.1
MISMATCHED = ('few_points', 'cfg_guide')


def statistics(row):
    """{name: value} of one row of guides.jsonl; larger should be better."""
    levels, total = row['levels'], row['overall']
    array = lambda name: np.array([np.nan if v is None else v for v in levels[name]], float)
    lam, mm, mi, ii = (array(name) for name in ('lambda', 'mm', 'mi', 'ii'))
    a, b, c = (np.sum(lam * v) for v in (mm, mi, ii))
    r, push = total['ratio'], a - 2 * b + c
    excess = total['excess_ratio'] or np.nan
    nan = float('nan')
    return {
        'score: cosine − ½|ln(w − 1)|': total['score'] if total['score'] is not None else nan,
        'cosine − |ln r/2|': total['cosine'] - abs(np.log(r / 2)),
        '− |ln r/2|': -abs(np.log(r / 2)),
        '− |ln r̂/2|, losses alone': -abs(np.log(excess / 2)),
        '− |ln(w − 1)|': -abs(np.log(r - 1)) if r > 1 else nan,
        'cosine': total['cosine'],
        '− r': -r,
        '− loss of the guide': -float(np.sum(lam * array('loss_guide'))),
        'push towards the truth, signed': float((b - a) / np.sqrt(a * push)),
        'removable': total['removable'],
        '− error left at w = 2': -float((a + 2 * (a - b) + push) / a),
    }


def at_equal_kl(scores, base):
    """Outliers where the branch KL first reaches KL, from no guidance on, interpolated in w."""
    path = [base, *(scores[w] for w in sorted(scores))]
    kl = np.maximum.accumulate([m['kl'] for m in path])
    return float(np.interp(KL, kl, [m['outliers_1'] for m in path]))


def truths(scores, base):
    """{name: value} of one candidate from {w: metrics}, best over w > 1; lower is better."""
    least = lambda f: min(f(m) for m in scores.values())
    found = {
        'outliers': least(lambda m: m['outliers_1']),
        'outliers + KL': least(lambda m: m['outliers_1'] + m['kl']),
        'outliers at KL 0.1': at_equal_kl(scores, base),
        '− clipped log p': least(lambda m: -m['clipped']),
    }
    if all('energy' in m for m in scores.values()):
        found['energy distance'] = least(lambda m: m['energy'])
    return found


def correlate(points):
    """{truth: {statistic: {spearman, kendall, p of each}}} of [(statistics, truths)]."""
    found = {}
    for truth in points[0][1]:
        good = [-t[truth] for _, t in points]
        for name in points[0][0]:
            values = [-np.inf if not np.isfinite(s[name]) else s[name] for s, _ in points]
            if len(set(values)) < 2:
                continue
            rho, tau = stats.spearmanr(values, good), stats.kendalltau(values, good)
            numbers = rho.statistic, rho.pvalue, tau.statistic, tau.pvalue
            names = 'spearman', 'spearman_p', 'kendall', 'kendall_p'
            found.setdefault(truth, {})[name] = dict(zip(names, map(float, numbers)))
    return found


def regret(points, truth):
    """Truth of the candidate that the score puts first, of the first three's best, best, median."""
    score = lambda p: np.nan_to_num(next(iter(p[0].values())), nan=-np.inf)
    ordered = [p[1][truth] for p in sorted(points, key=score, reverse=True)]
    return {
        'first': ordered[0],
        'best of first three': min(ordered[:3]),
        'best': min(ordered),
        'median': float(np.median(ordered)),
    }


def predict(study, seed, workdir):
    """{(run name, nimg, std): row of guides.jsonl} of one seed of a toy study."""
    place = lambda run: str(files.path(study) / 'runs' / run / f'seed-{seed}')
    folder = files.path(workdir) / f'seed-{seed}'
    # Those that the study tries, and two that solve another task: other data, fewer data.
    groups = {('narrow', 'guide', 'main'): {'nimg': ('all',)}, MISMATCHED: {'snapshots': 1}}
    found = {}
    for names, which in groups.items():
        names = [n for n in names if (files.path(place(n)) / 'config.json').exists()]
        tree = {
            'main': place('main'),
            'main_std': 0.01,
            'candidates': tuple(map(place, names)),
            'reference': guides.EXACT,
            'batch_size': 2048,
            'sampler': {'name': 'heun', 'sigma_max': 5.0},
        }
        guides.main(config.parse(guides.Settings, tree | which), folder)
        keys = set(files.read_json(folder / 'guides.json')['rows'])
        for row in files.read_jsonl(folder / 'guides.jsonl'):
            c = row['candidate']
            if row['key'] in keys:
                found[pathlib.PurePath(c['run']).parts[-2], c['nimg'], c['std']] = row
    return found


def studied(study, seed):
    """({candidate: {w: metrics}}, metrics without guidance) from the rows of a toy study."""
    found, base = {}, None
    for row in files.read_jsonl(files.path(study) / 'results.jsonl'):
        if row.get('seed') != seed:
            continue
        if row.get('phase') == 'guides':
            key = row['arm'], row['nimg'], row['std']
            found.setdefault(key, {})[row['weight']] = row['metrics']
        elif (row.get('phase'), row.get('arm')) == ('arms', 'none'):
            base = row['metrics']
    return found, base


def draw(study, seed, candidates, workdir):
    """The same of samples drawn here, in WORKDIR/truth.jsonl, never twice."""
    file = files.path(workdir) / 'truth.jsonl'
    rows = {(r['seed'], r['cand'], r['w']): r['metrics'] for r in files.read_jsonl(file)}
    source, scores, networks = mixture('A'), PointScores('A'), pairs.Networks()
    at_top = jax.vmap(lambda key: source.sample(key, 1, 5.0)[0] / 5.0)
    sampler = config.build(config.Part('heun', {'sigma_max': 5.0}, 'autoguide_jax.samplers:table'))
    programs = Programs(sampler, POINTS, 'off', start=lambda keys, shape: at_top(keys))
    place = lambda run: str(files.path(study) / 'runs' / run / f'seed-{seed}')
    main = pairs.NetworkRef(place('main'), 0.01)

    def score(name, pair, weight):
        if (seed, name, weight) not in rows:
            calls, rules = networks.calls(pair)
            seeds, labels = np.arange(POINTS), np.full(POINTS, -1)
            metrics = scores.score([(programs.all_images(calls, rules, seeds, labels), None)])
            files.append_jsonl(file, {'seed': seed, 'cand': name, 'w': weight, 'metrics': metrics})
            rows[seed, name, weight] = metrics
        return rows[seed, name, weight]

    base, found = score('none', pairs.Pair(main), 1.0), {}
    for run, nimg, std in candidates:
        for w in WEIGHTS:
            pair = pairs.Pair(
                main,
                pairs.NetworkRef(place(run), std, nimg),
                guidance=pairs.GuidanceSettings(w),
            )
            metrics = score(f'{run}|{nimg}|{std:g}', pair, w)
            found.setdefault((run, nimg, std), {})[w] = metrics
    return found, base


def judge(rows, scored, base):
    """What a seed says: correlations, regret, weights, and the points of the figure."""
    both = [key for key in rows if key in scored]
    points = [(statistics(rows[key]), truths(scored[key], base)) for key in both]
    best = [min(scored[key], key=lambda w: scored[key][w]['outliers_1']) for key in both]
    told = [rows[key]['overall']['weight'] or np.inf for key in both]
    reach = [min(w, max(WEIGHTS)) for w in told]
    return {
        'candidates': len(points),
        'correlations': correlate(points),
        'regret': {t: regret(points, t) for t in points[0][1]},
        'unguided': {'outliers': base['outliers_1'], 'kl': base['kl']},
        'weight_spearman': float(stats.spearmanr(reach, best).statistic),
        'weight_ratio_median': float(np.median(np.divide(reach, best))),
        'points': [
            [next(iter(s.values())), t['outliers'], '|'.join(map(str, key))]
            for key, (s, t) in zip(both, points)
        ],
    }


def toy(args):
    """The part 'toy' of the result."""
    seeds = [int(seed) for seed in args.seeds.split(',')]
    found, drawn = {}, {}
    for seed in seeds:
        rows = predict(args.study, seed, args.workdir)
        found[seed] = judge(rows, *studied(args.study, seed))
        if str(seed) in args.draw.split(','):
            drawn[seed] = judge(rows, *draw(args.study, seed, rows, args.workdir))
    return {
        'summary': summary(found),
        'seeds': found,
        'drawn': {'summary': summary(drawn), 'seeds': drawn} if drawn else {},
    }


def summary(found):
    """{truth: {statistic: mean, least and most Spearman, mean Kendall, over seeds}}."""
    result = {}
    first = next(iter(found.values()), {'correlations': {}})
    for truth, table in first['correlations'].items():
        for name in table:
            seen = [f['correlations'][truth].get(name) for f in found.values()]
            rho = [s['spearman'] for s in seen if s]
            result.setdefault(truth, {})[name] = {
                'spearman': float(np.mean(rho)),
                'least': min(rho),
                'most': max(rho),
                'kendall': float(np.mean([s['kendall'] for s in seen if s])),
                'largest_p': max(s['spearman_p'] for s in seen if s),
            }
    return result


def fashion(args):
    """The part 'fashion' of the result."""
    facts = files.read_json(files.path(args.guides) / 'guides.json')
    keys, std = set(facts['rows']), facts['settings']['main_std']
    place = lambda c: (os.path.basename(os.path.normpath(c['run'])), c['nimg'], c['std'])
    rows = files.read_jsonl(files.path(args.guides) / 'guides.jsonl')
    rows = {place(row['candidate']): row for row in rows if row['key'] in keys}
    scored, weights, unguided = {}, {}, []
    for row in (row for file in args.grid.split(',') for row in files.read_jsonl(file)):
        # Rows of `sweep`, or of tests/exhaustive_grids.py, which has one metric.
        s, metrics = row['setting'], row.get('metrics')
        value = metrics.get(args.metric) if metrics else row['scores'][-1]
        if value is None or not np.isclose(s['main']['std'], std):
            continue
        if not s['guide'] or s['weight'] == 1:
            unguided.append(float(value))
            continue
        scored.setdefault(place(s['guide']), {}).setdefault(s['weight'], []).append(float(value))
    both = [key for key in rows if key in scored]
    if len(both) < 3:
        raise SystemExit(
            f'only {len(both)} candidates are in both {args.guides} and {args.grid}: the sweep '
            f'must name them by run, nimg and std, with main_std {std}'
        )
    if len(asked := {tuple(sorted(scored[key])) for key in both}) > 1:
        raise SystemExit(f'{args.grid}: not all candidates have the same weights: {asked}')
    best, points = {}, []
    for key in both:
        means = {w: float(np.mean(values)) for w, values in scored[key].items()}
        weights[key] = min(means, key=means.get)
        best[key] = means[weights[key]]
        points.append((statistics(rows[key]), {args.metric: best[key]}))
    told = [rows[key]['overall']['weight'] or np.inf for key in both]
    reach = [min(w, max(weights.values())) for w in told]
    rho = lambda said: float(stats.spearmanr(said, list(weights.values())).statistic)
    return {
        'candidates': len(both),
        'metric': args.metric,
        'weights': sorted(scored[both[0]]),
        'unguided': float(np.mean(unguided)),
        'correlations': correlate(points),
        'regret': regret(points, args.metric),
        # Of predictions cut at the largest weight that was tried, and of them as they are.
        'weight_spearman': rho(reach),
        'weight_spearman_uncut': rho(told),
        'weight_ratio_median': float(np.median(np.divide(reach, list(weights.values())))),
        'points': [
            [next(iter(s.values())), best[key], '|'.join(map(str, key))]
            for key, (s, _) in zip(both, points)
        ],
    }


def plot(result, look=style.LIGHT):
    """docs/guide_finder.png: score against truth, toy and Fashion-MNIST, and every statistic."""
    figure, axes = drawing.new(drawing.WIDE, 4.2, ncols=3, width_ratios=(1, 1.15, 1))
    left, middle, right = axes[0]
    if 'toy' in result:
        scatter_toy(left, result['toy'], look)
        dots(middle, result['toy']['summary'], look)
    if 'fashion' in result:
        scatter_fashion(right, result['fashion'])
    for panel in (left, right):
        panel.set_xlabel('predicted score, higher should be better')
    return figure


def scatter_fashion(panel, found):
    """Score against distance, a marker for each run of the guides."""
    runs = sorted({name.split('|')[0] for _, _, name in found['points']})
    for i, run in enumerate(runs):
        colour = style.SERIES[i][0]
        x, y = zip(*[(x, y) for x, y, name in found['points'] if name.split('|')[0] == run])
        panel.plot(x, y, style.MARKERS[i], color=colour, markersize=5, label=f'guides of {run}')
    rho = next(iter(found['correlations'][found['metric']].values()))['spearman']
    panel.axhline(
        found['unguided'], color=style.FIXED['baseline'][0], lw=0.7, linestyle=(0, (4, 3))
    )
    panel.set_title(f'Fashion-MNIST, {len(found["points"])}: ρ = {rho:.2f}')
    panel.set_ylabel('FD (classifier), best w; dashed: no guidance')
    panel.legend(loc='upper right', bbox_to_anchor=(1, 0.93))


def scatter_toy(panel, found, look):
    """Score against outliers, a colour for each seed."""
    for i, (seed, one) in enumerate(found['seeds'].items()):
        colour = style.SERIES[i][0]
        x, y, _ = zip(*one['points'])
        panel.plot(x, y, style.MARKERS[i], color=colour, markersize=4, label=f'seed {seed}')
        panel.axhline(one['unguided']['outliers'], color=colour, lw=0.7, linestyle=(0, (4, 3)))
    rho = next(iter(found['summary']['outliers'].values()))
    count = sum(one['candidates'] for one in found['seeds'].values())
    panel.set_title(f'2-D example: {count} guides, Spearman {rho["spearman"]:.2f}')
    panel.set_ylabel('outliers at 1 %, best w; dashed: no guidance')
    panel.legend()


def dots(panel, summary, look):
    """Mean Spearman of every statistic for each truth."""
    names = list(next(iter(summary.values())))
    panel.axvline(0, color=look.muted, linewidth=1)
    for i, (truth, table) in enumerate(summary.items()):
        colour = style.SERIES[i][0]
        x = [table[n]['spearman'] if n in table else np.nan for n in names]
        panel.plot(x, range(len(names)), style.MARKERS[i], color=colour, ms=4.5, label=truth)
    panel.set_yticks(range(len(names)), names, fontsize=7)
    panel.set(ylim=(len(names) - 0.5, -0.5), xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1))
    panel.set_title('Rank correlation with the truth')
    panel.legend(loc='lower left', fontsize=6.5)


def main():
    """Measure one part, keep the other, print the correlations and draw the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument('part', choices=('toy', 'fashion', 'plot'))
    for name, default in (('study', 'runs/toy'), ('workdir', 'out/toy_guides'), ('seeds', '0')):
        parser.add_argument(f'--{name}', default=default)
    for name, default in (('draw', ''), ('guides', ''), ('grid', ''), ('metric', 'frechet')):
        parser.add_argument(f'--{name}', default=default)
    args = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if args.part != 'plot':
        result[args.part] = {'toy': toy, 'fashion': fashion}[args.part](args)
        RESULT.write_text(compact(result))
        found = result[args.part]
        print(json.dumps(found.get('summary') or found['correlations'], indent=1, default=str))
    with drawing.matplotlib.rc_context(style.rc(style.LIGHT)):
        FIGURE.write_bytes(drawing.png(plot(json.loads(RESULT.read_text()))))


def compact(result):
    """JSON with numbers to four digits, which is what they are worth."""

    def short(value):
        if isinstance(value, dict):
            return {str(k): short(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [short(v) for v in value]
        if isinstance(value, float):
            return float(f'{value:.4g}') if np.isfinite(value) else None
        return value

    return json.dumps(short(result), ensure_ascii=False, allow_nan=False) + '\n'


if __name__ == '__main__':
    main()
