"""A small world for tests of precompute: skyboxes, a tiny CLIP, commands in processes of their own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from envs.skybox import FOLDER

ROOT = Path(__file__).resolve().parents[2]


def faces_of(side: int, seed: int) -> np.ndarray:
    """[6, side, side, 3] uint8, smooth and different everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 5, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)) for face in coarse]
    )


def pose_of(seed: int) -> np.ndarray:
    """[4, 4]: any turn, a slight tilt, as Matterport's cameras stand."""
    turn, tilt = np.random.default_rng(seed).uniform(0, 6), 0.02 * seed
    cos, sin = np.cos(turn), np.sin(turn)
    stand = np.array([[cos, 0, -sin], [sin, 0, cos], [0, -1, 0]])
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    pose = np.eye(4)
    pose[:3, :3] = stand @ lean
    return pose


def write_world(folder: Path, sizes: dict[str, int], side: int = 48) -> Path:
    """Scan -> number of included viewpoints `p0`, `p1`, ...; each scan has one more, excluded, without a skybox."""
    (folder / "connectivity").mkdir(parents=True)
    for number, (scan, n_viewpoints) in enumerate(sizes.items()):
        items = []
        for index in range(n_viewpoints + 1):
            seed = 100 * number + index
            nowhere = [False] * (n_viewpoints + 1)
            name = f"p{index}" if index < n_viewpoints else "excluded"
            items.append(
                {
                    "image_id": name,
                    "pose": pose_of(seed).ravel().tolist(),
                    "included": index < n_viewpoints,
                    "unobstructed": nowhere,
                    "height": 1.5,
                }
            )
            if index < n_viewpoints:
                write_strip(folder, scan, name, faces_of(side, seed))
        (folder / "connectivity" / f"{scan}_connectivity.json").write_text(json.dumps(items))
    (folder / "connectivity" / "scans.txt").write_text("\n".join(sizes) + "\n")
    return folder


def strip_path(folder: Path, scan: str, viewpoint: str) -> Path:
    return folder / "v1" / "scans" / scan / FOLDER / f"{viewpoint}_skybox_small.jpg"


def write_strip(folder: Path, scan: str, viewpoint: str, faces: np.ndarray) -> None:
    path = strip_path(folder, scan, viewpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(list(faces), axis=1)).save(path, quality=95)


def tiny_clip(folder: Path, **preprocess: object) -> str:
    """Name of a CLIP of three small layers at 32 px; its weights are random, the same for every process."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": preprocess,
    }
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def command(*arguments: object, before: str = "") -> list[str]:
    """`python -m precompute panoramas ARGUMENTS` after the Python statements `before`."""
    start = "import sys\nfrom precompute import encode"
    code = f"{start}\n{before}\nfrom precompute.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, "panoramas", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """One thread, whatever the machine has: bytes are compared."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def bytes_of(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {path.name: path.read_bytes() for path in sorted(store.iterdir())}
