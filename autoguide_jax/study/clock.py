"""Where the time of a study goes."""

import time


class Clock:
    """Adds the time inside its with block to seconds[phase]."""

    def __init__(self, seconds, phase):
        self.seconds, self.phase = seconds, phase

    def __enter__(self):
        self.start = time.monotonic()

    def __exit__(self, *_):
        passed = time.monotonic() - self.start
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + passed
