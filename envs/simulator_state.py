"""What MatterSim's `getState` returns: `SimState` with its `ViewPoint`s.

Field names are those of the original's Python binding (Matterport3DSimulator, `src/lib_python/MatterSimPython.cpp`).
"""

# ruff: noqa: N802, N815 (the names are the binding's)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from envs.simulator_sight import Place


class ViewPoint(NamedTuple):
    """A place an agent can stand at, seen from a camera. Immutable and shared; pickles, copies, compares by value.

    `ix` is the number in the connectivity JSON, `x y z` metres (float32 of the original), `rel_heading` the signed
    angle to the camera and `rel_elevation` the angle above its elevation in radians, `rel_distance` metres in 3-D.
    The original sets the three `rel_` fields of a view point to 0 in place once an agent has moved there, also in
    lists the user still holds; here held lists stay as they were.
    """

    viewpointId: str
    ix: int
    x: float
    y: float
    z: float
    rel_heading: float
    rel_elevation: float
    rel_distance: float

    @property
    def point(self) -> list[float]:
        """[x, y, z] in metres: the name v0.1 has for the position."""
        return [self.x, self.y, self.z]


class SimState:
    """The state of one agent.

    Fields: `scanId`; `step` since newEpisode; `location` (a `ViewPoint`, None before the first episode); `heading` in
    [0, 2 pi) and `elevation` in radians; `viewIndex` 0-35 with discretized views (0-11 down, 12-23 horizon, 24-35 up),
    else 0; `navigableLocations`; `rgb`; `depth`. With lists (the batched API) the simulator updates its states in
    place, as the original does; `copy.copy(state)` keeps one. With scalars (v0.1) every state is a snapshot.
    """

    __slots__ = (
        "_navigable",
        "_place",
        "_seen",
        "_size",
        "elevation",
        "heading",
        "location",
        "scanId",
        "step",
        "viewIndex",
    )

    def __init__(self, height: int, width: int) -> None:
        self.scanId = ""
        self.step = 0
        self.location: ViewPoint | None = None
        self.heading = 0.0
        self.elevation = 0.0
        self.viewIndex = 0
        self._size = (height, width)
        self._place: Place | None = None
        self._navigable: tuple[ViewPoint, ...] | None = ()
        self._seen: tuple[np.ndarray, np.ndarray | None] | None = None

    def seen(self) -> tuple[ViewPoint, ...]:
        """`navigableLocations` without the copy."""
        navigable = self._navigable
        if navigable is None:
            assert self._place is not None
            navigable = self._navigable = self._place.navigable(self.viewIndex, self.heading, self.elevation)
        return navigable

    @property
    def navigableLocations(self) -> list[ViewPoint]:
        """Where the agent can move to: first the place it stands at, then by angle from the centre of the view.

        A fresh list at every access, as in the original. `makeAction` takes an index into it.
        """
        return list(self.seen())

    @property
    def rgb(self) -> np.ndarray:
        """[height, width, 3] uint8, BGR: zeros, as in the original, while rendering is off.

        Each image has its own memory: one that was read earlier stays as it was.
        """
        return np.zeros((*self._size, 3), np.uint8) if self._seen is None else self._seen[0]

    @property
    def depth(self) -> np.ndarray:
        """[height, width, 1] uint16, 0.25 mm along the camera's axis: zeros while depth is off, and where unknown."""
        depth = None if self._seen is None else self._seen[1]
        return np.zeros((*self.rgb.shape[:2], 1), np.uint16) if depth is None else depth

    def fork(self) -> SimState:
        """A second state that starts equal to this one."""
        other = SimState.__new__(SimState)
        other.scanId = self.scanId
        other.step = self.step
        other.location = self.location
        other.heading = self.heading
        other.elevation = self.elevation
        other.viewIndex = self.viewIndex
        other._size = self._size
        other._place = self._place
        other._navigable = self._navigable
        other._seen = self._seen
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        kept = (self.scanId, self.step, self.location, self.heading, self.elevation, self.viewIndex)
        return _restore, (*kept, self.seen(), self._size, self._seen)

    def __repr__(self) -> str:
        place = None if self.location is None else self.location.viewpointId
        return (
            f"SimState(scanId={self.scanId!r}, viewpointId={place!r}, heading={self.heading:.4f}, "
            f"elevation={self.elevation:.4f}, viewIndex={self.viewIndex}, step={self.step}, "
            f"navigableLocations={len(self.seen())})"
        )

    def __getitem__(self, item: object) -> Any:
        raise TypeError(
            f"getState()[{item!r}]: found one state, because newEpisode was called with scalars (MatterSim v0.1). "
            "Use getState() as it is, or call newEpisode([scanId], [viewpointId], [heading], [elevation])"
        )


class SimStates(list[SimState]):
    """The list that `getState` returns to a caller of the batched API."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in SimState.__slots__ or name in ("navigableLocations", "rgb", "depth"):
            raise AttributeError(
                f"getState().{name}: found a list of {len(self)} states, because newEpisode was called with lists. "
                f"Use getState()[0].{name}, or call newEpisode(scanId, viewpointId, heading, elevation) with scalars "
                "(MatterSim v0.1)"
            )
        raise AttributeError(f"a list of SimState has no attribute {name!r}")


def _restore(
    scan: str,
    step: int,
    location: ViewPoint | None,
    heading: float,
    elevation: float,
    view_index: int,
    navigable: tuple[ViewPoint, ...],
    size: tuple[int, int],
    images: tuple[np.ndarray, np.ndarray | None] | None,
) -> SimState:
    state = SimState(*size)
    state.scanId, state.step, state.location = scan, step, location
    state.heading, state.elevation, state.viewIndex = heading, elevation, view_index
    state._navigable = navigable
    state._seen = images
    return state
