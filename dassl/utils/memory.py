"""How this process gets its memory from the system."""
from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt
LARGEST = 2**31 - 1
STEP = 256 << 20  # bytes


def keep_freed_memory() -> bool:
    """Let this process reuse the large blocks that it frees, instead of handing them to the system; whether it worked.

    On Linux every tensor above 32 MB (less at first) is a mapping of its own: fresh from the kernel when it is made,
    its pages zeroed one by one as they are first touched, and given back when it is freed.  A network on a CPU makes
    and frees dozens of them in a pass, and up to 40 % of its time goes there.  The price: memory stays at its peak
    until the process ends.  It changes the whole process, so it is for programs to call, not for libraries.
    Elsewhere than on glibc, nothing happens.  (The same from outside: MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=...)
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    settings = ((MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, STEP))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])
