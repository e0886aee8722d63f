"""What every study keeps: its folder, study.json, and where the time goes."""

import contextlib
import shlex
import sys
import time

import numpy as np

from autoguide_jax import config, files, provenance


class Record:
    """A study in its folder WORKDIR. A subclass adds to `describe` what its report needs."""

    def __init__(self, settings, workdir):
        self.settings, self.workdir = settings, files.path(workdir)
        self.file = self.workdir / 'study.json'
        self.old = files.read_json(self.file) if self.file.exists() else {}
        if self.old.get('settings') != files.plain(config.to_dict(settings)):
            self.old.pop('rows', None)  # those of a finished study, but of another one
        self.seconds = dict(self.old.get('seconds', {}))
        self.created = self.old.get('created') or time.strftime('%Y-%m-%d %H:%M:%S')
        self.finished = False

    @contextlib.contextmanager
    def clock(self, phase):
        """Adds the time inside the with block to this phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            passed = time.monotonic() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + passed

    def describe(self):
        """The fields of study.json."""
        return {
            'title': self.settings.title,
            'commands': [f'python -m autoguide_jax {shlex.join(sys.argv[1:])}'],
            'created': self.created,
            'order': list(self.settings.arms),
            'settings': config.to_dict(self.settings),
            'provenance': provenance.describe(),
            'seconds': self.seconds,
        }

    def write(self):
        """study.json: what is known; what is not known yet stays as it was."""
        files.write_json(self.file, files.plain({**self.old, **self.describe()}))


def mean_and_spread(values, places, error=None):
    """'mean ± standard deviation' of repeats (n − 1 below the line), as text.

    error: the standard error of the value, shown where there is one value.
    """
    spread = np.std(values, ddof=1) if len(values) > 1 else error
    text = '' if spread is None else f' ± {spread:.{places}f}'
    return f'{np.mean(values):.{places}f}{text}'
