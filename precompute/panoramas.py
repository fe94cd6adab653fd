"""Turns skyboxes into the features of the 36 views of every viewpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from clip_core.feature_files import Dtype, Header
from clip_core.features import FeatureStore
from clip_core.images import ChannelOrder
from clip_core.runtime import Precision, Runtime, start_runtime
from envs.scenes import Scene, find_connectivity, list_scans, load_scene
from envs.simulator_sight import VIEWS
from envs.skybox import FOLDER, is_there, read_faces
from precompute.encode import Work, make_store, worker_threads
from precompute.encoders import ImageEncoder, load_encoder
from precompute.screen import say
from precompute.views import (
    FIELD,
    direct_camera,
    transformed_views,
    view_rotations,
    views_on_device,
    views_on_host,
)

Pixels = Literal["direct", "exact"]
GROUP = {"cpu": 1, "cuda": 16}
"""Panoramas in a batch of the encoder."""


@dataclass(frozen=True)
class Panoramas:
    """Make the features of all viewpoints from their skyboxes: 36 views each, as in R2R, through an encoder.

    A run that was interrupted continues when the same command is given again. Several GPUs: torchrun
    --nproc-per-node=N -m precompute panoramas ...
    """

    data: Path
    """Folder with {scan}/matterport_skybox_images/ or v1/scans/{scan}/matterport_skybox_images/."""
    out: Path
    """Folder of the store to make."""
    model: str = "ViT-B-32"
    """Encoder as open_clip names it, local-dir:FOLDER, or efficientnet-lite0."""
    pretrained: str | None = None
    """Tag of its weights, e.g. openai; random for untrained ones."""
    weights: Path | None = None
    """Weights file; --pretrained then says which weights they are."""
    layer: Literal["projected", "unprojected"] = "projected"
    """projected: joint space with texts, as published CLIP features; unprojected: the pooled vector before it."""
    pixels: Pixels = "direct"
    """direct: views rendered at the encoder's resolution; exact: at 640 x 480, then resized and cropped as PIL images,
    as published features were made (slower)."""
    channel_order: ChannelOrder = "RGB"
    """Order of the colours as the encoder sees them; BGR as the released CLIP-ViL features may have been made."""
    connectivity: Path | None = None
    """Folder of the navigation graphs; default: connectivity/ in the data folder or beside it."""
    scans: tuple[str, ...] = ()
    """Buildings, e.g. --scans 17DRP5sb8fy 1LXtFkjw3qL; default: all that the connectivity folder lists."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N."""
    precision: Precision = "fp32"
    """fp32, or bf16 autocast (fast on a GPU; slower than fp32 on most CPUs)."""
    dtype: Dtype = "float16"
    """Number format of the store."""
    batch: int | None = None
    """Panoramas that the encoder sees at once; default: 1 on the CPU, 16 on a GPU."""


def panoramas(config: Panoramas, console: Console | None = None) -> FeatureStore:
    """The command: `make_panoramas` on the device of the config, then what to do next."""
    console = Console() if console is None else console
    with start_runtime(config.device, config.precision) as runtime:
        there = config.out.exists()
        store = make_panoramas(config, runtime, console)
        if runtime.is_main and not there:
            data = config.data if any(config.data.glob("R2R_*.json")) else "R2R"
            say(
                console,
                f"Next: python -m agent.train --data {data} --features {config.out} --out runs/{config.out.name}",
            )
        return store


def make_panoramas(config: Panoramas, runtime: Runtime, console: Console) -> FeatureStore:
    """Makes the store that the config asks for; keys "{scan}_{viewpoint}", items [36, D]. Memory is constant.

    Every rank calls it. Raises ValueError for what `make_store` says, an unknown model or weights that do not fit,
    scans or skyboxes that are missing, and (SkyboxError) the first skybox that is damaged: those before it are kept
    for the next run.
    """
    if config.batch is not None and config.batch < 1:
        raise ValueError(f"batch is {config.batch}; expected at least 1 panorama")
    viewpoints = find_viewpoints(config.data, config.connectivity, config.scans)
    encoder = load_encoder(
        config.model,
        config.pretrained,
        config.weights,
        device=runtime.device,
        precision=config.precision,
        channels_last=True,
    )
    encode = PanoramaEncoder(config, encoder, viewpoints)
    return make_store(config.out, encode.header(), encode.work(), runtime, console)


class Viewpoint(NamedTuple):
    """A panorama to encode."""

    scan: str
    viewpoint: str
    pose: np.ndarray


def find_viewpoints(data: Path, connectivity: Path | None, scans: Sequence[str]) -> dict[str, Viewpoint]:
    """Key -> every included viewpoint of the scans, in the order of the connectivity files.

    Raises ValueError for an unknown scan, and for skyboxes that are missing.
    """
    if not data.is_dir():
        raise ValueError(f"no folder {data}; expected the folder of the scans, with {{scan}}/{FOLDER}/ in it")
    graphs = find_connectivity(data, connectivity)
    scenes = [load_scene(graphs, scan) for scan in dict.fromkeys(scans or list_scans(graphs))]
    found = {f"{scene.scan}_{place.viewpoint}": place for scene in scenes for place in _included(scene)}
    missing = [place for place in found.values() if not is_there(data, place.scan, place.viewpoint)]
    if missing:
        without = sorted({place.scan for place in missing})
        whole = [scene.scan for scene in scenes if scene.scan not in without]
        raise ValueError(
            f"{len(missing)} of {len(found)} skyboxes are missing, in {len(without)} of {len(scenes)} scans: "
            f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}; the first is viewpoint "
            f"{missing[0].viewpoint} of {missing[0].scan}; expected {data}/{missing[0].scan}/{FOLDER}/"
            f"{missing[0].viewpoint}_skybox_small.jpg or the six ..._skybox{{0..5}}_sami.jpg, there or in v1/scans; "
            "copy them, or name the scans that you have: --scans "
            + (" ".join(whole[:5]) + (" ..." if len(whole) > 5 else "") if whole else "SCAN ...")
        )
    return found


def _included(scene: Scene) -> list[Viewpoint]:
    return [Viewpoint(scene.scan, scene.viewpoints[i], scene.pose[i]) for i in np.flatnonzero(scene.included)]


class Faces(NamedTuple):
    """A panorama on its way to a GPU, in pinned memory."""

    faces: Tensor
    """uint8 [6, F, F, 3] RGB."""
    rotations: Tensor
    """float32 [36, 3, 3]."""


class PanoramaEncoder:
    """Renders and encodes panoramas; on a GPU, views of `--pixels direct` are rendered there."""

    def __init__(self, config: Panoramas, encoder: ImageEncoder, viewpoints: dict[str, Viewpoint]) -> None:
        """Raises ValueError where views cannot be rendered straight at the input of the encoder."""
        self._config, self._encoder, self._viewpoints = config, encoder, viewpoints
        if config.pixels not in get_args(Pixels):
            raise ValueError(f"pixels is {config.pixels!r}; expected one of {', '.join(get_args(Pixels))}")
        self._camera = direct_camera(encoder.transform) if config.pixels == "direct" else None

    def work(self) -> Work:
        """All viewpoints, for `make_store`."""
        device = self._encoder.device
        return Work(
            keys=tuple(self._viewpoints),
            prepare=self.prepare,
            encode=self.vectors,
            group=self._config.batch or GROUP[device.type],
            workers=worker_threads(device),
            images=VIEWS,
        )

    def prepare(self, key: str) -> Any:
        """Decodes and, on the host, renders: uint8 [36, h, w, 3], float32 [36, 3, h, w], or `Faces`."""
        scan, viewpoint, pose = self._viewpoints[key]
        faces = read_faces(self._config.data, scan, viewpoint)
        rotations, order = view_rotations(pose), self._config.channel_order
        if self._camera is None:
            views = transformed_views(faces, rotations, self._encoder.transform, order)
            return views.pin_memory() if self._encoder.device.type == "cuda" else views
        if self._encoder.device.type == "cuda":
            return Faces(torch.from_numpy(faces).pin_memory(), torch.from_numpy(rotations).float().pin_memory())
        return torch.from_numpy(views_on_host(faces, rotations, self._camera, order))

    def vectors(self, prepared: list[Any]) -> Tensor:
        """Rows float32 [n, 36, D] of n panoramas."""
        images = torch.cat([self._on_device(one) for one in prepared])
        if self._camera is not None:
            images = self._encoder.transform.batch(images)
        vectors = self._encoder.image_vectors(images, projected=self._config.layer == "projected")
        return vectors.reshape(len(prepared), VIEWS, -1)

    def _on_device(self, prepared: Any) -> Tensor:
        """Views of one panorama, [36, 3, h, w]: uint8, or float32 where they are transformed already."""
        device = self._encoder.device
        if isinstance(prepared, Faces):
            faces, rotations = (part.to(device, non_blocking=True) for part in prepared)
            assert self._camera is not None
            return views_on_device(faces, rotations, self._camera, self._config.channel_order)
        views = prepared.to(device, non_blocking=True)
        return views if self._camera is None else views.permute(0, 3, 1, 2)

    def header(self) -> Header:
        """How the features are made. Runs the encoder once for the number of its features."""
        config, transform, camera = self._config, self._encoder.transform, self._camera
        with torch.inference_mode():
            blank = torch.zeros(1, 3, transform.height_px, transform.width_px)
            dim = self._encoder.image_vectors(blank, projected=config.layer == "projected").shape[1]
        fields = dict(self._encoder.record.header_fields())
        if camera is not None:
            fields["preprocessing"] = (
                f"rendered at {camera.width} x {camera.height} px as the centre crop of {FIELD.width} x "
                f"{FIELD.height}, {self._encoder.record.precision}"
            )
        scans = {place.scan for place in self._viewpoints.values()}
        return Header(
            source=f"skyboxes of {len(self._viewpoints)} viewpoints in {len(scans)} scans",
            shape=(VIEWS, dim),
            dtype=config.dtype,
            layer=config.layer,
            channel_order=config.channel_order,
            image_width_px=FIELD.width,
            image_height_px=FIELD.height,
            vfov_deg=round(math.degrees(FIELD.vfov_rad), 6),
            **fields,
        )
