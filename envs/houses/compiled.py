"""How the kernels of the houses are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """numba's njit; the machine code is kept on disk where a folder can be written to. `.py_func` is the original."""
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder for the cache
        return njit(error_model="numpy")(function)
