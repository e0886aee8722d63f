"""How this process takes memory and cores from the system, and how it leaves."""

import atexit
import logging
import os
import sys


def use_huge_pages():
    """Start this process again with malloc on huge pages (Linux with glibc; no effect elsewhere).

    XLA takes its buffers anew at every call, and 4 KiB pages make that a fifth of a training step
    on CPU. A GLIBC_TUNABLES that names glibc.malloc.hugetlb already is left alone.
    """
    tunables = os.environ.get('GLIBC_TUNABLES', '')
    if sys.platform == 'linux' and 'glibc.malloc.hugetlb' not in tunables:
        os.environ['GLIBC_TUNABLES'] = f'{tunables}:glibc.malloc.hugetlb=1'.lstrip(':')
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def cpu_devices():
    """How many devices the processor is split into: one per core this process may use, at most 8.

    Convolutions of small networks run about twice as fast on two one-core devices as on one device
    of two cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return min(cores or 1, 8)


def leave_after(main):
    """Call main() and leave with the exit code that it returns, after the exit functions.

    Python is not taken apart: threads that libraries keep in C++ (those of array_record, gRPC and
    curl) outlive their modules, and now and then abort a process whose work is done, which a
    launcher takes for a failure. So files that are left open are not written out. What main()
    raises ends the process as ever.
    """
    ended = []

    def leave():
        if ended:
            logging.shutdown()
            flushed = flush()
            os._exit(ended[0] or flushed)

    # Exit functions run in reverse order: the libraries' own, registered later, come before.
    atexit.register(leave)
    ended.append(main())
    sys.exit(ended[0])


def flush():
    """Write out what was printed, if anybody is there to read it; return the exit code of that."""
    try:
        if sys.stdout and not sys.stdout.closed:
            sys.stdout.flush()
    except BrokenPipeError:
        return 141
    except OSError as error:
        print(f'error: standard output: {error}', file=sys.stderr)
        return 2
    return 0
