"""Images as a CLIP encoder takes them: resized, cropped, normalised, on PIL images or in batches on a device.

B images, H x W pixels of an image, h x w pixels of the encoder's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

ChannelOrder = Literal["RGB", "BGR"]
Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "longest", "squash"]
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "HSV")  # 8 bits a channel
_MOST_PIXELS = 100_000_000  # of a resized image, 300 MB
HOW_RESIZED: Mapping[ResizeMode, str] = {
    "shortest": "shortest side to the size, centre crop",
    "longest": "longest side to the size, padded",
    "squash": "squashed to the size",
}
"""What `ImageTransform.describe` says of each mode."""


@dataclass(frozen=True)
class ImageTransform:
    """From pixels to the input of an encoder; the fields come with the model's config.

    Raises ValueError for a size, mode or constant outside its choices.
    """

    height_px: int = 224
    width_px: int = 224
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill: int = 0
    """Grey level of the padding of `longest`, 0 to 255."""

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px) < 1:
            raise ValueError(f"input size is {self.height_px} x {self.width_px}; expected positive numbers of pixels")
        if self.interpolation not in get_args(Interpolation) or self.resize_mode not in HOW_RESIZED:
            raise ValueError(
                f"interpolation {self.interpolation!r}, resize mode {self.resize_mode!r}; expected one of "
                f"{', '.join(get_args(Interpolation))} and one of {', '.join(HOW_RESIZED)}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError(f"mean {self.mean}, std {self.std}; expected three numbers each, std positive")

    @staticmethod
    def from_config(config: Mapping[str, Any], size: int | Sequence[int]) -> ImageTransform:
        """Transform of a `preprocess_cfg` of open_clip, whose absent entries are OpenAI's; size in pixels or (h, w)."""
        height, width = (size, size) if isinstance(size, int) else size
        given = {key: config[key] for key in ("interpolation", "resize_mode") if config.get(key)}
        for key, default in (("mean", OPENAI_MEAN), ("std", OPENAI_STD)):
            value = config.get(key) or default
            given[key] = (float(value),) * 3 if isinstance(value, int | float) else tuple(map(float, value))
        return ImageTransform(int(height), int(width), **given, fill=int(config.get("fill_color") or 0))

    def describe(self) -> str:
        """In words, for the header of a store."""
        return f"{HOW_RESIZED[self.resize_mode]}, {self.width_px} x {self.height_px} px, {self._filter()}"

    def __call__(self, image: Image.Image) -> Tensor:
        """Input of the encoder for one PIL image, float32 [3, h, w].

        Equal to the bit to `open_clip.image_transform` on the RGB image. Images of other modes become RGB first; see
        `as_rgb`, which also names the modes that raise ValueError.
        """
        return self.normalised(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """The first half of `__call__`, up to whole grey levels: uint8 [3, h, w] of one PIL image.

        Threads may call it at once. Raises ValueError for an image so long and thin that resizing would blow it up.
        """
        image = as_rgb(image)
        height, width = self._resized(image.height, image.width)
        if height * width > _MOST_PIXELS:
            raise ValueError(
                f"an image of {image.width} x {image.height} px would have {width} x {height} px before cropping; "
                "expected a shape nearer to that of the input"
            )
        if (height, width) != (image.height, image.width):
            how = Image.Resampling.BILINEAR if self._filter() == "bilinear" else Image.Resampling.BICUBIC
            image = image.resize((width, height), how)
        pixels = self._cropped(torch.from_numpy(np.array(image, np.uint8)).permute(2, 0, 1))
        return torch.from_numpy(np.ascontiguousarray(pixels.numpy()))  # numpy copies in this thread alone

    def normalised(self, pixels: Tensor) -> Tensor:
        """The second half: uint8 [..., 3, h, w] -> float32, mean and deviation of each channel taken out."""
        mean = torch.tensor(self.mean, dtype=torch.float32)[:, None, None].to(pixels.device, non_blocking=True)
        std = torch.tensor(self.std, dtype=torch.float32)[:, None, None].to(pixels.device, non_blocking=True)
        return pixels.contiguous().float().div_(255).sub_(mean).div_(std)

    def batch(self, images: Tensor) -> Tensor:
        """Input of the encoder for a batch on its device: uint8 [B, 3, H, W] RGB -> float32 [B, 3, h, w].

        The device twin of `__call__`: the same filters with antialiasing, rounded to whole levels after each axis as
        Pillow does. Measured on noise and drawings from 224 to 640 px (tests/clip_core/test_images.py): at most 1.2 %
        of the values differ with bicubic and 3 % with bilinear, by one grey level of 255, at most 0.03 % by two.
        Raises ValueError for another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; expected uint8 [B, 3, H, W]")
        rows, columns = images.shape[2:]
        height, width = self._resized(rows, columns)
        # Pillow goes across, then down, except where that loses the more rows (observed with Pillow 13 on all sizes).
        down_first = rows > height and rows - height > 2 * (columns - width)
        images = self._resample(images, (height, columns) if down_first else (rows, width))
        images = self._resample(images, (height, width))
        return self.normalised(self._cropped(images))

    def _resample(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(images.shape[2:]) == size:
            return images
        values = functional.interpolate(images.float(), size, mode=self._filter(), antialias=True, align_corners=False)
        return values.add_(0.5).floor_().clamp_(0, 255).byte()

    def _filter(self) -> Interpolation:
        """open_clip resizes to a size that is not square with bicubic whatever the config says."""
        oblong = self.resize_mode == "shortest" and self.height_px != self.width_px
        return "bicubic" if oblong else self.interpolation

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Size of an image after resizing, before cropping; the roundings are those of open_clip and torchvision."""
        if self.resize_mode == "squash":
            return self.height_px, self.width_px
        if self.resize_mode == "shortest" and self.height_px == self.width_px:
            short = self.height_px
            if width <= height:
                return int(short * height / width), short
            return short, int(short * width / height)
        ratios = height / self.height_px, width / self.width_px
        ratio = min(ratios) if self.resize_mode == "shortest" else max(ratios)
        return round(height / ratio), round(width / ratio)

    def _cropped(self, pixels: Tensor) -> Tensor:
        """The centre [..., h, w] of pixels [..., H, W], padded where they are smaller."""
        down, across = self.height_px - pixels.shape[-2], self.width_px - pixels.shape[-1]
        if down > 0 or across > 0:
            down, across = max(down, 0), max(across, 0)
            sides = (across // 2, (across + 1) // 2, down // 2, (down + 1) // 2)
            pixels = functional.pad(pixels, sides, value=self.fill)
        top = round((pixels.shape[-2] - self.height_px) / 2)
        left = round((pixels.shape[-1] - self.width_px) / 2)
        return pixels[..., top : top + self.height_px, left : left + self.width_px]


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB image of a PIL image of 8 bits a channel: grey, palette, CMYK, with alpha (dropped, as open_clip does).

    Raises ValueError for images of 16 bits, of floats, and of other modes, which would lose their values unnoticed.
    """
    if image.mode == "RGB":
        return image
    if image.mode not in _MODES:
        raise ValueError(
            f"an image of mode {image.mode!r} is not of 8 bits a channel; expected one of {', '.join(_MODES)}: "
            "convert it to 8 bits first"
        )
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # knows every form of transparency; the way straight to RGB warns of some
    return image.convert("RGB")


def open_image(path: Path | str, *, upright: bool = False) -> Image.Image:
    """RGB image of a file, decoded whole; ValueError that names the file if it is missing, broken or not of 8 bits.

    upright: turn it as the orientation tag of the camera says, as viewers (and detectron2) do and open_clip does not.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return as_rgb(ImageOps.exif_transpose(image) if upright else image)
    except FileNotFoundError:
        raise ValueError(f"no image at {path}; expected the file of an image: name one that is there") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{path} is no image that Pillow can read; expected JPEG, PNG or another common format"
        ) from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is a broken image ({error}); download it again") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def batch_of_arrays(
    arrays: np.ndarray | Sequence[np.ndarray], channel_order: ChannelOrder = "RGB", device: torch.device | str = "cpu"
) -> Tensor:
    """Arrays of pixels, uint8 [H, W, 3] of one size or one [B, H, W, 3], as a batch for `ImageTransform.batch`.

    channel_order: of the arrays; the buffer of MatterSim is BGR. Result: uint8 [B, 3, H, W] RGB on the device.
    Raises ValueError for another type, another shape, or sizes that differ.
    """
    if channel_order not in get_args(ChannelOrder):
        raise ValueError(f"channel order is {channel_order!r}; expected one of {', '.join(get_args(ChannelOrder))}")
    for index, array in enumerate(arrays):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"image {index} is {array.dtype} {array.shape}; expected uint8 [height, width, 3]")
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"image {index} has {array.shape[1]} x {array.shape[0]} pixels, image 0 has {arrays[0].shape[1]} x "
                f"{arrays[0].shape[0]}; expected images of one size: transform them one by one"
            )
    if len(arrays) == 0:
        raise ValueError("no image; expected at least one")
    pixels = torch.from_numpy(np.ascontiguousarray(arrays)).to(device).permute(0, 3, 1, 2)
    return pixels.flip(1) if channel_order == "BGR" else pixels.contiguous()
