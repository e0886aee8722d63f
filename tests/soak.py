"""Kill the programs at random moments, again and again, and prove that nothing came of it.

    PYTHONPATH=. python tests/soak.py --kills=60 [--seed=0] [--hosts=2] [--folder=/tmp/soak]

train, sample, evaluate and sweep are killed (SIGKILL) while they start, compile, train, write a
snapshot or a checkpoint, draw, score; the same command goes on. What they leave must equal what
the same commands left that nobody killed, bit for bit: parameters, optimiser, EMAs, the rows of
every step, snapshots, sample files, result rows. A line for each kill; exit code 1 at a difference.
--hosts=2: two connected processes, killed together, as when a slice is taken away.
"""

import argparse
import contextlib
import os
import pathlib
import random
import sys
import tempfile
import time

import jax
import numpy as np
from hosts import QUICK, TINY, begin, run

from autoguide_jax import files, snapshots
from autoguide_jax.checkpoints import Checkpoints

TIMES = ('seconds', 'data_seconds', 'images_per_second', 'provenance')
# (verb, moment): how often a kill comes at it.
MOMENTS = {
    ('train', 'any'): 5, ('train', 'compiling'): 3, ('train', 'snapshot'): 4,
    ('train', 'checkpoint'): 4, ('sample', 'any'): 3, ('sample', 'writing'): 3,
    ('evaluate', 'any'): 2, ('sweep', 'any'): 3, ('sweep', 'rows'): 3,
}  # fmt: skip


def commands(whole):
    """{verb: settings}, each on the runs that nobody killed."""
    pair = [f'--config.main.run={whole / "train"}', f'--config.guide.run={whole / "train"}']
    pair += ['--config.guide.nimg=512', '--config.sampler.num_steps=4']
    sample = ['--config.sample.seeds=0-255', '--config.sample.batch_size=16']
    sweep = ['--config.sweep.weight=1.1,1.2,…,2.0', '--config.score.images=65']
    sweep += ['--config.score.batch_size=32', '--config.score.metrics=frechet,recall']
    return {
        'train': [*TINY, '--config.train.total_nimg=2048'],
        'sample': ['--config=configs/pair.py', *pair, *sample, '--config.guidance.weight=1.5']
        + ['--config.sample.formats=png,npz'],
        'evaluate': [f'--images={whole / "sample"}', *QUICK],
        'sweep': ['--config=configs/sweep.py', *pair, *sweep, *QUICK],
    }


def wait_for(moment, folder, processes, rng):
    """Return at the moment; False if the processes ended before."""
    watched = {
        'snapshot': lambda: has(folder / 'snapshots', '.tmp'),
        'checkpoint': lambda: has(folder / 'checkpoints', 'orbax-checkpoint-tmp'),
        'writing': lambda: has(folder / 'parts', '.tmp'),
        'rows': lambda: has(folder, 'results'),
        'compiling': lambda: has(folder, 'config.json'),
    }
    appears, alive = watched.get(moment), lambda: all(p.poll() is None for p in processes)
    # Of the things that appear and go, any of the first few.
    for _ in range(rng.randrange(1, 4) if moment in ('snapshot', 'checkpoint', 'writing') else 1):
        while appears and appears() and alive() and moment not in ('rows', 'compiling'):
            pass
        while appears and not appears() and alive():
            time.sleep(0.0005)
    longest = {'any': 8, 'compiling': 3, 'rows': 3}.get(moment, 0.02)
    end = time.monotonic() + rng.uniform(0, longest)
    while time.monotonic() < end and alive():
        time.sleep(0.001)
    return alive()


def has(folder, text):
    with contextlib.suppress(FileNotFoundError):
        return any(text in entry.name for entry in os.scandir(folder))
    return False


def arrays(run_dir):
    """Every array of the newest checkpoint, and its facts."""
    with Checkpoints(run_dir) as checkpoints:
        stored = checkpoints._manager.item_metadata(checkpoints.latest())['state'].tree
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored)
        state, meta = checkpoints.restore(target)
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(state)} | {
        'nimg': np.int64(meta['nimg'])
    }


def rows(file):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in files.read_jsonl(file)]


def science(verb, folder):
    """{name: content} of all that a verb leaves, except times and where it lies."""
    if verb == 'train':
        kept = [(s.nimg, s.std, s.sha256) for s in snapshots.list_snapshots(folder)]
        found = {f'state {k}': v.tobytes() for k, v in arrays(folder).items()}
        return found | {'snapshots': kept, 'metrics.jsonl': rows(folder / 'metrics.jsonl')}
    if verb == 'sample':
        # A killed writer leaves a hidden file, which nothing reads; the manifest tells when.
        paths = [p for p in folder.rglob('[!.]*') if p.is_file() and p.name != 'manifest.json']
        found = {str(p.relative_to(folder)): p.read_bytes() for p in paths}
        return found | {'content_hash': files.read_json(folder / 'manifest.json')['content_hash']}
    table = rows(folder / 'results.jsonl')
    assert table, f'{folder} holds no rows'
    return {'rows': sorted(table, key=lambda row: row['key'])}


def differences(one, other):
    """Names of what differs between two `science`."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Soak:
    """Kills that are spread over verbs and moments, and what came of each round."""

    def __init__(self, folder, seed=0, hosts=1, say=print):
        self.folder, self.rng, self.hosts, self.say = folder, random.Random(seed), hosts, say
        self.whole = folder / 'whole'
        self.commands = commands(self.whole)
        self.round = dict.fromkeys(self.commands, 0)
        self.kills, self.bad = {}, []
        for verb, settings in self.commands.items():
            run(verb, *settings, f'--workdir={self.whole / verb}', count=hosts)
        self.science = {verb: science(verb, self.whole / verb) for verb in self.commands}

    def workdir(self, verb):
        return self.folder / f'{verb}-{self.round[verb]}'

    def kill(self, verb, moment):
        """Start the command and kill it at the moment; True if it lived until then."""
        folder, start = self.workdir(verb), time.monotonic()
        cache = {'AUTOGUIDE_JAX_CACHE': 'off'} if moment == 'compiling' else {}
        settings = [*self.commands[verb], f'--workdir={folder}']
        started = begin(verb, *settings, count=self.hosts, **cache)
        hit = wait_for(moment, folder, started, self.rng)
        for process in started:
            process.kill()
        texts = [process.communicate()[1] for process in started]
        if not hit:
            wrong = [text for text, p in zip(texts, started) if p.returncode not in (0, -9)]
            self.bad += [f'{verb} ended with an error: {text[-800:]}' for text in wrong]
            self.check(verb)
            return False
        self.kills[verb, moment] = self.kills.get((verb, moment), 0) + 1
        after = time.monotonic() - start
        said = (texts[0].strip().splitlines() or ['nothing said yet'])[-1]
        self.say(f'kill {sum(self.kills.values())}: {verb}, {moment}, after {after:.1f} s: {said}')
        return True

    def check(self, verb):
        """Finish the command, compare with the whole one, and begin a new round."""
        folder = self.workdir(verb)
        run(verb, *self.commands[verb], f'--workdir={folder}', count=self.hosts)
        differ = differences(self.science[verb], science(verb, folder))
        self.bad += [f'{folder.name}: {name} differs' for name in differ]
        same = len(self.science[verb]) - len(differ)
        self.say(f'{folder.name}: {same} of {len(self.science[verb])} things are the same')
        self.round[verb] += 1

    def finish(self):
        """Finish what was begun; returns the differences, [] if all is as it should be."""
        for verb in self.commands:
            if self.workdir(verb).exists():
                self.check(verb)
        counts = ', '.join(f'{v} {m} {n}' for (v, m), n in sorted(self.kills.items()))
        self.say(f'{sum(self.kills.values())} kills ({counts}); {len(self.bad)} differences')
        return self.bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--kills', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--hosts', type=int, default=1)
    parser.add_argument('--folder', type=pathlib.Path)
    given = parser.parse_args()
    say = lambda text: print(text, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or pathlib.Path(scratch)
        soak = Soak(folder, given.seed, given.hosts, say)
        moments = list(MOMENTS)
        while sum(soak.kills.values()) < given.kills:
            soak.kill(*soak.rng.choices(moments, MOMENTS.values())[0])
        found = soak.finish()
    print('\n'.join(found))
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())
