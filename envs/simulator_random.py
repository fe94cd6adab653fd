"""The random numbers with which the original draws start viewpoints: libstdc++'s default engine.

`std::default_random_engine` is minstd_rand0 (Park, Miller 1988): x = 16807 x mod (2^31 - 1). The two distributions
follow libstdc++'s `uniform_int_distribution` and `generate_canonical<double, 53>` for this engine.
"""

from __future__ import annotations

_MODULUS = 2147483647
_RANGE = _MODULUS - 2


class MinstdRandom:
    """State: one integer. `seed` as in C++: modulo 2^64, where 0 counts as 1."""

    def __init__(self, seed: int = 1) -> None:
        self._x = seed % 2**64 % _MODULUS or 1

    def _next(self) -> int:
        self._x = self._x * 16807 % _MODULUS
        return self._x - 1

    def below(self, n: int) -> int:
        """An integer in [0, n), n from 1 to 2^31 - 3."""
        scaling = _RANGE // n
        while True:
            drawn = self._next()
            if drawn < n * scaling:
                return drawn // scaling

    def uniform(self, high: float) -> float:
        """A float in [0, high)."""
        low, span = self._next(), float(_RANGE + 1)
        return (low + self._next() * span) / (span * span) * high
