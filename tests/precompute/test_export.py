"""Export of stores: what comes back is what was there, others' readers understand it, a fault leaves no file."""

import base64
import builtins
import csv
import io
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest
from rich.console import Console

from clip_core.feature_files import Header
from clip_core.feature_writer import StoreWriter
from clip_core.features import FeatureStore
from precompute import export as module
from precompute.__main__ import main
from precompute.convert import Convert, convert
from precompute.export import Export, export

CAMERA = {"image_width_px": 640, "image_height_px": 480, "vfov_deg": 60.0}


def make_store(path, n=9, dim=8, keys=None, shape=None, **fields):
    fields = {"dtype": "float16", **CAMERA, **fields}
    header = Header(source="test", shape=shape or (36, dim), **fields)
    values = np.random.default_rng(0).standard_normal((n, *header.shape)).astype(header.dtype)
    names = keys or [f"scan_vp{index:02d}" for index in reversed(range(n))]  # not in the order of the alphabet
    with StoreWriter(path, header) as writer:
        for key, item in zip(names, values, strict=True):
            writer.append(key, item.astype(np.float32))
        return writer.finish()


def silent():
    return Console(file=io.StringIO(), width=200)


@pytest.mark.parametrize("suffix", ["tsv", "hdf5", "h5"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_round_trip(tmp_path, suffix, dtype, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    store = make_store(tmp_path / "store", dtype=dtype)
    file = tmp_path / f"views.{suffix}"
    assert main(["export", "--store", str(store.path), "--to", str(file)]) == 0
    back = convert(Convert(file, tmp_path / "back", dtype=dtype), silent())
    assert back.keys == store.keys
    assert (tmp_path / "back" / "table.npy").read_bytes() == (tmp_path / "store" / "table.npy").read_bytes()
    for name in ("shape", "dtype", "image_width_px", "image_height_px", "vfov_deg"):
        assert getattr(back.header, name) == getattr(store.header, name)


def test_tsv_as_r2r_envdrop_reads_it(tmp_path):
    store = make_store(tmp_path / "store", keys=[f"house_1_vp{index}" for index in range(9)])
    export(Export(store.path, tmp_path / "views.tsv"), silent())
    columns = ["scanId", "viewpointId", "image_w", "image_h", "vfov", "features"]
    with (tmp_path / "views.tsv").open() as file:
        for row, item in zip(csv.DictReader(file, columns, delimiter="\t"), store.table, strict=True):
            features = np.frombuffer(base64.decodebytes(row["features"].encode()), np.float32).reshape(36, 8)
            np.testing.assert_array_equal(features, item)
            assert [int(row[name]) for name in columns[2:5]] == [640, 480, 60]
            assert (row["scanId"], row["viewpointId"][:2]) == ("house_1", "vp")


def test_hdf5_as_hamt_reads_it(tmp_path):
    store = make_store(tmp_path / "store", vfov_deg=45.5)
    export(Export(store.path, tmp_path / "views.hdf5"), silent())
    with h5py.File(tmp_path / "views.hdf5", "r") as file:
        for key, item in zip(store.keys, store.table, strict=True):
            np.testing.assert_array_equal(file[key][...][:, :8].astype(np.float32), item)
            assert file[key].attrs["scanId"] == "scan"
            assert f"scan_{file[key].attrs['viewpointId']}" == key
            assert (file[key].attrs["image_w"], file[key].attrs["vfov"]) == (640, 45.5)


def test_unknown_cameras(tmp_path):
    store = make_store(tmp_path / "store", image_width_px=None, image_height_px=None, vfov_deg=None)
    with pytest.raises(ValueError, match="add --image-width 640 --image-height 480 --vfov 60"):
        export(Export(store.path, tmp_path / "views.tsv"), silent())
    export(Export(store.path, tmp_path / "views.hdf5"), silent())
    assert convert(Convert(tmp_path / "views.hdf5", tmp_path / "bare"), silent()).header.vfov_deg is None
    flags = ["--image-width", "640", "--image-height", "480", "--vfov", "60"]
    assert main(["export", "--store", str(store.path), "--to", str(tmp_path / "views.tsv"), *flags]) == 0
    header = convert(Convert(tmp_path / "views.tsv", tmp_path / "back"), silent()).header
    assert (header.image_width_px, header.image_height_px, header.vfov_deg) == (640, 480, 60)
    known = make_store(tmp_path / "known")
    with pytest.raises(ValueError, match=r"--vfov is 75, but .*known was made with 60: leave the flag out"):
        export(Export(known.path, tmp_path / "other.tsv", vfov=75), silent())


def test_what_is_told(tmp_path):
    screen = io.StringIO()
    store = make_store(tmp_path / "store")
    export(Export(store.path, tmp_path / "views.tsv"), Console(file=screen, width=200))
    assert "views.tsv: 9 panoramas, 0.00 GB, in " in screen.getvalue()


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ({}, "views.csv", r"views.csv has the suffix '.csv'; expected .tsv, .hdf5 or .h5"),
        ({"shape": (49, 8)}, "views.tsv", r"items of shape \(49, 8\); expected panoramas, \(36, D\)"),
        ({"shape": (8,)}, "views.hdf5", r"items of shape \(8,\); expected panoramas"),
        ({"keys": [*"abcdefghi"]}, "views.tsv", r"has the key 'a'; expected \"\{scan\}_\{viewpoint\}\""),
        ({}, "taken.tsv", "taken.tsv exists; expected a new file"),
    ],
)
def test_faults(tmp_path, capsys, fields, name, message):
    (tmp_path / "taken.tsv").write_text("precious")
    store = make_store(tmp_path / "store", **fields)
    with pytest.raises(ValueError, match=message):
        export(Export(store.path, tmp_path / name), silent())
    assert main(["export", "--store", str(store.path), "--to", str(tmp_path / name)]) == 2
    assert (tmp_path / "taken.tsv").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"taken.tsv", "store"}


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no feature store at"):
        export(Export(tmp_path / "absent", tmp_path / "views.tsv"), silent())


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "h5py":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"needs h5py: pip install 'clipnav\[hdf5\]'"):
        export(Export(tmp_path / "store", tmp_path / "views.hdf5"), silent())


@pytest.mark.parametrize("name", ["views.tsv", "views.hdf5"])
def test_full_disk_leaves_no_file(tmp_path, name):
    """The disk is full after 20 kB: a limit of the system on the size of files."""
    store = make_store(tmp_path / "store", n=30)
    arguments = ["export", "--store", str(store.path), "--to", str(tmp_path / name)]
    script = "import sys; from precompute.__main__ import main; sys.exit(main(sys.argv[1:]))"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-B", "-c", script, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert FeatureStore.open(store.path).keys == store.keys
