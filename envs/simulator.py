"""The MatterSim state machine behind `import MatterSim`.

It follows Matterport3DSimulator's `src/lib/MatterSim.cpp` in both generations of the API. Which one a caller uses is
read from the arguments of `newEpisode`: with scalars (v0.1, batch size 1) `getState` returns one state, a snapshot;
with lists it returns a list of states, which the simulator updates in place, as the original does.

Departures from the original, each where it lets a fault pass: an error leaves every agent of the batch where it was;
a list longer than the batch is an error; a setting that comes too late is ignored with a RuntimeWarning; numbers that
make no camera are refused; every simulator has its own connectivity folder and random engine (in the original's
batched generation those of the first simulator serve the whole process). Images are fresh arrays, where the original
writes into one buffer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from envs.scenes import list_scans
from envs.simulator_random import MinstdRandom
from envs.simulator_settings import SimulatorError, SimulatorSettings, number, whole
from envs.simulator_sight import (
    ELEVATION_STEP_RAD,
    HEADING_STEP_RAD,
    HEADINGS,
    VIEW_ELEVATION_RAD,
    VIEW_HEADING_RAD,
    VIEWS,
    Place,
    Places,
    places,
)
from envs.simulator_state import SimState, SimStates

if TYPE_CHECKING:
    from envs.simulator_images import Image, SimulatorImages

# _TURNED[view][a][b]: the view after turning by a and tilting by b, each 0, 1 or -1 (index -1 is the last entry).
_TURNED = [
    [
        [(view % HEADINGS + a) % HEADINGS + HEADINGS * min(max(view // HEADINGS + b, 0), 2) for b in (0, 1, -1)]
        for a in (0, 1, -1)
    ]
    for view in range(VIEWS)
]
_PLAIN = {int, float}
# place, view index, heading, elevation
_Pose = tuple[Place, int, float, float]


class Simulator(SimulatorSettings):
    """One simulator with a batch of agents (1 unless `setBatchSize`), under the method names of the original.

    Defaults are the original's, see `SimulatorSettings`. One of them is **rendering on**: name the skyboxes' folder
    with `setDatasetPath`, or call `setRenderingEnabled(False)`, which is 100 times as fast and needs no images.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scalar = False
        self._states: list[SimState] = []
        self._places: dict[str, Places] = {}
        self._process_s = 0.0
        self._wall_clock: float | None = None
        self._images: SimulatorImages | None = None

    def init(self) -> None:
        """Start the simulator (v0.1, one agent). Later settings are ignored, except those of the camera."""
        if self._batch_size != 1:
            raise SimulatorError(
                f"init() is MatterSim v0.1's and knows one agent; found setBatchSize({self._batch_size}). "
                "Call initialize() instead"
            )
        self._start(scalar=True)

    def initialize(self) -> None:
        """Start the simulator (batched API). Later settings are ignored, except those of the camera."""
        self._start(scalar=False)

    def newEpisode(self, scanId: Any, viewpointId: Any = None, heading: Any = None, elevation: Any = None) -> None:
        """Put every agent at a viewpoint of a scan: scalars for one agent, or lists with one entry per agent.

        Angles in radians, 0 where left out; with discretized views they snap to the nearest view. A viewpoint that is
        left out or empty is drawn at random. Raises SimulatorError for an unknown scan, an unknown or excluded
        viewpoint, lists of a wrong length.
        """
        scalar = isinstance(scanId, str)
        if not self._initialized:
            self._start(scalar)
        clock = perf_counter()
        if self._wall_clock is None:
            self._wall_clock = clock
        n = len(self._states)
        scans = self._listed(scanId, "scanId")
        spots = self._listed([""] * n if viewpointId is None else viewpointId, "viewpointId")
        headings = self._listed([0.0] * n if heading is None else heading, "heading")
        elevations = self._listed([0.0] * n if elevation is None else elevation, "elevation")
        poses = [
            self._pose(self._located(scan, spot), number(h, "heading"), number(e, "elevation"))
            for scan, spot, h, e in zip(scans, spots, headings, elevations, strict=True)
        ]
        self._scalar = scalar
        self._commit(poses, scans)
        self._process_s += perf_counter() - clock

    def newRandomEpisode(self, scanId: Any) -> None:
        """Put every agent at a random viewpoint of its scan, elevation 0.

        The original draws headings from an engine that it seeds anew at every call: agent i of a batch always starts
        at the same heading. That is kept.
        """
        scans = [scanId] if isinstance(scanId, str) else list(scanId)
        fresh = MinstdRandom(1)
        headings = [fresh.uniform(math.pi * 2.0) for _ in scans]
        if isinstance(scanId, str):
            self.newEpisode(scanId, "", headings[0], 0.0)
        else:
            self.newEpisode(scans, [""] * len(scans), headings, [0.0] * len(scans))

    def getState(self) -> Any:
        """The `SimState` after a scalar newEpisode, else a list of them; see `SimState` for what stays live."""
        if self._scalar and self._states:
            return self._states[0]
        if not self._initialized and not self._states:
            raise SimulatorError("getState: call init() or initialize(), then newEpisode, first")
        return SimStates(self._states)

    def makeAction(self, index: Any, heading: Any, elevation: Any) -> None:
        """Move every agent, then turn it: scalars for one agent, or lists with one entry per agent.

        `index` is a place in `navigableLocations` (0 stays). `heading` (right positive) and `elevation` (up positive)
        are changes in radians; with discretized views only their sign counts, for one step of 30 degrees.
        """
        clock = perf_counter()
        states = self._states
        if not self._initialized or not states or states[0].location is None:
            raise SimulatorError("makeAction: newEpisode must be called before makeAction")
        index = self._listed(index, "index")
        heading = self._listed(heading, "heading")
        elevation = self._listed(elevation, "elevation")
        known = self._places
        poses: list[_Pose] = []
        for state, i, h, e in zip(states, index, heading, elevation, strict=True):
            if i.__class__ is int and not i:
                ix = state.location.ix  # type: ignore[union-attr]
            else:
                ix = self._chosen(state, i, len(poses))
            scan = state.scanId
            place = known[scan][ix] if scan in known else self._loaded(scan)[ix]
            if not self._discretized:
                h, e = number(h, "heading"), number(e, "elevation")
                poses.append(self._pose(place, state.heading + h, state.elevation + e))
                continue
            if h.__class__ not in _PLAIN or e.__class__ not in _PLAIN:
                h, e = number(h, "heading"), number(e, "elevation")
            view = state.viewIndex
            if h or e:
                view = _TURNED[view][(h > 0) - (h < 0)][(e > 0) - (e < 0)]
                if h != h or e != e:
                    raise SimulatorError(f"makeAction: found ({i}, {h}, {e}), expected finite angles")
            poses.append((place, view, VIEW_HEADING_RAD[view], VIEW_ELEVATION_RAD[view]))
        self._commit(poses)
        self._process_s += perf_counter() - clock

    def close(self) -> None:
        """Release the simulator; settings may change again, and the next newEpisode starts anew."""
        self._initialized = False

    def resetTimers(self) -> None:
        """Start `timingInfo` from zero."""
        self._process_s = 0.0
        self._wall_clock = None
        if self._images is not None:
            self._images.reset_timers()

    def timingInfo(self) -> str:
        """Wall time since the first newEpisode, time inside the simulator, rendered frames: the original's text."""
        wall_ms = 0.0 if self._wall_clock is None else (perf_counter() - self._wall_clock) * 1e3
        process_ms, images = self._process_s * 1e3, self._images
        frames, load_s, render_s = (images.frames, images.load_s, images.render_s) if images else (0, 0.0, 0.0)
        return (
            f"Preloading images: {images.preload_s / 60.0 if images else 0.0:.6g} minutes\n"
            f"Rendered {frames} frames\n"
            f"Wall time: {wall_ms:.6g} ms, ({frames * 1e3 / (wall_ms or 1.0):.6g} fps)\n"
            f"Process time: {process_ms:.6g} ms, ({frames * 1e3 / (process_ms or 1.0):.6g} fps)\n"
            f"\tImage loading: {load_s * 1e3:.6g} ms\n"
            f"\tRendering: {render_s * 1e3:.6g} ms\n"
            "\tReading rendered image: 0 ms\n"
        )

    def _camera_changed(self) -> None:
        self._places = {}

    def _start(self, scalar: bool) -> None:
        if self._initialized:
            return
        if self._depth and not self._rendering:
            raise SimulatorError(
                "setDepthEnabled(True), but rendering is off; call setDepthEnabled(False) or setRenderingEnabled(True) "
                "before init/initialize"
            )
        self._places = {}
        try:
            self._images = self._eyes()
        except ValueError as error:
            raise SimulatorError(str(error)) from None
        self._states = [SimState(self._height, self._width) for _ in range(self._batch_size)]
        self._scalar = scalar
        self._initialized = True

    def _eyes(self) -> SimulatorImages | None:
        if not self._rendering:
            return None
        # Here, because numba takes 0.4 s to import, and its many objects slow down Python's garbage collector.
        from envs.simulator_images import SimulatorImages

        images = SimulatorImages(self._dataset, self._depth, self._cache_size)
        if self._preloading:
            images.preload(list_scans(self._connectivity), lambda scan: self._loaded(scan).scene)
        return images

    def _listed(self, values: Any, name: str) -> list:
        """`values` as a list with one entry per agent; lists, tuples, arrays, tensors, or a scalar for one agent."""
        if values.__class__ is not list:
            if isinstance(values, (int, float, str)):
                values = [values]
            else:
                values = values.tolist() if hasattr(values, "tolist") else values
                values = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
        if len(values) != len(self._states):
            raise SimulatorError(
                f"{name}: found {len(values)} value(s), expected a list with one per agent: {len(self._states)} "
                "(the batch size is set with setBatchSize before initialize)"
            )
        return values

    def _loaded(self, scan: str) -> Places:
        found = self._places.get(scan)
        if found is None:
            half_fov_cos = None
            if self._restricted:
                half_fov_cos = math.cos(self._vfov_rad * self._width / self._height / 2.0)
            try:
                found = places(self._connectivity.absolute(), scan, half_fov_cos, self._discretized)
            except ValueError as error:
                raise SimulatorError(f"{error} (the folder is set with setNavGraphPath)") from None
            self._places[scan] = found
        return found

    def _located(self, scan: str, viewpoint: str) -> Place:
        if not isinstance(scan, str) or not isinstance(viewpoint, str):
            raise SimulatorError(f"newEpisode: found scan {scan!r}, viewpoint {viewpoint!r}; expected two strings each")
        known = self._loaded(scan)
        if not viewpoint:
            return known[self._drawn(known)]
        try:
            return known[known.scene.number(viewpoint)]
        except ValueError as error:
            raise SimulatorError(str(error)) from None

    def _drawn(self, known: Places) -> int:
        """The original's draw: any viewpoint, then the next included one."""
        included = known.scene.included
        if not included.any():
            raise SimulatorError(f"scan {known.scene.scan} has no included viewpoint to start from")
        ix = self._random.below(len(included))
        while not included[ix]:
            ix = (ix + 1) % len(included)
        return ix

    def _chosen(self, state: SimState, index: Any, agent: int) -> int:
        index = whole(index, "makeAction: index")
        seen = state.seen()
        if not 0 <= index < len(seen):
            raise SimulatorError(
                f"makeAction: invalid action index: {index} in environment {agent} of {self._batch_size}; "
                f"expected 0 to {len(seen) - 1}, a place in navigableLocations"
            )
        return seen[index].ix

    def _pose(self, place: Place, heading_rad: float, elevation_rad: float) -> _Pose:
        """The original's `setHeadingElevation`: wrap, then snap or clamp."""
        heading_rad = math.fmod(heading_rad, math.pi * 2.0)
        while heading_rad < 0.0:
            heading_rad += math.pi * 2.0
        if not self._discretized:
            low, high = self._elevation_limits_rad
            return place, 0, heading_rad, max(min(elevation_rad, high), low)
        steps = heading_rad / HEADING_STEP_RAD
        step = math.floor(steps)
        view = (step + (steps - step >= 0.5)) % HEADINGS  # lround: halves away from zero
        if elevation_rad >= -ELEVATION_STEP_RAD / 2.0:
            view += HEADINGS + HEADINGS * (elevation_rad > ELEVATION_STEP_RAD / 2.0)
        return place, view, VIEW_HEADING_RAD[view], VIEW_ELEVATION_RAD[view]

    def _commit(self, poses: list[_Pose], scans: list[str] | None = None) -> None:
        """Write the poses; with `scans` a new episode begins. A scalar caller's earlier states stay as they were."""
        images = None if self._images is None else self._seen(poses, scans)  # an error here moves nobody
        if self._scalar:
            self._states = [state.fork() for state in self._states]
        for state, (place, view, heading_rad, elevation_rad) in zip(self._states, poses, strict=True):
            state._place = place
            state._navigable = None
            state.location = place.location
            state.viewIndex = view
            state.heading = heading_rad
            state.elevation = elevation_rad
            state.step += 1
        if scans is not None:
            for state, scan in zip(self._states, scans, strict=True):
                state.scanId = scan
                state.step = 0
        if images is not None:
            for state, seen in zip(self._states, images, strict=True):
                state._seen = seen

    def _seen(self, poses: list[_Pose], scans: list[str] | None) -> list[Image]:
        assert self._images is not None
        names = scans if scans is not None else [state.scanId for state in self._states]
        looks = [
            (self._loaded(scan).scene, place.location.ix, heading_rad, elevation_rad)
            for scan, (place, _, heading_rad, elevation_rad) in zip(names, poses, strict=True)
        ]
        try:
            return self._images.see(looks, self._width, self._height, self._vfov_rad)
        except ValueError as error:
            raise SimulatorError(str(error)) from None
