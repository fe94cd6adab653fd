"""What the simulator's cameras see, with the skyboxes that were read last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from envs.rendering import Camera, Texture, cores, load_depth_texture, load_texture, render, view_rotation
from envs.scenes import Scene
from envs.skybox import FOLDER, SkyboxError, folders, has_skyboxes

Key = tuple[str, str]
"""Scan, viewpoint."""


Look = tuple[Scene, int, float, float]
"""Where a camera stands and looks to: scene, number of the viewpoint, heading and elevation in radians."""
Image = tuple[np.ndarray, np.ndarray | None]
"""Colour [H, W, 3] uint8, BGR; depth [H, W, 1] uint16 in 0.25 mm, or None."""


class Around(NamedTuple):
    """The panorama of a viewpoint, ready to be rendered."""

    colour: Texture
    depth: Texture | None


class Skyboxes:
    """The panoramas of a dataset folder, the last `limit` of them in memory (6.5 MB each, 9.8 MB with depth)."""

    def __init__(self, dataset: Path, depth: bool, limit: int) -> None:
        self.dataset, self.depth, self.limit = dataset, depth, limit
        self._read: OrderedDict[Key, Around] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._read)

    def get(self, keys: Sequence[Key]) -> list[Around]:
        """Those of the keys, in their order. What is not in memory is read, on all cores. Raises SkyboxError."""
        with self._lock:
            known = {key: self._read[key] for key in keys if key in self._read}
            new = [key for key in dict.fromkeys(keys) if key not in known]
            if len(new) > 1:
                with ThreadPoolExecutor(cores()) as pool:
                    known |= zip(new, pool.map(self._load, new), strict=True)
            elif new:
                known[new[0]] = self._load(new[0])
            for key in dict.fromkeys(keys):
                self._read[key] = known[key]
                self._read.move_to_end(key)
            while len(self._read) > self.limit:
                self._read.popitem(last=False)
        return [known[key] for key in keys]

    def keep_all(self, keys: Sequence[Key]) -> None:
        """Read all of these now and never let go of them."""
        self.limit = max(self.limit, len(self._read) + len(keys))
        step = 8 * cores()
        for i in range(0, len(keys), step):
            self.get(keys[i : i + step])

    def _load(self, key: Key) -> Around:
        colour = load_texture(self.dataset, *key)
        return Around(colour, load_depth_texture(self.dataset, *key) if self.depth else None)


_shared: WeakValueDictionary[tuple[Path, bool, int], Skyboxes] = WeakValueDictionary()


def skyboxes(dataset: Path, depth: bool, limit: int) -> Skyboxes:
    """Those of a folder, shared by all simulators of the process that ask for the same (EnvDrop has 64 of them).

    Raises SkyboxError where the folder has no skyboxes at all.
    """
    dataset = dataset.absolute()
    if not has_skyboxes(dataset):
        found = "has no folder" if dataset.is_dir() else "does not exist; expected there"
        raise SkyboxError(
            f"rendering is on (MatterSim's default), but {dataset} {found} {{scan}}/{FOLDER}/. Name the folder "
            "of the scans with setDatasetPath, or call setRenderingEnabled(False), before init/initialize"
        )
    key = (dataset, depth, limit)
    shared = _shared.get(key)
    if shared is None:
        shared = _shared[key] = Skyboxes(*key)
    return shared


class SimulatorImages:
    """Renders for one simulator and measures the time it takes."""

    def __init__(self, dataset: Path, depth: bool, cache_size: int) -> None:
        self.skyboxes = skyboxes(dataset, depth, cache_size)
        self.preload_s = 0.0
        self.reset_timers()

    def reset_timers(self) -> None:
        """Count frames and seconds from zero."""
        self.frames, self.load_s, self.render_s = 0, 0.0, 0.0

    def preload(self, scans: Iterable[str], scene: Callable[[str], Scene]) -> None:
        """Read the skyboxes of the included viewpoints of those scans of which the dataset has a folder; keep them."""
        start = perf_counter()
        keys: list[Key] = []
        for scan in scans:
            if any(folder.is_dir() for folder in folders(self.skyboxes.dataset, scan)):
                known = scene(scan)
                keys += [(scan, name) for name, kept in zip(known.viewpoints, known.included, strict=True) if kept]
        self.skyboxes.keep_all(keys)
        self.preload_s = perf_counter() - start

    def see(self, looks: Sequence[Look], width: int, height: int, vfov_rad: float) -> list[Image]:
        """One image per look, in fresh arrays. Raises ValueError for skyboxes, cameras and poses that are none."""
        camera, start = Camera(width, height, vfov_rad), perf_counter()
        around = self.skyboxes.get([(scene.scan, scene.viewpoints[ix]) for scene, ix, _, _ in looks])
        loaded = perf_counter()
        rotations = np.stack([view_rotation(h, e, scene.pose[ix]) for scene, ix, h, e in looks])
        shape = (camera.height, camera.width)
        images = [np.empty((*shape, 3), np.uint8) for _ in looks]
        render([one.colour for one in around], rotations, camera, out=images)
        depths: list[np.ndarray | None] = [None] * len(looks)
        deep = [one.depth for one in around if one.depth is not None]
        if deep:
            planes = [np.empty(shape, np.uint16) for _ in looks]
            render(deep, rotations, camera, out=planes)
            depths = [plane[:, :, None] for plane in planes]
        self.frames += len(looks)
        self.load_s += loaded - start
        self.render_s += perf_counter() - loaded
        return list(zip(images, depths, strict=True))
