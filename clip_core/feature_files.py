"""Files of a feature store: the header that says how the features were made, the keys, the table.

A store is a folder: `header.json` (`Header`), `keys.txt` names the items in order of row, one a line
(`"{scan}_{viewpoint}"` for a panorama), and `table.npy` holds them, [N, *shape] in C order, readable by
`numpy.load(..., mmap_mode="r")`. While a writer fills it the folder is called `NAME.partial`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np

FORMAT, VERSION = "clipnav-features", 1
HEADER_FILE, KEYS_FILE, TABLE_FILE = "header.json", "keys.txt", "table.npy"
CONVERT_COMMAND = "python -m precompute convert --from FILE --out STORE"
Layer = Literal["projected", "unprojected", "grid", "unknown"]
ChannelOrder = Literal["RGB", "BGR", "unknown"]
Dtype = Literal["float16", "float32"]
_CHOICES = {"layer": get_args(Layer), "channel_order": get_args(ChannelOrder), "dtype": get_args(Dtype)}


@dataclass(frozen=True)
class Header:
    """How the features of a store were made; None or "unknown" where nobody recorded it.

    Raises ValueError for a field outside its choices or a shape that is not of positive integers.
    """

    source: str
    """What they were computed from: a file or a data set."""
    shape: tuple[int, ...]
    """Shape of one item: (36, D) for a panorama, (D,) for the vector of an image, (h, w, D) for its grid."""
    dtype: Dtype = "float16"
    """Number format of the table."""
    model: str | None = None
    """Architecture as open_clip or timm name it, e.g. `ViT-B-32`."""
    pretrained: str | None = None
    """Tag of the weights, e.g. `openai`."""
    weights_sha256: str | None = None
    """Hash of the weights file."""
    layer: Layer = "unknown"
    """`projected`: the joint space of CLIP; `unprojected`: the pooled vector before it; `grid`: tokens or cells."""
    channel_order: ChannelOrder = "unknown"
    """Order in which the encoder saw the colours; the buffer of MatterSim is BGR."""
    preprocessing: str | None = None
    """From pixels to the input of the encoder, e.g. `centre crop, 224 px, bicubic`."""
    image_width_px: int | None = None
    """Width of an image before preprocessing."""
    image_height_px: int | None = None
    """Height of an image before preprocessing."""
    vfov_deg: float | None = None
    """Vertical field of view of a view."""

    def __post_init__(self) -> None:
        if not self.shape or not all(isinstance(n, int) and n > 0 for n in self.shape):
            raise ValueError(f"shape of an item is {self.shape}; expected positive integers such as (36, 512)")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")

    @property
    def dim(self) -> int:
        """D, the length of a feature vector."""
        return self.shape[-1]

    def differences(self, other: Header) -> list[str]:
        """A line for each field in which two headers differ."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [f"{name}: {mine[name]!r}, not {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    def write(self, folder: Path) -> None:
        """Writes the header file of a store folder."""
        fields = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        temporary = folder / f"{HEADER_FILE}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(fields, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / HEADER_FILE)

    @staticmethod
    def read(folder: Path) -> Header:
        """Header of a store folder; ValueError for a file that is missing, damaged or of a newer version."""
        path = folder / HEADER_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(
                f"{folder} is no feature store: it has no {HEADER_FILE}; make one: {CONVERT_COMMAND}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); make the store again: {CONVERT_COMMAND}") from None
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not the header of a feature store; expected format {FORMAT!r}")
        version = fields.pop("version", None)
        if version != VERSION:
            raise ValueError(
                f"{path} has version {version!r}; this ClipNav reads {VERSION}: update it (pip install -U)"
            )
        known = {field.name for field in dataclasses.fields(Header)}
        faults = sorted(known.symmetric_difference(fields))
        if faults:
            raise ValueError(
                f"{path} lacks or should not have the fields {faults}; make the store again: {CONVERT_COMMAND}"
            )
        if not isinstance(fields["shape"], list):
            raise ValueError(f"{path}: shape is {fields['shape']!r}; expected a list such as [36, 512]")
        return Header(**{**fields, "shape": tuple(fields["shape"])})

    @property
    def item_bytes(self) -> int:
        """Bytes of one row of the table."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def partial_path(path: Path) -> Path:
    """Folder in which a writer collects the store that will be at `path`."""
    return path.with_name(path.name + ".partial")


def read_keys(folder: Path) -> list[str]:
    """Names of the items in order of row; a last line that was cut is left out."""
    try:
        lines = (folder / KEYS_FILE).read_bytes().decode().split("\n")
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {KEYS_FILE}; make the store again: {CONVERT_COMMAND}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder / KEYS_FILE} is damaged ({error}); expected names in UTF-8, one a line") from None
    return lines[:-1]


def write_table_header(file: BinaryIO, header: Header, n_rows: int) -> None:
    """Writes the `.npy` header of a table at the start of a file; its length does not depend on the rows."""
    file.seek(0)
    fields = {"descr": np.dtype(header.dtype).newbyteorder("<").str, "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**fields, "shape": (n_rows, *header.shape)})


def read_table_header(file: BinaryIO, header: Header) -> tuple[int, int]:
    """Rows that a table declares, byte at which they start; ValueError where it contradicts the store's header."""
    try:
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise ValueError(f"{file.name} is no table of features ({error}); make the store again") from None
    if tuple(shape[1:]) != header.shape or fortran_order or dtype != np.dtype(header.dtype).newbyteorder("<"):
        raise ValueError(
            f"{file.name} holds {dtype} {tuple(shape)}; {HEADER_FILE} says {header.dtype} [N, {header.shape}]: "
            f"make the store again: {CONVERT_COMMAND}"
        )
    return int(shape[0]), file.tell()


def rows_in_table(folder: Path, header: Header) -> int:
    """Rows of a finished table; ValueError if the file is shorter or longer than they need."""
    path = folder / TABLE_FILE
    if not path.exists():
        raise ValueError(f"{folder} has no {TABLE_FILE}; make the store again: {CONVERT_COMMAND}")
    with path.open("rb") as file:
        n_rows, offset = read_table_header(file, header)
    found, expected = path.stat().st_size, offset + n_rows * header.item_bytes
    if found != expected:
        raise ValueError(
            f"{path} has {found} bytes where {n_rows} items of {header.item_bytes} bytes need {expected}: "
            f"{'truncated' if found < expected else 'damaged'}: copy the store again or make it: {CONVERT_COMMAND}"
        )
    return n_rows
