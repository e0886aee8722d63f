"""What the steps of a training run have told since the last row of metrics.jsonl."""

import time

import jax
import numpy as np

from autoguide_jax import files, processes
from autoguide_jax.train_step import SIGMA_BINS


class Recent:
    """What the steps since the last row of metrics.jsonl reported; arrays stay on the device."""

    def __init__(self, batch_size, folders, stop_at_nonfinite):
        self.batch_size, self.stop_at_nonfinite = batch_size, stop_at_nonfinite
        self.folders = folders
        self.metrics, self.nimg, self.unchecked = [], 0, None
        self.start, self.waited = time.monotonic(), 0.0

    def add(self, nimg, metrics, names):
        """Take one step's metrics, and look at those of the step before, which is done by now."""
        self.check(names)
        self.nimg, self.unchecked = nimg, metrics
        self.metrics.append(metrics)

    def check(self, names):
        """Stop at a non-finite gradient: the update of that step was not applied."""
        if self.unchecked is None:
            return
        for i, folder in enumerate(self.folders):
            bad, sigma, loss = (
                np.atleast_1d(self.unchecked[name])[i] for name in ('bad', 'bad_sigma', 'loss')
            )
            if bad >= 0 and self.stop_at_nonfinite:
                where = 'with the largest, finite loss at' if np.isfinite(loss) else 'at'
                raise FloatingPointError(
                    f'{folder}: non-finite gradient in step {self.nimg // self.batch_size - 1} '
                    f'(image {self.nimg - self.batch_size}), first in {names[bad]}, {where} noise '
                    f'level {sigma:.4g}. The update was not applied. Lower optim.lr, or set '
                    'train.nonfinite=zero to replace such entries by 0 as the paper does.'
                )
        self.unchecked = None

    def unlogged(self):
        """What the next row will tell of the steps so far, for a checkpoint."""
        self.metrics = jax.device_get(self.metrics)
        times = {'seconds': time.monotonic() - self.start, 'waited': self.waited}
        return {'metrics': self.metrics, **times}

    def go_on(self, metrics, seconds, waited=0.0):
        """Take back what `unlogged` gave."""
        self.metrics = [{k: np.asarray(v) for k, v in m.items()} for m in metrics]
        self.start, self.waited = time.monotonic() - seconds, waited

    def write(self):
        """Append the row of every run to its metrics.jsonl; return the mean loss."""
        seen = jax.device_get(self.metrics)
        seconds, self.start = time.monotonic() - self.start, time.monotonic()
        self.metrics, losses = [], []
        for i, folder in enumerate(self.folders):
            several = np.ndim(seen[0]['loss']) > 0
            own = [{k: v[i] for k, v in m.items()} for m in seen] if several else seen
            row = self.row(own, seconds)
            losses.append(row['loss'])
            if processes.is_main():
                files.append_jsonl(folder / 'metrics.jsonl', row)
        self.waited = 0.0
        return float(np.mean(losses))

    def row(self, seen, seconds):
        """One row of metrics.jsonl: means since the last row, the weighted error also by noise."""
        mean = lambda name: float(np.mean([m[name] for m in seen], dtype=np.float64))
        error = np.sum([m['error_sum'] for m in seen], axis=0, dtype=np.float64)
        count = np.sum([m['count'] for m in seen], axis=0, dtype=np.float64)
        images = len(seen) * self.batch_size
        return {
            'nimg': self.nimg,
            'step': self.nimg // self.batch_size,
            'loss': mean('loss'),
            'error': float(error.sum() / count.sum()),
            'error_by_sigma': {
                name: float(e / n) if n else None for name, e, n in zip(bin_names(), error, count)
            },
            'learning_rate': float(seen[-1]['lr']),
            'grad_norm': mean('grad_norm'),
            'nonfinite_steps': int(np.sum([m['bad'] >= 0 for m in seen])),
            'images': images,
            'images_per_second': images / max(seconds, 1e-9),
            'seconds': seconds,
            'data_seconds': self.waited,
        }


def bin_names():
    """Names of the noise-level bins: '≤0.1', '0.1–0.25', …, '>10'."""
    edges = [f'{edge:g}' for edge in SIGMA_BINS]
    inner = [f'{a}–{b}' for a, b in zip(edges, edges[1:])]
    return [f'≤{edges[0]}', *inner, f'>{edges[-1]}']
