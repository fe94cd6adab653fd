"""Skyboxes on disk for tests: random colours and distances in Matterport3D's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from envs.skybox import FOLDER


def random_faces(side: int, seed: int = 0) -> np.ndarray:
    """[6, side, side, 3] uint8: smooth enough for JPEG, different everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 4, 4, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)) for face in coarse]
    )


def strip(faces: np.ndarray) -> np.ndarray:
    """[6, F, F, ...] -> [F, 6F, ...]."""
    return np.concatenate(list(faces), axis=1)


def write_skybox(dataset: Path, scan: str, viewpoint: str, faces: np.ndarray) -> Path:
    """The strip of six faces."""
    path = dataset / scan / FOLDER / f"{viewpoint}_skybox_small.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(strip(faces)).save(path, quality=95)
    return path


def write_six(dataset: Path, scan: str, viewpoint: str, faces: np.ndarray, size: str = "sami") -> list[Path]:
    """One file for each face."""
    folder = dataset / scan / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{viewpoint}_skybox{i}_{size}.jpg" for i in range(len(faces))]
    for path, face in zip(paths, faces, strict=True):
        Image.fromarray(face).save(path, quality=95)
    return paths


def write_depth(dataset: Path, scan: str, viewpoint: str, distances: np.ndarray) -> Path:
    """16 bits; distances [6, F, F] in 0.25 mm."""
    path = dataset / scan / FOLDER / f"{viewpoint}_skybox_depth_small.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(strip(distances).astype(np.uint16)).save(path)
    return path


def box_distances(side: int, half_m: float) -> np.ndarray:
    """[6, side, side] uint16 in 0.25 mm: from the middle of an empty cube to its walls."""
    t = (np.arange(side) + 0.5) / side * 2 - 1
    wall = half_m * np.sqrt(1 + t[:, None] ** 2 + t[None] ** 2) * 4000
    return np.repeat(np.round(wall)[None], 6, axis=0).astype(np.uint16)
