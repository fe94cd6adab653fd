"""A building of a few viewpoints for hand-worked tests."""

import numpy as np

from envs.scenes import Scene


def corridor(length=6, step_m=2.0, scan="corridor", excluded=(), height_m=None) -> Scene:
    """Viewpoints `{scan}0`, `{scan}1`, ... in a row along +x, each joined to the next, `step_m` apart."""
    position_m = np.zeros((length, 3))
    position_m[:, 0] = step_m * np.arange(length)
    if height_m is not None:
        position_m[:, 2] = height_m
    pose = np.tile(np.eye(4), (length, 1, 1))
    pose[:, :3, 3] = position_m
    included = np.array([i not in excluded for i in range(length)])
    adjacency = np.eye(length, k=1, dtype=bool) | np.eye(length, k=-1, dtype=bool)
    adjacency &= included[:, None] & included
    viewpoints = tuple(f"{scan}{i}" for i in range(length))
    return Scene(scan, viewpoints, included, pose, np.full(length, 1.5), adjacency)
