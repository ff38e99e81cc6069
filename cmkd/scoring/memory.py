"""Memory that is given back and asked for again at every step costs more than the arithmetic."""

import ctypes

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1


def keep_freed() -> bool:
    """Let glibc keep freed memory for the next step, and say whether it could be told so.

    By default each large tensor is mapped anew and its pages are zeroed on first touch: for the
    small CNN on one processor core (batches of 32 x 128 frames x 64 bins) that was a quarter of the
    time of a step, and 17,000 page faults. No bit of a result depends on it.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
