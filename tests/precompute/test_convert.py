"""Conversion of the field's feature files: same numbers, same keys, continued after a kill, each fault with its row."""

import base64
import csv
import io
import os
import signal
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
from rich.console import Console

from clip_core import feature_writer
from clip_core.features import FeatureStore
from precompute import legacy
from precompute.__main__ import main
from precompute.convert import Convert, convert

COLUMNS = ["scanId", "viewpointId", "image_w", "image_h", "vfov", "features", "logits"]
SILENT = Console(file=io.StringIO())


def views(n, dim=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 36, dim)).astype(np.float32)


def tsv_row(index, features, **columns):
    text = base64.b64encode(np.ascontiguousarray(features, np.float32)).decode()
    row = dict(zip(COLUMNS, ("scan", f"vp{index}", 640, 480, 60, text), strict=False))
    return {**row, **columns}


def write_tsv(path, rows, columns=6):
    """As the field's scripts do: csv.DictWriter, lines that end in CR LF."""
    with path.open("w", newline="") as file:
        csv.DictWriter(file, COLUMNS[:columns], delimiter="\t", extrasaction="ignore").writerows(rows)
    return path


def write_hdf5(path, values, dtype="float", attributes=True):
    """As HAMT's scripts do: one dataset a viewpoint, float64, gzip."""
    with h5py.File(path, "w") as file:
        for index, features in enumerate(values):
            data = file.create_dataset(f"scan_vp{index}", features.shape, dtype=dtype, compression="gzip")
            data[...] = features
            if attributes:
                data.attrs.update(scanId="scan", viewpointId=f"vp{index}", image_w=640, image_h=480, vfov=60)
    return path


def converted(source, out, **fields):
    return convert(Convert(source, out, **fields), SILENT)


def keys(n):
    return tuple(f"scan_vp{index}" for index in range(n))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("columns", [6, 7])
def test_tsv(tmp_path, dtype, columns):
    values = views(9)
    rows = [tsv_row(index, features, logits="abcd" * index) for index, features in enumerate(values)]
    source = write_tsv(tmp_path / "views.tsv", rows, columns)
    store = converted(source, tmp_path / "store", dtype=dtype, model="RN50", channel_order="BGR", layer="unprojected")
    assert store.keys == keys(9)
    np.testing.assert_array_equal(store.table, values.astype(dtype))
    header = store.header
    assert (header.model, header.channel_order, header.layer) == ("RN50", "BGR", "unprojected")
    assert (header.image_width_px, header.image_height_px, header.vfov_deg) == (640, 480, 60)
    assert header.source == f"views.tsv ({source.stat().st_size} bytes)"


def test_hdf5_with_logits(tmp_path):
    values = views(4, 8 + 1000)
    source = write_hdf5(tmp_path / "views.hdf5", values)
    store = converted(source, tmp_path / "store", dim=8)
    assert store.keys == keys(4)
    np.testing.assert_array_equal(store.table, values[:, :, :8].astype(np.float16))
    assert (store.header.image_width_px, store.header.vfov_deg) == (640, 60)
    bare = write_hdf5(tmp_path / "bare.h5", values[:2], "float32", attributes=False)
    store = converted(bare, tmp_path / "bare")
    assert store.header.shape == (36, 1008)
    assert store.header.vfov_deg is None


def test_tsv_is_cut_to_dim_and_small_oddities_pass(tmp_path):
    values = views(3)
    rows = [{name: name for name in COLUMNS}]  # a line of column names
    rows += [tsv_row(index, features) for index, features in enumerate(values)]
    source = write_tsv(tmp_path / "views.tsv", [*rows, rows[2]])  # the same row twice
    text = source.read_bytes().replace(b"\r\n", b"\n").replace(b"scan\tvp1", b"\n  \nscan\tvp1", 1).rstrip(b"\n")
    source.write_bytes(text)
    store = converted(source, tmp_path / "store", dim=5)
    assert store.keys == keys(3)
    np.testing.assert_array_equal(store.table, values[:, :, :5].astype(np.float16))


def test_likely_logits_are_pointed_out(tmp_path):
    screen = io.StringIO()
    source = write_hdf5(tmp_path / "views.hdf5", np.zeros((1, 36, 1768)), "float32")
    convert(Convert(source, tmp_path / "store"), Console(file=screen, width=200))
    assert "1768 numbers a view: with class logits? Then cut them off: --dim 768" in screen.getvalue()
    assert "1 x 36 x 1768 float16, 0.00 GB" in screen.getvalue()


def test_fast_base64_is_base64():
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = rng.bytes(3 * int(rng.integers(1, 50)))
        text = np.frombuffer(base64.b64encode(data), np.uint8)
        for decode in (legacy.decode_base64, legacy.decode_base64.py_func):
            out = np.zeros(len(data), np.uint8)
            assert not decode(text, out)
            assert out.tobytes() == data
    digits = set(base64.b64encode(bytes(range(256)) * 3)) - set(b"=")
    for character in range(256):
        for place in range(4):
            text = np.full(8, ord("A"), np.uint8)
            text[place] = character
            assert legacy.decode_base64(text, np.zeros(6, np.uint8)) == (character not in digits)


def test_kill_during_conversion(tmp_path):
    values = views(12)
    source = write_tsv(tmp_path / "views.tsv", [tsv_row(index, features) for index, features in enumerate(values)])
    script = """
import os, signal, sys
from clip_core import feature_writer
from precompute.__main__ import main
feature_writer._COMMIT_BYTES = 4 * 36 * 8 * 2
append = feature_writer.StoreWriter.append
def append_or_die(writer, key, item):
    if key == "scan_vp10":
        os.kill(os.getpid(), signal.SIGKILL)
    append(writer, key, item)
feature_writer.StoreWriter.append = append_or_die
main(sys.argv[1:])
"""
    arguments = ["convert", "--from", str(source), "--out", str(tmp_path / "store")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "store").exists()
    decoded = []
    screen = io.StringIO()
    append = feature_writer.StoreWriter.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_writer.StoreWriter, "append",
                      lambda writer, key, item: (decoded.append(key), append(writer, key, item)))  # fmt: skip
        store = convert(Convert(source, tmp_path / "store"), Console(file=screen))
    assert decoded == list(keys(12)[8:])
    assert "8 rows are there" in screen.getvalue()
    assert store.keys == keys(12)
    np.testing.assert_array_equal(store.table, values.astype(np.float16))


def test_memory_is_constant(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_writer, "_COMMIT_BYTES", 1 << 20)
    monkeypatch.setattr(legacy, "_RELEASE_BYTES", 1 << 20)
    rows = [tsv_row(0, np.zeros((36, 512), np.float32), viewpointId=f"vp{index}") for index in range(300)]
    source = write_tsv(tmp_path / "views.tsv", rows)
    tracemalloc.start()
    converted(source, tmp_path / "store")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.stat().st_size > 29_000_000
    assert peak < 6_000_000


def faulty(rows, index, **columns):
    rows[index] = {**rows[index], **columns}
    return rows


B64 = base64.b64encode(np.zeros((36, 8), np.float32)).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": B64[:-1]}, r"row 3 has 1535 characters of features; .* multiple of 192: the row is cut"),
        ({"features": B64[: 35 * 8 * 4 * 4 // 3]}, "row 3 has 1493 characters"),
        ({"features": ""}, "row 3 has 0 characters"),
        ({"features": B64[:-192]}, r"row 3: an item of shape \(36, 7\); expected \(36, 8\)"),
        ({"features": "b'" + B64[2:]}, "row 3 has characters that are not base64"),
        ({"features": B64[:-1] + "="}, "row 3 has characters that are not base64"),
        ({"image_w": "wide"}, "row 3: image_w, image_h, vfov are 'wide', '480', '60'"),
        ({"vfov": 75}, r"row 3 has Camera\(.*vfov_deg=75.0\); expected Camera\(.*vfov_deg=60.0\)"),
        ({"viewpointId": "vp0"}, "row 3: scan_vp0 was there before with other features"),
        ({"features": base64.b64encode(np.full((36, 8), np.nan, np.float32)).decode()}, "row 3: .*not finite"),
        ({"features": base64.b64encode(np.full((36, 8), 1e5, np.float32)).decode()}, "row 3: .*--dtype float32"),
    ],
)
def test_a_faulty_row_is_named_and_the_rows_before_are_kept(tmp_path, change, message):
    values = views(4)
    rows = [tsv_row(index, features) for index, features in enumerate(values)]
    source = write_tsv(tmp_path / "views.tsv", faulty(list(rows), 2, **change))
    with pytest.raises(ValueError, match=f"views.tsv {message}"):
        converted(source, tmp_path / "store")
    assert (tmp_path / "store.partial/keys.txt").read_text().split() == ["scan_vp0", "scan_vp1"]
    assert not (tmp_path / "store").exists()


def test_a_cut_file_is_noticed(tmp_path):
    values = views(3)
    source = write_tsv(tmp_path / "views.tsv", [tsv_row(index, features) for index, features in enumerate(values)])
    whole = source.read_bytes()
    row = len(whole) // 3
    for kept in [2 * row + 3, 2 * row + 12, 2 * row + 30, len(whole) - 200, len(whole) - 3]:
        source.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"row 3 .*(columns|characters|shape)"):
            converted(source, tmp_path / f"store{kept}")


def test_faulty_files(tmp_path):
    source = tmp_path / "views"
    with pytest.raises(ValueError, match="no file at"):
        converted(source, tmp_path / "store")
    for content, message in [
        (b"", "is empty"),
        (b"\n\n", "has no rows"),
        (b"PK\x03\x04abcd", "is a zip archive"),
        (b"\x1f\x8babcdefgh", "is a gzip archive"),
        (b"a\tb\tc\n", "row 1 has 3 columns; expected 6"),
        (b"\t" * 9, "row 1 has 8 columns"),
        (b"\x89HDF\r\n\x1a\nabc", "damaged HDF5 file"),
    ]:
        source.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            converted(source, tmp_path / "store")
    write_tsv(source, [tsv_row(0, views(1)[0])])
    with pytest.raises(ValueError, match="row 1 has 8 numbers a view; expected at least the 9 of --dim"):
        converted(source, tmp_path / "store", dim=9)
    assert [path.name for path in tmp_path.iterdir()] == ["views"]


def test_faulty_hdf5(tmp_path):
    values = views(3)
    source = write_hdf5(tmp_path / "views.hdf5", values)
    with h5py.File(source, "r+") as file:
        file["scan_vp3"] = np.zeros((5, 8))
    with pytest.raises(ValueError, match=r"row 4, scan_vp3 is float64 \(5, 8\); expected floats \[36, D\]"):
        converted(source, tmp_path / "a")
    with h5py.File(source, "r+") as file:
        del file["scan_vp3"]
        file.create_group("scan_vp3")
    with pytest.raises(ValueError, match="scan_vp3 is a group"):
        converted(source, tmp_path / "b")
    source.write_bytes(source.read_bytes()[:-3000])
    with pytest.raises(ValueError, match="damaged HDF5 file"):
        converted(source, tmp_path / "c")
    damaged = write_hdf5(tmp_path / "damaged.hdf5", views(3, 512))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    damaged.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged.hdf5 row \d, scan_vp\d is damaged"):
        converted(damaged, tmp_path / "d")


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    source = write_hdf5(tmp_path / "views.hdf5", views(1))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"needs h5py: pip install 'clipnav\[hdf5\]'"):
        converted(source, tmp_path / "store")


def test_other_settings_do_not_continue_a_conversion(tmp_path):
    rows = [tsv_row(index, features) for index, features in enumerate(views(3))]
    source = write_tsv(tmp_path / "views.tsv", faulty(rows, 2, features="?"))
    with pytest.raises(ValueError, match="row 3"):
        converted(source, tmp_path / "store")
    with pytest.raises(ValueError, match="model: None, not 'RN50'"):
        converted(source, tmp_path / "store", model="RN50")


def test_command(tmp_path, capsys, monkeypatch):
    values = views(2)
    write_tsv(tmp_path / "views.tsv", [tsv_row(index, features) for index, features in enumerate(values)])
    monkeypatch.chdir(tmp_path)
    command = ["convert", "--from", "views.tsv", "--out", "stores/views", "--channel-order=BGR", "--pretrained=openai"]
    assert main(command) == 0
    assert "stores/views: 2 x 36 x 8 float16" in capsys.readouterr().out
    header = FeatureStore.open("stores/views").header
    assert (header.channel_order, header.pretrained, header.model) == ("BGR", "openai", None)
    assert main(command) == 2
    assert "views exists; expected a new path" in " ".join(capsys.readouterr().err.split())
    assert os.listdir("stores") == ["views"]


@pytest.mark.parametrize(("arguments", "taught"), [(["--help"], "convert"), (["convert", "--help"], "--channel-order")])
def test_help(capsys, arguments, taught):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert taught in capsys.readouterr().out
