"""Rank guides for a main network, and predict w, before any image is sampled (guide_theory.py).

    python -m autoguide_jax guides --main=runs/x/main --candidates='runs/x/guide,runs/x/early' \
        --reference=runs/x/big --held_out=split=test --workdir=out/guides

    WORKDIR/guides.jsonl    a row per candidate, never computed twice
    WORKDIR/guides.json     what was compared, the keys of its rows, best first

The reference stands for the truth and is not: a candidate that shares the reference's own errors
looks better than it is. w_data, which knows no reference, is compared with w_ls to see that.
"""

import shlex
import sys
import time

from autoguide_jax import config, files, guide_theory, health, provenance, stop
from autoguide_jax.generation import forward_flops
from autoguide_jax.guides.candidates import cast, identity, label, same_run
from autoguide_jax.guides.errors import Pass
from autoguide_jax.guides.held_out import HeldOut, levels_of, say
from autoguide_jax.guides.ranking import by_level, judge_reference, notes, overall, rank, table
from autoguide_jax.guides.settings import EXACT, Settings
from autoguide_jax.progress import Progress
from autoguide_jax.refs import NetworkRef, described
from autoguide_jax.snapshots import build_denoiser

__all__ = ['Settings', 'main']


def main(settings, workdir):
    """Rank the candidates into workdir/guides.json; returns the table, best first.

    Errors: ValueError for runs, moments, EMA lengths, data or levels that cannot be compared.
    """
    workdir = files.path(workdir)
    people = cast(settings)
    data, sigmas = HeldOut(settings, people.main), levels_of(settings)
    for line in (*people.left_out, *data.notes(settings.images)):
        say(f'note: {line}')
    with stop.watch():
        health.quick(workdir, config.resolved(settings))
        rows = measure(settings, workdir, people, data, sigmas)
        warnings = list(judge_reference(rows[0]))
        record(settings, workdir, people, data, sigmas, rows, warnings)
    say_all(warnings, rows)
    say(next_command(settings, rows))
    return table(rows)


def measure(settings, workdir, people, data, sigmas):
    """The rows of all candidates; those in guides.jsonl are not computed again."""
    file = workdir / 'guides.jsonl'
    done = {row['key']: row for row in files.read_jsonl(file)}
    basis = [identity(people.main), identity(people.reference), data.describe(), data.count]
    basis += [sigmas.tolist(), settings.seed]
    keys = [files.content_hash([*basis, identity(ref)]) for ref in people.candidates]
    todo = [(k, ref) for k, ref in zip(keys, people.candidates) if k not in done]
    if todo:
        work = Pass(settings, data, sigmas, people)
        first = [ref for ref in (people.main, people.reference) if ref]
        work.networks.prepare([*first, *(ref for _, ref in todo)])
        runs = {ref.run for ref in (people.main, *(ref for _, ref in todo))}
        forward = {run: forward_flops(described(run).config) for run in runs}
        sigma_data = build_denoiser(described(people.main.run).config).sigma_data
        weights = guide_theory.loss_weight(sigmas, sigma_data)
        with Progress(len(todo) * data.count, 'images', f'guides {workdir.name}') as bar:
            for key, ref in todo:
                found = describe(work.of(ref, bar), sigmas, weights)
                candidate = {'run': ref.run, 'nimg': ref.nimg, 'std': ref.std}
                row = {'key': key, 'candidate': candidate, **found}
                row['cost'] = cost(people.main, ref, forward)
                files.append_jsonl(file, row)
                done[key] = row
    return [done[key] for key in keys]


def describe(moments, sigmas, weights):
    """What the row of a candidate says of its Moments [n, k]; weights: λ(σ) [k]."""
    levels, total = by_level(moments), overall(moments, weights)
    return files.plain(
        {
            'overall': total,
            'levels': {'sigma': sigmas, 'lambda': weights, **levels},
        }
    )


def cost(main, ref, forward):
    """FLOPs relative to main's: of an evaluation, and of training (nimg × it), beside main's own.

    main's own past costs no training more. forward: run → FLOPs of one evaluation.
    """
    evaluation, paid = forward[ref.run] / forward[main.run], main.nimg
    nimg = max(0, ref.nimg - paid) if same_run(ref, main) else ref.nimg
    return {'evaluation': evaluation, 'training': evaluation * nimg / paid, 'nimg': ref.nimg}


def record(settings, workdir, people, data, sigmas, rows, warnings):
    """guides.json: what a reader of the rows must know of the whole."""
    reference = EXACT if people.reference is None else label(people.reference)
    facts = {
        'commands': [f'python -m autoguide_jax {shlex.join(sys.argv[1:])}'],
        'created': time.strftime('%Y-%m-%d %H:%M:%S'),
        'settings': config.resolved(settings),
        'provenance': provenance.describe(),
        'main': label(people.main),
        'reference': reference,
        'data': data.describe(),
        'images': data.count,
        'sigmas': sigmas,
        'left_out': list(people.left_out),
        'warnings': [*data.notes(settings.images), *warnings],
        'rows': [row['key'] for row in rank(rows)],
    }
    files.write_json(workdir / 'guides.json', files.plain(facts))


def say_all(warnings, rows):
    """Print the warnings, and each note once with the candidates that it is about."""
    for line in warnings:
        say(f'warning: {line}')
    about = {}
    for row in rank(rows):
        for line in notes(row):
            about.setdefault(line, []).append(label(NetworkRef(**row['candidate'])))
    for line, who in about.items():
        say(f'{who[0]}{f" and {len(who) - 1} more" if who[1:] else ""}: {line}')


def next_command(settings, rows):
    """What to type next: a sweep of w around the prediction for the best candidate."""
    best = rank(rows)[0]
    c, w = best['candidate'], best['overall']['weight']
    around = sorted(
        {1.0, *(round(max(1.0, 1 + (w - 1) * f), 2) for f in (0.5, 0.75, 1, 1.25, 1.5))}
        if w
        else {1.0, 1.5, 2.0, 2.5, 3.0}
    )
    given = {
        'main.run': settings.main,
        'main.std': f'{settings.main_std:g}',
        'guide.run': c['run'],
        'guide.std': f'{c["std"]:g}',
        'guide.nimg': c['nimg'],
        'sweep.weight': ','.join(f'{x:g}' for x in around),
    }
    if settings.main_nimg:
        given['main.nimg'] = settings.main_nimg
    flags = ' '.join(f'--config.{name}={shlex.quote(str(v))}' for name, v in given.items())
    return f'next: python -m autoguide_jax sweep --config=configs/sweep.py {flags} --workdir=…'
