"""Feature store: what is written is read, a killed writer goes on, every fault is named."""

import dataclasses
import json
import pickle
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from clip_core import feature_writer, features
from clip_core.feature_files import Header, partial_path
from clip_core.feature_writer import StoreWriter
from clip_core.features import FeatureStore

SHAPE = (4, 6)
HEADER = Header("views.tsv", SHAPE, model="ViT-B-32", pretrained="openai", layer="projected", channel_order="RGB")


def items(n, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def write(path, values, header=HEADER, start=0):
    with StoreWriter(path, header) as writer:
        for index, item in enumerate(values[start:], start=start):
            writer.append(f"scan_{index}", item)
        return writer.finish()


@pytest.fixture
def small_blocks(monkeypatch):
    """Three items a commit, two a copy, so that small stores go through every boundary."""
    monkeypatch.setattr(feature_writer, "_COMMIT_BYTES", 3 * 48)
    monkeypatch.setattr(features, "_COPY_BYTES", 2 * 48)


@pytest.mark.parametrize(("dtype", "shape"), [("float16", (36, 8)), ("float32", (36, 8)), ("float16", (7, 7, 3))])
def test_round_trip(tmp_path, dtype, shape):
    values = items(10, shape)
    header = Header("x", shape, dtype, image_width_px=640, vfov_deg=60.0)
    written = write(tmp_path / "store", values, header)
    store = FeatureStore.open(tmp_path / "store")
    assert store.header == written.header == header
    assert store.keys == tuple(f"scan_{index}" for index in range(10))
    assert store.table.dtype == dtype
    np.testing.assert_array_equal(store.table, values.astype(dtype))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    np.testing.assert_array_equal(np.load(tmp_path / "store/table.npy", mmap_mode="r"), values.astype(dtype))


@pytest.mark.usefixtures("small_blocks")
def test_rows_gather_and_tensor_follow_the_keys(tmp_path):
    values = items(11).astype(np.float16)
    store = write(tmp_path / "store", values)
    keys = ["scan_7", "scan_0", "scan_10", "scan_7", "scan_3"]
    rows = store.rows(keys)
    assert rows.tolist() == [7, 0, 10, 7, 3]
    np.testing.assert_array_equal(store.gather(rows), values[[7, 0, 10, 7, 3]])
    out = np.zeros((5, *SHAPE), np.float64)
    assert store.gather(rows, out) is out
    np.testing.assert_array_equal(out, values[[7, 0, 10, 7, 3]])
    tensor = store.to("cpu", rows)
    assert tensor.dtype == torch.float16
    np.testing.assert_array_equal(tensor.numpy(), values[[7, 0, 10, 7, 3]])
    np.testing.assert_array_equal(store.to("cpu").numpy(), values)
    assert store.rows([]).shape == (0,)
    assert store.gather(store.rows([])).shape == (0, *SHAPE)


@pytest.mark.gpu
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_table_on_a_gpu(tmp_path):
    store = write(tmp_path / "store", items(11))
    assert torch.equal(store.to("cuda").cpu(), store.to("cpu"))


def test_what_is_written_to_the_table_stays_in_memory(tmp_path):
    values = items(3).astype(np.float16)
    store = write(tmp_path / "store", values)
    store.to("cpu").zero_()
    np.testing.assert_array_equal(FeatureStore.open(tmp_path / "store").table, values)


def test_a_store_travels_by_its_path(tmp_path):
    store = write(tmp_path / "store", items(50, (36, 64)), Header("x", (36, 64)))
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).table, store.table)


def test_check_names_what_does_not_fit(tmp_path):
    store = write(tmp_path / "store", items(3))
    store.check(keys=["scan_0"], **store.origin())
    store.check(model="ViT-B-32", layer=None)
    with pytest.raises(
        ValueError, match=r"model is 'ViT-B-32', expected 'RN50'; layer is 'projected', expected 'grid'"
    ):
        store.check(model="RN50", layer="grid", channel_order="RGB")
    with pytest.raises(ValueError, match=r"(?s)lacks 6 of 8 keys: x1, x2, x3, x4, x5, \.\.\.; it holds 3 .* convert"):
        store.check(keys=["scan_0", "x6", "x1", "x2", "x3", "x4", "x5", "scan_2"])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("committed", "behind"), [(0, 2), (3, 1), (6, 2), (9, 0)])
def test_a_writer_goes_on_where_one_was_cut(tmp_path, committed, behind):
    """Behind the last commit a kill leaves anything: rows without keys, half a row, half a key."""
    values, path = items(11), tmp_path / "store"
    writer = StoreWriter(path, HEADER)
    for index in range(committed + behind):
        writer.append(f"scan_{index}", values[index])
    writer.close()
    with (partial_path(path) / "table.npy").open("ab") as file:
        file.write(bytes(100))
    with (partial_path(path) / "keys.txt").open("ab") as file:
        file.write(b"scan_" if committed % 2 else b"")
    assert not path.exists()
    with pytest.raises(ValueError, match="is unfinished"):
        FeatureStore.open(path)
    with StoreWriter(path, HEADER) as writer:
        assert list(writer.rows) == [f"scan_{index}" for index in range(committed)]
    np.testing.assert_array_equal(write(path, values, start=committed).table, values.astype(np.float16))


def test_kill_during_writing(tmp_path):
    script = """
import os, signal, sys
import numpy as np
from clip_core import feature_writer
from clip_core.feature_files import Header
feature_writer._COMMIT_BYTES = 3 * 48
with feature_writer.StoreWriter(sys.argv[1], Header("x", (4, 6))) as writer:
    for index in range(8):
        writer.append(f"scan_{index}", np.full((4, 6), index, np.float32))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    values = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, *SHAPE))
    with StoreWriter(path, Header("x", SHAPE)) as writer:
        assert len(writer.rows) == 6
        np.testing.assert_array_equal(writer.read("scan_4"), values[4])
    np.testing.assert_array_equal(write(path, values, Header("x", SHAPE), start=6).table, values)


@pytest.mark.usefixtures("small_blocks")
def test_full_disk_keeps_what_was_committed(tmp_path):
    values, path = items(11), tmp_path / "store"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 7 * 48, hard))
        with pytest.raises(ValueError, match=r"cannot be written .* its 6 rows are kept: make room"):
            write(path, values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (partial_path(path) / "table.npy").stat().st_size == 128 + 6 * 48
    np.testing.assert_array_equal(write(path, values, start=6).table, values.astype(np.float16))


def test_writer_reads_back_before_and_after_a_commit(tmp_path):
    values = items(4).astype(np.float16)
    with StoreWriter(tmp_path / "store", HEADER) as writer:
        for index, item in enumerate(values):
            writer.append(f"scan_{index}", item)
            if index == 2:
                np.testing.assert_array_equal(writer.read("scan_1"), values[1])
                writer.commit()
        np.testing.assert_array_equal(writer.read("scan_1"), values[1])
        store = writer.finish()
    np.testing.assert_array_equal(store.table, values)


def test_conversion_rounds_as_numpy_does(tmp_path):
    values = np.concatenate([np.geomspace(1e-9, 65504, 5000), [65519.0, 0.0, -0.0]]).astype(np.float32)
    with StoreWriter(tmp_path / "store", Header("x", values.shape)) as writer:
        np.testing.assert_array_equal(writer.convert(values), values.astype(np.float16))
        values.flags.writeable = False
        np.testing.assert_array_equal(writer.convert(values), values.astype(np.float16))


@pytest.mark.parametrize(
    ("key", "item", "message"),
    [
        ("scan_0", items(1)[0], "is there already"),
        ("a\nb", items(1)[0], "line break"),
        ("", items(1)[0], "is empty"),
        ("new", items(1, (4, 5))[0], r"an item of shape \(4, 5\); expected \(4, 6\)"),
        ("new", np.full(SHAPE, np.nan, np.float32), "not finite"),
        ("new", np.full(SHAPE, -np.inf, np.float32), "not finite"),
        ("new", np.full(SHAPE, -7e4, np.float32), "a value of 70000, beyond the largest float16, 65504; .* float32"),
    ],
)
def test_faulty_items_are_refused(tmp_path, key, item, message):
    with StoreWriter(tmp_path / "store", HEADER) as writer:
        writer.append("scan_0", items(1)[0])
        with pytest.raises(ValueError, match=message):
            writer.append(key, item)
        assert len(writer.finish()) == 1


def test_nothing_is_overwritten_or_mixed(tmp_path):
    write(tmp_path / "store", items(2))
    with pytest.raises(ValueError, match="store exists; expected a new path"):
        StoreWriter(tmp_path / "store", HEADER)
    with StoreWriter(tmp_path / "other", HEADER) as writer:
        writer.append("scan_0", items(1)[0])
    other = dataclasses.replace(HEADER, source="b", layer="grid")
    with pytest.raises(ValueError, match=r"settings \(source: 'views.tsv', not 'b'; layer: 'projected', not 'grid'\)"):
        StoreWriter(tmp_path / "other", other)
    with StoreWriter(tmp_path / "empty", HEADER) as writer, pytest.raises(ValueError, match="gave no features"):
        writer.finish()


def test_one_writer_at_a_time(tmp_path):
    with StoreWriter(tmp_path / "store", HEADER) as writer:
        with pytest.raises(ValueError, match="another process is writing"):
            StoreWriter(tmp_path / "store", HEADER)
        writer.append("scan_0", items(1)[0])
        assert len(writer.finish()) == 1


def change_header(**fields):
    def change(folder):
        header = json.loads((folder / "header.json").read_text())
        (folder / "header.json").write_text(json.dumps({**header, **fields}))

    return change


def cut(name, n_bytes):
    def change(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-n_bytes])

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("table.npy", 1), "has 271 bytes where 3 items of 48 bytes need 272: truncated"),
        (cut("table.npy", 200), "no table of features"),
        (lambda folder: (folder / "table.npy").unlink(), "has no table.npy"),
        (lambda folder: (folder / "keys.txt").unlink(), "has no keys.txt"),
        (lambda folder: (folder / "keys.txt").write_bytes(b"\xff\n"), "keys.txt is damaged"),
        (lambda folder: (folder / "keys.txt").write_text("a\nb\na\n"), r"3 rows .* 3 keys \(2 different\)"),
        (cut("keys.txt", 1), "3 rows in table.npy, 2 keys"),
        (lambda folder: (folder / "header.json").unlink(), "is no feature store: it has no header.json"),
        (cut("header.json", 1), "header.json is damaged"),
        (change_header(format="other"), "expected format 'clipnav-features'"),
        (change_header(version=2), "has version 2; this ClipNav reads 1"),
        (change_header(colour="RGB"), r"should not have the fields \['colour'\]"),
        (change_header(shape=[4, 7]), r"header.json says float16 \[N, \(4, 7\)\]"),
        (change_header(dtype="float32"), "holds float16"),
        (change_header(dtype="int8"), "dtype is 'int8'; expected one of float16, float32"),
        (change_header(shape=6), "shape is 6; expected a list"),
        (change_header(shape=[0]), "expected positive integers"),
    ],
)
def test_a_damaged_store_is_refused(tmp_path, damage, message):
    write(tmp_path / "store", items(3))
    damage(tmp_path / "store")
    with pytest.raises(ValueError, match=message):
        FeatureStore.open(tmp_path / "store")


def test_missing_store(tmp_path):
    with pytest.raises(ValueError, match=r"no feature store at .*nowhere; make one: python -m precompute convert"):
        FeatureStore.open(tmp_path / "nowhere")
