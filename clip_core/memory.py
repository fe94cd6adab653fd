"""Large blocks of memory stay with the process between uses."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 32 << 20
"""glibc takes no more than half a heap."""


def keep_large_blocks() -> bool:
    """Tell glibc's malloc not to give blocks of up to 32 MB back to the kernel when they are freed.

    A training step on the CPU frees and asks for the same large tensors again; without this every one of them is mapped
    and zeroed anew, page by page, which took a third of the follower's iteration here (docs/log.md). Elsewhere than on
    Linux with glibc it does nothing. Returns whether it took effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
