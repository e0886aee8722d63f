"""How this process takes memory from the system."""

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
