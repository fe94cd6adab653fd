"""Speed of rendering: the 36 views of a panorama, beside MatterSim with OSMesa.

Needs no data: the panorama is random noise, which costs the same as a photograph. Bytes and operations for the 36
views of 640 x 480: 11.1 million pixels; 33 MB are written and the 6.3 MB of texels read once from memory; per pixel
four texels are gathered and about 75 operations done in float32 and int32 (direction, quotient and clamping 20,
unpacking 24, three bilinear blends 18, rounding and packing 13).
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from PIL import Image

from envs.rendering import Camera, Texture, cores, load_texture, render, view_rotation
from envs.skybox import FOLDER

REFERENCE_MS = 80.0
ROUNDS = 15
HEADINGS, ROWS = 12, 3
REFERENCE = "MatterSim C++, OSMesa, 2 cores"


def rotations() -> np.ndarray:
    """[36, 3, 3]: the views of the field, for a viewpoint of any turn."""
    turn = 0.4
    pose = np.array([[math.cos(turn), 0.0, -math.sin(turn)], [math.sin(turn), 0.0, math.cos(turn)], [0.0, -1.0, 0.0]])
    return np.stack(
        [
            view_rotation(math.radians(30) * (view % HEADINGS), math.radians(30) * (view // HEADINGS - 1), pose)
            for view in range(HEADINGS * ROWS)
        ]
    )


def median_ms(work: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """Milliseconds, the median over the rounds; the first call is outside the clock."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = clock()
        work()
        times.append((clock() - start) * 1e3)
    return statistics.median(times)


def noise() -> np.ndarray:
    """[6, 512, 512, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (6, 512, 512, 3), np.uint8)


def decoding(folder: Path) -> float:
    """One strip of six faces, from the file to texels."""
    path = folder / "scan" / FOLDER / "v_skybox_small.jpg"
    path.parent.mkdir(parents=True)
    coarse = Image.fromarray(np.concatenate(list(noise()), axis=1)[::16, ::16])
    coarse.resize((3072, 512), Image.Resampling.BICUBIC).save(path, quality=95)
    return median_ms(lambda: load_texture(folder, "scan", "v"))


def run() -> list[dict]:
    """Compilation outside the clock; pages of the output are in memory but where a row says so."""
    texture, looks, camera = Texture.of_faces(noise()), rotations(), Camera(640, 480, math.radians(60))
    deep = Texture.of_faces(np.random.default_rng(1).integers(0, 65536, (6, 512, 512), np.uint16))
    out, planes = np.empty((36, 480, 640, 3), np.uint8), np.empty((36, 480, 640), np.uint16)
    blank = np.zeros_like(out)
    written = (
        f"writing their {out.nbytes / 1e6:.0f} MB alone, one core: {median_ms(lambda: np.copyto(out, blank)):.1f} ms"
    )
    square = Camera(224, 224, math.radians(60))
    what = "36 views of a panorama"
    rows = {
        f"{what}, 640 x 480, {cores()} threads": median_ms(lambda: render(texture, looks, camera, out=out)),
        f"{what}, 640 x 480, 1 thread": median_ms(lambda: render(texture, looks, camera, out=out, threads=1)),
        f"{what}, 640 x 480, {cores()} threads, new memory": median_ms(lambda: render(texture, looks, camera)),
    }
    others = {
        f"{what}, 640 x 480, processor time of {cores()} threads together": median_ms(
            lambda: render(texture, looks, camera, out=out), process_time
        ),
        f"{what}, 224 x 224, {cores()} threads": median_ms(lambda: render(texture, looks, square)),
        f"{what}, 640 x 480, depth, {cores()} threads": median_ms(lambda: render(deep, looks, camera, out=planes)),
    }
    with tempfile.TemporaryDirectory() as folder:
        others["one skybox (small.jpg) read, decoded, packed"] = decoding(Path(folder))
    return [
        {
            "name": name,
            "value": value,
            "unit": "ms",
            "reference": REFERENCE,
            "reference_value": REFERENCE_MS,
            "floor": written,
        }
        for name, value in rows.items()
    ] + [
        {"name": name, "value": value, "unit": "ms", "reference": "", "reference_value": None}
        for name, value in others.items()
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:<60} {row['value']:>8.1f} {row['unit']}  {row.get('floor', '')}")
