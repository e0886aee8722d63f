"""Clean exits: SIGTERM and Ctrl-C become a request that loops look at between two pieces of work.

Under `watch()` the first signal only sets a flag. A loop asks `requested()`, saves, and calls
`check(doing, saved)`, which raises `Stopped`. Python runs signal handlers between two bytecodes of
the main thread, so minutes of compilation inside XLA would hide the signal: `interruptible(fn)`
runs such work in a daemon thread. A second Ctrl-C kills at once. Processes that `share` their
requests stop together: a signal to one of them is one to all.
"""

import contextlib
import os
import signal
import sys
import threading
import time

_WATCHED = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 0.05
_LISTEN_SECONDS = 1.0
_TELL_SECONDS = 20.0


class _State:
    """What the handlers of this process know: whether they are installed, and the first signal.

    tell, heard: how other processes learn of it, and this one of theirs.
    """

    watching = False
    signum = None
    hung = False
    tell = heard = None
    listened = -_LISTEN_SECONDS


class Stopped(Exception):
    """A signal asked this process to end while it was doing something.

    doing: what was interrupted; saved: what is newly safe on disk, or ''; signum: the signal.
    """

    def __init__(self, doing, saved='', signum=signal.SIGTERM):
        self.doing, self.saved, self.signum = doing, saved, int(signum)
        note = f'; saved {saved}' if saved else ''
        super().__init__(f'stopped by {signal.Signals(signum).name} while {doing}{note}')


class Passing(OSError):
    """What may pass by itself, such as an outage: the exit code is 75, and a restart may help."""


class Hung(Passing):
    """Work did not end in its time. Something still waits for it: leave through os._exit."""

    def __init__(self, *words):
        give_up()
        super().__init__(*words)


def _receive(signum, frame):
    if _State.signum is None:
        _State.signum = signum
        name = signal.Signals(signum).name
        # os.write: a handler may interrupt a print, and buffered streams are not re-entrant.
        os.write(2, f'\n{name}: stopping at the next safe point; Ctrl-C kills at once\n'.encode())
        if _State.tell:
            # In a thread: the signal may have come in the middle of a call to the same service.
            threading.Thread(target=_State.tell, name='tell of the stop', daemon=True).start()
    elif signum == signal.SIGINT:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


@contextlib.contextmanager
def watch():
    """Turn SIGTERM and SIGINT into requests inside this context; for the main thread only."""
    if _State.watching:
        yield
        return
    before = {signum: signal.signal(signum, _receive) for signum in _WATCHED}
    _State.watching, _State.signum = True, None
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _State.watching, _State.signum = False, None


def share(tell, heard):
    """Stop together with others: tell() passes a signal on, heard() returns text if one was."""
    _State.tell, _State.heard = tell, heard


def requested():
    """Return the name of the signal that asked this process to stop ('SIGTERM'), or None."""
    _listen()
    return None if _State.signum is None else signal.Signals(_State.signum).name


def _listen():
    if not (_State.heard and _State.watching) or _State.signum is not None:
        return
    if time.monotonic() - _State.listened >= _LISTEN_SECONDS:
        _State.listened = time.monotonic()
        if what := _State.heard():
            _State.signum = signal.SIGTERM
            os.write(2, f'\n{what}: stopping at the next safe point\n'.encode())


def check(doing, saved=''):
    """Raise Stopped if a stop was requested; `doing` and `saved` complete its message."""
    if requested():
        raise Stopped(doing, saved, _State.signum)


def end(doing, saved=''):
    """Raise Stopped, whether the request came here or to another process."""
    raise Stopped(doing, saved, _State.signum or signal.SIGTERM)


def give_up():
    """Let this process end without waiting for what hangs, here or on a host it is joined with."""
    _State.hung = True


def hung():
    """Whether something hangs, so that an ordinary exit would wait for it."""
    return _State.hung


class _Outcome:
    """Keeps what the body of a with statement returned or raised, and tells that it ended."""

    def __init__(self):
        self.done = threading.Event()
        self.value = self.error = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.error = error
        self.done.set()
        return True

    def get(self):
        """What fn returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


def interruptible(fn, doing='compiling'):
    """Return fn(), or raise Stopped within about 0.1 s of a signal even if fn sits in native code.

    fn runs in a daemon thread that is abandoned when the process is asked to stop, so it must not
    write files. JAX contexts are per thread: enter `jax.default_device` and the like inside fn.
    What fn raises is raised here. Outside watch(), and in other threads, it simply calls fn.
    What takes long says so on stderr, now and then.
    """
    if not _State.watching or threading.current_thread() is not threading.main_thread():
        return fn()
    check(doing)
    outcome, start = _begin(fn, doing), time.monotonic()
    told = start
    while not outcome.done.wait(_POLL_SECONDS):
        check(doing)
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            print(f'{doing}: {told - start:.0f} s', file=sys.stderr, flush=True)
    return outcome.get()


def limited(fn, seconds, late, doing='waiting'):
    """Return fn(), or raise Hung(late) after this many seconds even if fn sits in native code.

    What hosts do together hangs when one of them is missing. As with interruptible, fn runs in a
    daemon thread, which is abandoned then or at a signal.
    """
    check(doing)
    outcome, end = _begin(fn, doing), time.monotonic() + seconds
    while not outcome.done.wait(_POLL_SECONDS):
        check(doing)
        if time.monotonic() > end:
            raise Hung(late)
    return outcome.get()


def _begin(fn, doing):
    """The _Outcome, to come, of fn in a daemon thread."""
    outcome = _Outcome()

    def work():
        with outcome:
            outcome.value = fn()

    threading.Thread(target=work, name=doing, daemon=True).start()
    return outcome
