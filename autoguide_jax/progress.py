"""Progress of a long loop on stderr: a live bar on a terminal, else a plain line now and then."""

import collections
import os
import sys
import time

_RATE_WINDOW_LINES = 6


def duration(seconds):
    """Return seconds as 'm:ss' or 'h:mm:ss'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'


def _width(stream):
    """Return tqdm's options for the width; a terminal that reports 0 columns would show no bar."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = 0
    return {'dynamic_ncols': True} if columns else {'ncols': 80}


class Progress:
    """Context manager that shows how far a loop is: done/total, rate, elapsed, ETA and notes.

    total, done: counts in `unit`; done > 0 after a resume, which does not enter the rate. Plain
    lines come at most once in `every` seconds, and always at the end. delay, at most `every`:
    nothing is shown before that many seconds, nor of a loop that ends before. stream and clock
    exist for tests. In a job of several processes only the first should make one.
    """

    def __init__(
        self,
        total,
        unit,
        label,
        done=0,
        *,
        stream=None,
        every=10.0,
        delay=0.0,
        clock=time.monotonic,
    ):
        self.total, self.unit, self.label, self.done = total, unit, label, done
        self._stream = sys.stderr if stream is None else stream
        self._every, self._delay, self._clock = every, delay, clock
        self._resumed = done
        self._notes = {}
        self._bar = None
        self._start = self._last_line = clock()
        self._marks = collections.deque([(self._start, done)], maxlen=_RATE_WINDOW_LINES)

    def __enter__(self):
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                initial=self.done,
                unit=f' {self.unit}',
                desc=self.label,
                file=self._stream,
                delay=self._delay,
                **_width(self._stream),
            )
        return self

    def update(self, n=1):
        """Count n more units as done."""
        self.done += n
        if self._bar is not None:
            self._bar.update(n)
        elif self._clock() - self._last_line >= self._every:
            self._write(self._clock())

    def note(self, **values):
        """Show values such as loss=0.31 with the progress from now on."""
        texts = {k: f'{v:.4g}' if isinstance(v, float) else str(v) for k, v in values.items()}
        self._notes.update(texts)
        if self._bar is not None:
            self._bar.set_postfix_str(self._noted(), refresh=False)

    def __exit__(self, kind, error, trace):
        if self._bar is not None:
            self._bar.close()
        elif self._clock() - self._start >= self._delay:
            self._write(self._clock(), final=True)

    def _noted(self):
        return ' '.join(f'{k}={v}' for k, v in self._notes.items())

    def _write(self, now, final=False):
        # The first compilation can take longer than all the rest, so a running rate is that of the
        # last few lines; the final line gives the mean.
        since, before = (self._start, self._resumed) if final else self._marks[0]
        rate = (self.done - before) / max(now - since, 1e-9)
        percent = f' ({100 * self.done / self.total:.0f} %)' if self.total else ''
        parts = [
            f'{self.done:,}/{self.total:,} {self.unit}{percent}',
            f'{rate:.4g} {self.unit}/s',
            f'elapsed {duration(now - self._start)}',
        ]
        if not final:
            eta = duration(max(self.total - self.done, 0) / rate) if rate > 0 else '?'
            parts.append(f'ETA {eta}')
        elif self.done < self.total:
            parts.append('ended early')
        parts += [self._noted()] if self._notes else []
        print(f'{self.label}: ' + ', '.join(parts), file=self._stream, flush=True)
        self._marks.append((now, self.done))
        self._last_line = now
