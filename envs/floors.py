"""Floors of a building, found from the heights of its viewpoints."""

import numpy as np


def find_floors(height_m: np.ndarray) -> np.ndarray:
    """Floors of a building: the heights at which viewpoints crowd.

    Args:
        height_m: [N] z of the viewpoints in metres.

    Returns:
        [F] z of each floor's viewpoints in metres, rising: the maxima of their density (Gaussian of 0.4 m) that hold
        about 4 % of them and lie 1.9 m from a denser one. Viewpoints on stairs belong to no floor in particular.
    """
    grid_m = np.arange(height_m.min() - 0.5, height_m.max() + 0.5, 0.05)
    density = np.exp(-0.5 * ((grid_m[:, None] - height_m) / 0.4) ** 2).sum(axis=1)
    peaks = 1 + np.flatnonzero((density[1:-1] >= density[:-2]) & (density[1:-1] > density[2:]))
    levels: list[float] = []
    for peak in sorted(peaks.tolist(), key=lambda i: -density[i]):
        apart = all(abs(grid_m[peak] - level) >= 1.9 for level in levels)
        if apart and (not levels or density[peak] >= max(2.5, 0.04 * len(height_m))):
            levels.append(float(grid_m[peak]))
    return np.array(sorted(levels))
