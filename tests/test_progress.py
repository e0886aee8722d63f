"""Progress says how far, how fast and how long still, on a terminal and in a log."""

import fcntl
import io
import os
import re
import struct
import termios

import pytest

from autoguide_jax.progress import Progress, duration


class _Clock:
    now = 100.0

    def __call__(self):
        return self.now


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _run(total, done, steps, *, seconds, n=1, note=None):
    """Return the lines of a loop whose steps of n units take the given seconds each."""
    clock, stream = _Clock(), io.StringIO()
    with Progress(total, 'img', 'train', done, stream=stream, clock=clock) as progress:
        for _ in range(steps):
            clock.now += seconds
            if note:
                progress.note(**note)
            progress.update(n)
    return stream.getvalue().splitlines()


def test_plain_lines_come_every_ten_seconds_and_at_the_end():
    lines = _run(total=25, done=0, steps=25, seconds=1)
    assert [line.split(',')[0] for line in lines] == [
        'train: 10/25 img (40 %)',
        'train: 20/25 img (80 %)',
        'train: 25/25 img (100 %)',
    ]


def test_line_gives_rate_elapsed_eta_and_notes():
    line, last = _run(total=5000, done=0, steps=1, seconds=20, n=1000, note={'loss': 0.123456})
    assert line == ('train: 1,000/5,000 img (20 %), 50 img/s, elapsed 0:20, ETA 1:20, loss=0.1235')
    assert last.endswith('50 img/s, elapsed 0:20, ended early, loss=0.1235')


def test_images_seen_before_a_resume_do_not_enter_the_rate():
    line, _ = _run(total=2000, done=1000, steps=1, seconds=10, n=100)
    assert '1,100/2,000' in line
    assert ' 10 img/s' in line
    assert 'ETA 1:30' in line


def test_rate_forgets_a_slow_first_step():
    clock, stream = _Clock(), io.StringIO()
    with Progress(1000, 'img', 'train', stream=stream, clock=clock) as progress:
        clock.now += 500
        progress.update(10)
        for _ in range(10):
            clock.now += 10
            progress.update(50)
    *_, line, last = stream.getvalue().splitlines()
    assert ' 5 img/s' in line
    assert f' {510 / 600:.4g} img/s' in last


def test_loop_without_progress_has_no_eta_and_no_error():
    clock, stream = _Clock(), io.StringIO()
    with Progress(10, 'img', 'train', stream=stream, clock=clock) as progress:
        clock.now += 30
        progress.update(0)
    assert 'ETA ?' in stream.getvalue()


def test_error_inside_the_loop_passes_and_leaves_a_last_line():
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress(10, 'img', 'train', stream=stream) as progress:
        progress.update(3)
        raise KeyError('stop')
    assert re.match(r'train: 3/10 img .*ended early\n$', stream.getvalue())


def test_terminal_gets_one_live_bar():
    stream = _Terminal()
    with Progress(10, 'img', 'train', 4, stream=stream) as progress:
        progress.note(loss=0.5)
        progress.update(6)
    last = stream.getvalue().rstrip('\n').split('\r')[-1]
    assert 'train: 100%' in last
    assert '10/10' in last
    assert 'loss=0.5' in last


def terminal_output(reader):
    """What a terminal has received since; b'' when the writer has gone, an error on Linux."""
    try:
        return os.read(reader, 65536)
    except OSError:
        return b''


@pytest.mark.parametrize('columns', [0, 60])
def test_bar_fits_a_real_terminal_even_one_that_does_not_know_its_width(columns):
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    with (
        os.fdopen(writer, 'w') as stream,
        Progress(10, 'img', 'train', stream=stream) as progress,
    ):
        progress.update(10)
        progress.note(loss=0.5)
    output = b''.join(iter(lambda: terminal_output(reader), b'')).decode()
    os.close(reader)
    lines = re.split(r'[\r\n]+', output)
    assert any('10/10' in line for line in lines)
    assert max(map(len, lines)) <= (columns or 80)


@pytest.mark.parametrize(
    ('seconds', 'text'), [(0, '0:00'), (59.9, '0:59'), (61, '1:01'), (3600 * 30 + 62, '30:01:02')]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
