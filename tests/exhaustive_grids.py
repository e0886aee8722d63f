"""Score a whole grid at several image counts, to measure searches by: tests/search_tables.py.

    PYTHONPATH=. python tests/exhaustive_grids.py TABLE.json WORKDIR --config=configs/search.py \
        --config.main.run=… --config.guide.run=… --config.sweep.weight=… [--config.score.images=512]

Every setting is drawn once, on the same seeds; its first 1/8, 1/4, 1/2 and all of the images are
scored by the first of score.metrics, and so are the eight eighths one by one, which tell how much
of the noise of a score is common to all settings. Killed, the same command goes on. TABLE.json:
axes, counts, scores [point][count], eighths [point][8], and what was drawn by what in how long.
"""

import sys
import time

from autoguide_jax import arguments, config, files, provenance
from autoguide_jax.metrics import minimised
from autoguide_jax.pairs import Networks
from autoguide_jax.progress import Progress
from autoguide_jax.sweep import SearchSettings
from autoguide_jax.sweep.campaign import Campaign
from autoguide_jax.sweep.grid import Grid
from autoguide_jax.sweep.group_scorer import parts

PARTS = 8


def score_whole(campaign, done, file):
    """Add a row {identity, setting, scores, eighths, …} to file for every setting not done."""
    score, grid = campaign.settings.score, campaign.grid
    settings = {}
    for _, setting in grid.points():
        scorer = campaign.scorer(setting.sampler)
        settings.setdefault(files.content_hash(scorer.identity(setting)), setting)
    campaign.prepare(list(settings.values()))
    with Progress(len(settings), 'settings', 'exhaustive') as bar:
        for name, setting in settings.items():
            if name not in done:
                row = {'identity': name, **score_one(campaign, setting, score)}
                files.append_jsonl(file, row)
            bar.update(1)


def score_one(campaign, setting, score):
    """The scores of one setting on parts of its images."""
    scorer, start = campaign.scorer(setting.sampler), time.monotonic()
    calls, rules = scorer.networks.calls(setting)
    seeds, labels = scorer.told(calls, score.first_seed, score.images)
    drawn = campaign.evaluator.banks(scorer.mixed_batches(calls, [rules], seeds, labels))
    metric = minimised(score.metrics)
    of = lambda part: campaign.evaluator.judge(parts(drawn, part))['metrics'][metric]
    told = scorer.row(setting, [score.first_seed, score.images], {}, calls, rules, {})
    eighth = score.images // PARTS
    return {
        'scores': [of(slice(0, score.images // k)) for k in (8, 4, 2, 1)],
        'setting': told['setting'],
        'eighths': [of(slice(i * eighth, (i + 1) * eighth)) for i in range(PARTS)],
        'seconds': time.monotonic() - start,
    }


def main(target, workdir, *words):
    """Score what is left, then write the table."""
    command = arguments.read(words)
    tree = config.load(command.flags['config'], command.overrides, SearchSettings)
    settings = config.parse(SearchSettings, tree)
    if settings.score.images % PARTS:
        raise ValueError(f'score.images ({settings.score.images}) must be a multiple of {PARTS}')
    workdir, grid = files.path(workdir), Grid(settings)
    files.make_folder(workdir)
    method = config.build(settings.search)
    campaign = Campaign(settings, workdir, grid, method, Networks())
    file = workdir / 'exhaustive.jsonl'
    score_whole(campaign, {row['identity'] for row in files.read_jsonl(file)}, file)
    found = {row['identity']: row for row in files.read_jsonl(file)}
    name = lambda setting: files.content_hash(campaign.scorer(setting.sampler).identity(setting))
    rows = [found[name(setting)] for _, setting in grid.points()]
    table = {
        'axes': grid.space.axes,
        'counts': [settings.score.images // k for k in (8, 4, 2, 1)],
        'metric': campaign.evaluator.describe()['titles'][minimised(settings.score.metrics)],
        'scores': [row['scores'] for row in rows],
        'eighths': [row['eighths'] for row in rows],
        'images_drawn': len(found) * settings.score.images,
        'seconds': sum(row['seconds'] for row in found.values()),
        'sampler': config.resolved(settings.sampler),
        'provenance': {'commit': provenance.describe().get('git_commit')},
    }
    files.write_json(target, files.plain(table))
    print(f'{target}: {len(rows)} settings, {table["images_drawn"]} images')


if __name__ == '__main__':
    main(*sys.argv[1:])
