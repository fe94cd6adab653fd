"""Speed of skyboxes to features, beside the encoder alone: ViT-B-32 with random weights, on the device that is there.

Needs no data: the panoramas are smooth noise, JPEG of six faces of 512 px. The floor is the encoder on images that lie
in memory; both are measured in turn, so that whatever else the machine does meanwhile hits both.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from clip_core.encoder import ClipEncoder
from clip_core.runtime import Precision, Runtime, start_runtime
from envs.simulator_sight import VIEWS
from envs.skybox import FOLDER
from precompute.encode import make_store
from precompute.panoramas import GROUP, PanoramaEncoder, Panoramas, Pixels, find_viewpoints

ROUNDS = 3
PANORAMAS = {"cpu": 8, "cuda": 768}
FACE_PX = 512


def write_world(folder: Path, n_panoramas: int) -> None:
    """A building of unconnected viewpoints, each with its skybox of its own."""
    images = folder / "bench" / FOLDER
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    items = []
    for index in range(n_panoramas):
        coarse = Image.fromarray(rng.integers(0, 256, (FACE_PX // 16, 6 * FACE_PX // 16, 3), np.uint8))
        strip = coarse.resize((6 * FACE_PX, FACE_PX), Image.Resampling.BICUBIC)
        strip.save(images / f"v{index}_skybox_small.jpg", quality=90)
        turn = rng.uniform(0, 2 * math.pi)
        cos, sin = math.cos(turn), math.sin(turn)
        pose = [cos, 0, -sin, index, sin, 0, cos, 0, 0, -1, 0, 1, 0, 0, 0, 1]
        nowhere = [False] * n_panoramas
        items.append({"image_id": f"v{index}", "pose": pose, "included": True, "unobstructed": nowhere, "height": 1.5})
    (folder / "connectivity").mkdir()
    (folder / "connectivity" / "bench_connectivity.json").write_text(json.dumps(items))


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bare(encoder: ClipEncoder, n_panoramas: int) -> float:
    """Images a second of the encoder on a batch that lies on its device; batches as precompute takes them."""
    size, group = encoder.transform.height_px, GROUP[encoder.device.type]
    batch = torch.randn(group * VIEWS, 3, size, size, device=encoder.device)
    with torch.inference_mode():
        encoder.image_vectors(batch)
        wait(encoder.device)
        start = perf_counter()
        for _ in range(n_panoramas // group):
            encoder.image_vectors(batch)
        wait(encoder.device)
    return n_panoramas // group * len(batch) / (perf_counter() - start)


def end_to_end(encoder: ClipEncoder, world: Path, out: Path, pixels: Pixels, runtime: Runtime) -> float:
    """Images a second from the JPEG files to the finished store."""
    config = Panoramas(world, out, pixels=pixels)
    work = PanoramaEncoder(config, encoder, find_viewpoints(world, None, ()))
    header = work.header()
    start = perf_counter()
    store = make_store(out, header, work.work(), runtime, Console(file=io.StringIO()))
    return len(store) * VIEWS / (perf_counter() - start)


def in_turn(works: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each over the rounds, after one round outside the clock."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(ROUNDS + 1):
        for name, work in works.items():
            value = work()
            if round_ > 0:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def run() -> list[dict]:
    """The rows of a device: the encoder alone, both kinds of pixels, the other precision."""
    runtime = start_runtime()
    n_panoramas = PANORAMAS[runtime.device.type]
    usual: Precision = "fp32" if runtime.device.type == "cpu" else "bf16"
    other: Precision = "bf16" if usual == "fp32" else "fp32"
    encoder, second = (
        ClipEncoder.load("ViT-B-32", "random", device=runtime.device, precision=precision)
        for precision in (usual, other)
    )
    names = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        write_world(world, n_panoramas)

        def whole(pixels: Pixels) -> float:
            return end_to_end(encoder, world, Path(folder) / f"store{next(names)}", pixels, runtime)

        found = in_turn(
            {
                "bare": lambda: bare(encoder, n_panoramas),
                "direct": lambda: whole("direct"),
                "exact": lambda: whole("exact"),
                "other": lambda: bare(second, n_panoramas),
            }
        )
    on = f"{runtime.device.type}, {torch.get_num_threads()} threads" if runtime.device.type == "cpu" else "GPU"
    reference = f"the encoder alone, {usual}"
    rows = [
        (f"skyboxes to features, ViT-B-32 {usual}, {on}, --pixels {pixels}", pixels) for pixels in ("direct", "exact")
    ]
    return [
        {
            "name": name,
            "value": found[key],
            "unit": "images/s",
            "reference": reference,
            "reference_value": found["bare"],
            "floor": f"{100 * found[key] / found['bare']:.0f} % of the encoder alone",
        }
        for name, key in [*rows, (f"the encoder alone, {other}, {on}", "other")]
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:<75} {row['value']:>9.1f} {row['unit']}  {row['floor']}")
