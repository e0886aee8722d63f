"""Signals become requests, reach into native waits, and end the process with the right code."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import pytest

from autoguide_jax import stop

# Runs a body under watch() the way __main__ does: Stopped ends the process through os._exit.
_FRAME = """
import os, sys, time
from autoguide_jax import stop
try:
    with stop.watch():
        print('ready', flush=True)
{body}
except stop.Stopped as stopped:
    print(stopped, file=sys.stderr, flush=True)
    os._exit(128 + stopped.signum)
print('finished', flush=True)
"""


def _start(body):
    code = _FRAME.format(body=textwrap.indent(textwrap.dedent(body), ' ' * 8))
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'ready\n'
    return process


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_process_whose_work_never_returns(signum):
    process = _start('stop.interruptible(lambda: time.sleep(60), doing="compiling")')
    process.send_signal(signum)
    # The work would last 60 s; 20 s only says that nobody waited for it.
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signum
    assert f'stopped by {signal.Signals(signum).name} while compiling' in errors


def test_a_loop_saves_before_it_stops():
    process = _start("""
        for step in range(10_000):
            time.sleep(0.01)
            if stop.requested():
                stop.check('training', saved=f'by {stop.requested()}')
    """)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert errors.endswith('stopped by SIGTERM while training; saved by SIGTERM\n')


def test_second_ctrl_c_kills_a_loop_that_does_not_listen():
    process = _start("""
        while not stop.requested():
            time.sleep(0.01)
        print('asked', flush=True)
        time.sleep(60)
    """)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == 'asked\n'
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT


def test_second_sigterm_does_not_break_the_saving_that_the_first_began():
    process = _start("""
        while not stop.requested():
            time.sleep(0.01)
        print('asked', flush=True)
        time.sleep(1)
    """)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == 'asked\n'
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, 'finished\n')


def test_interruptible_returns_the_result_and_raises_the_error_of_its_function():
    def fail():
        raise KeyError('inside')

    with stop.watch():
        threads = []
        assert stop.interruptible(lambda: threads.append(threading.current_thread()) or 7) == 7
        assert threads[0] is not threading.main_thread()
        with pytest.raises(KeyError, match='inside'):
            stop.interruptible(fail)


def test_interruptible_outside_watch_is_a_plain_call():
    assert stop.interruptible(threading.current_thread) is threading.main_thread()


def test_what_takes_long_says_so(monkeypatch):
    heard = threading.Event()
    write = lambda text: heard.set() if 'compiling: 0 s' in text else None
    monkeypatch.setattr(stop, '_TELL_SECONDS', 0.0)
    monkeypatch.setattr(stop.sys, 'stderr', types.SimpleNamespace(write=write, flush=lambda: None))
    with stop.watch():
        assert stop.interruptible(lambda: heard.wait(20))


def test_watch_restores_handlers_and_forgets_the_request():
    before = signal.getsignal(signal.SIGTERM)
    with stop.watch():
        with stop.watch():
            os.kill(os.getpid(), signal.SIGTERM)
        while not stop.requested():
            time.sleep(0.001)
        with pytest.raises(stop.Stopped) as caught:
            stop.interruptible(lambda: pytest.fail('must not start'), doing='sampling')
        assert (caught.value.doing, caught.value.signum) == ('sampling', signal.SIGTERM)
    assert stop.requested() is None
    stop.check('nothing')
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_that_share_requests_stop_together(monkeypatch):
    told, elsewhere = [], []
    monkeypatch.setattr(stop._State, 'tell', lambda: told.append(True))
    monkeypatch.setattr(stop._State, 'heard', lambda: elsewhere and 'a stop of process 1')
    monkeypatch.setattr(stop, '_LISTEN_SECONDS', 0.0)
    with stop.watch():
        stop.check('working')
        elsewhere.append(True)
        with pytest.raises(stop.Stopped, match='SIGTERM while working'):
            stop.check('working')
        assert not told  # what was heard is not told again
    elsewhere.clear()
    with stop.watch():
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested() == 'SIGTERM'
        end = time.monotonic() + 5
        while not told and time.monotonic() < end:
            time.sleep(0.01)
    assert told == [True]
