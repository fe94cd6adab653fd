"""What can be set on a MatterSim simulator before it starts."""

# ruff: noqa: N802 (the names are the binding's)

from __future__ import annotations

import math
import operator
import warnings
from pathlib import Path
from typing import Any

from envs.simulator_random import MinstdRandom


class SimulatorError(ValueError, RuntimeError, IndexError):
    """A call that the simulator cannot follow; says what was found and what was expected.

    The C++ exceptions of the original reach Python as one or another of the three base classes.
    """


class SimulatorSettings:
    """The `set` methods of the original, with its defaults.

    320 x 240 pixels, vertical field of view 0.8 rad, elevation within +-0.94 rad, continuous views, restricted
    navigation, graphs in ./connectivity, images in ./data/v1/scans, batch size 1, seed 1, rendering on, depth off, no
    preloading, the last 200 panoramas kept.
    """

    def __init__(self) -> None:
        self._width, self._height, self._vfov_rad = 320, 240, 0.8
        self._elevation_limits_rad = (-0.94, 0.94)
        self._rendering, self._depth = True, False
        self._preloading, self._cache_size = False, 200
        self._discretized, self._restricted = False, True
        self._connectivity, self._dataset = Path("./connectivity"), Path("./data/v1/scans")
        self._batch_size = 1
        self._random = MinstdRandom(1)
        self._initialized = False

    def setDatasetPath(self, path: Any) -> None:
        """Folder with `{scan}/matterport_skybox_images/`; v0.1's, which has `v1/scans/` above them, is known too."""
        if self._may_set("setDatasetPath"):
            self._dataset = Path(path)

    def setNavGraphPath(self, path: Any) -> None:
        """Folder of the `{scan}_connectivity.json` files."""
        if self._may_set("setNavGraphPath"):
            self._connectivity = Path(path)

    def setRenderingEnabled(self, value: bool) -> None:
        """On by default: `rgb` of every state is then an image, and the dataset path must hold skyboxes."""
        if self._may_set("setRenderingEnabled"):
            self._rendering = bool(value)

    def setDepthEnabled(self, value: bool) -> None:
        """Off by default: `depth` of every state; it needs rendering and `{viewpoint}_skybox_depth_small.png`."""
        if self._may_set("setDepthEnabled"):
            self._depth = bool(value)

    def setPreloadingEnabled(self, value: bool) -> None:
        """Read every skybox at `init`/`initialize` and keep it, 6.5 MB each (9.8 MB with depth).

        Those of the scans in scans.txt of which the dataset path has a folder; the original wants all of scans.txt.
        """
        if self._may_set("setPreloadingEnabled"):
            self._preloading = bool(value)

    def setCacheSize(self, size: int) -> None:
        """How many panoramas are kept in memory, from 1; simulators with the same dataset path and size share them."""
        size = whole(size, "setCacheSize")
        if size < 1:
            raise SimulatorError(f"setCacheSize: found {size}, expected at least 1")
        if self._may_set("setCacheSize"):
            self._cache_size = size

    def setDiscretizedViewingAngles(self, value: bool) -> None:
        """Views at 12 headings and 3 elevations, 30 degrees apart; makeAction then turns by sign."""
        if self._may_set("setDiscretizedViewingAngles"):
            self._discretized = bool(value)

    def setRestrictedNavigation(self, value: bool) -> None:
        """True (default): only viewpoints within the horizontal field of view are navigable. False: all neighbours."""
        if self._may_set("setRestrictedNavigation"):
            self._restricted = bool(value)

    def setBatchSize(self, size: int) -> None:
        """The number of agents, from 1."""
        size = whole(size, "setBatchSize")
        if size < 1:
            raise SimulatorError(f"setBatchSize: found {size}, expected at least 1")
        if self._may_set("setBatchSize"):
            self._batch_size = size

    def setSeed(self, seed: int) -> None:
        """Seed for start viewpoints that are not given; the same numbers as libstdc++'s default engine."""
        if self._may_set("setSeed"):
            self._random = MinstdRandom(whole(seed, "setSeed"))

    def setCameraResolution(self, width: int, height: int) -> None:
        """Pixels. Takes effect at the next action, after `initialize` too (as in the original)."""
        width, height = whole(width, "setCameraResolution"), whole(height, "setCameraResolution")
        if width < 1 or height < 1:
            raise SimulatorError(f"setCameraResolution: found {width} x {height}, expected pixels from 1")
        self._width, self._height = width, height
        self._camera_changed()

    def setCameraVFOV(self, vfov: float) -> None:
        """Vertical field of view in radians. Takes effect at the next action, after `initialize` too."""
        vfov_rad = number(vfov, "setCameraVFOV")
        if not 0.0 < vfov_rad < math.pi:
            raise SimulatorError(
                f"setCameraVFOV: found {vfov_rad}, expected radians in (0, pi), as math.radians(60); are these degrees?"
            )
        self._vfov_rad = vfov_rad
        self._camera_changed()

    def setElevationLimits(self, low: float, high: float) -> bool:
        """Limits in radians for continuous views; False, and no change, unless -pi/2 < low < 0 < high < pi/2."""
        low, high = float(low), float(high)
        if not -math.pi / 2.0 < low < 0.0 < high < math.pi / 2.0:
            return False
        self._elevation_limits_rad = (low, high)
        return True

    def _camera_changed(self) -> None:
        """What the simulator must do about a new camera; called by the two setters that work after `initialize`."""

    def _may_set(self, method: str) -> bool:
        if self._initialized:
            warnings.warn(
                f"{method} after init/initialize has no effect (as in the original); call it before, or close() first",
                RuntimeWarning,
                stacklevel=3,
            )
        return not self._initialized


def whole(value: Any, name: str) -> int:
    """`value` as an int; SimulatorError if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise SimulatorError(f"{name}: found {value!r}, expected a whole number") from None


def number(value: Any, name: str) -> float:
    """`value` as a finite float; SimulatorError if it is none."""
    try:
        angle_rad = float(value)
    except (TypeError, ValueError):
        angle_rad = math.nan
    if not math.isfinite(angle_rad):
        raise SimulatorError(f"{name}: found {value!r}, expected a finite angle in radians")
    return angle_rad
