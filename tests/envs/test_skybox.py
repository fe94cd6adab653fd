"""Skybox files: which are found, what is read from them, what a bad one is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skybox_files import box_distances, random_faces, strip, write_depth, write_six, write_skybox

from envs.skybox import FOLDER, SkyboxError, has_skyboxes, read_depth, read_faces


def test_strip_is_cut_into_faces(tmp_path: Path) -> None:
    faces = random_faces(32)
    path = write_skybox(tmp_path, "house", "v", faces)
    read = read_faces(tmp_path, "house", "v")
    assert (read.shape, read.dtype) == ((6, 32, 32, 3), np.uint8)
    assert np.array_equal(read[4], np.asarray(Image.open(path))[:, 128:160])
    assert np.abs(read.astype(int) - faces).mean() < 4  # JPEG


def test_full_size_faces_shrink_by_area(tmp_path: Path) -> None:
    """As OpenCV's INTER_AREA at a factor of two: the mean of four, halves up."""
    paths = write_six(tmp_path, "house", "v", random_faces(64))
    full = read_faces(tmp_path, "house", "v", None)
    assert full.shape == (6, 64, 64, 3)
    assert np.array_equal(full[2], np.asarray(Image.open(paths[2])))
    quarters = full.reshape(6, 32, 2, 32, 2, 3).astype(int).sum((2, 4))
    assert np.array_equal(read_faces(tmp_path, "house", "v", 32), (quarters + 2) // 4)
    third = read_faces(tmp_path, "house", "v", 24)
    assert third.shape == (6, 24, 24, 3)
    assert abs(third.mean() - full.mean()) < 0.5
    assert read_faces(tmp_path, "house", "v").shape[1] == 64  # never enlarged


def test_small_files_come_first(tmp_path: Path) -> None:
    write_six(tmp_path, "house", "v", random_faces(32))
    write_six(tmp_path, "house", "v", random_faces(16), "small")
    assert read_faces(tmp_path, "house", "v", 8).shape[1] == 16
    write_skybox(tmp_path, "house", "v", random_faces(24))
    assert read_faces(tmp_path, "house", "v", 8).shape[1] == 24


def test_folder_of_v01(tmp_path: Path) -> None:
    assert not has_skyboxes(tmp_path)
    write_skybox(tmp_path / "v1" / "scans", "house", "v", random_faces(16))
    assert has_skyboxes(tmp_path)
    assert has_skyboxes(tmp_path / "v1" / "scans")
    assert np.array_equal(read_faces(tmp_path, "house", "v"), read_faces(tmp_path / "v1" / "scans", "house", "v"))


def test_depth_is_read_as_it_is(tmp_path: Path) -> None:
    distances = box_distances(16, 8.0)
    distances[2, 3, 4] = 0
    distances[5, 0, 1] = 65535
    write_depth(tmp_path, "house", "v", distances)
    read = read_depth(tmp_path, "house", "v")
    assert read.dtype == np.uint16
    assert np.array_equal(read, distances)


def test_missing_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SkyboxError) as caught:
        read_faces(tmp_path, "house", "v")
    for part in (f"house/{FOLDER}/v_skybox_small.jpg", "v1/scans/house", "v_skybox0_sami.jpg", "setDatasetPath"):
        assert part in str(caught.value)
    with pytest.raises(SkyboxError, match=r"v_skybox_depth_small\.png[^$]*setDepthEnabled\(False\)"):
        read_depth(tmp_path, "house", "v")


def bad_strip(path: Path, kind: str) -> None:
    faces = random_faces(32)
    image = Image.fromarray(strip(faces))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "five":
        Image.fromarray(strip(faces[:5])).save(path)
    elif kind == "greyscale":
        image.convert("L").save(path)
    elif kind == "CMYK":
        image.convert("CMYK").save(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", "damaged: .*truncated.*copy it again"),
        ("empty", "no image.*0 bytes"),
        ("text", "no image.*16 bytes"),
        ("five", r"found 160 x 32 pixels, expected six square faces side by side: 192 x 32"),
        ("greyscale", "found greyscale .*expected colour"),
        ("CMYK", "found CMYK .*expected colour"),
    ],
)
def test_bad_strip(tmp_path: Path, kind: str, said: str) -> None:
    path = write_skybox(tmp_path, "house", "v", random_faces(32))
    bad_strip(path, kind)
    with pytest.raises(ValueError, match=said) as caught:
        read_faces(tmp_path, "house", "v")
    assert str(path) in str(caught.value)


def test_bad_sets_of_six(tmp_path: Path) -> None:
    paths = write_six(tmp_path, "house", "v", random_faces(16))
    Image.fromarray(random_faces(24)[0]).save(paths[3])
    with pytest.raises(SkyboxError, match="differ in size"):
        read_faces(tmp_path, "house", "v")
    Image.fromarray(random_faces(16)[0][:, :12]).save(paths[3])
    with pytest.raises(SkyboxError, match="found 12 x 16 pixels, expected a square face"):
        read_faces(tmp_path, "house", "v")
    paths[3].unlink()
    paths[5].unlink()
    with pytest.raises(SkyboxError, match=r"missing: v_skybox3_sami\.jpg, v_skybox5_sami\.jpg"):
        read_faces(tmp_path, "house", "v")


def test_bad_depth(tmp_path: Path) -> None:
    path = write_depth(tmp_path, "house", "v", box_distances(8, 1.0)[:4])
    with pytest.raises(SkyboxError, match="found 32 x 8 pixels"):
        read_depth(tmp_path, "house", "v")
    Image.fromarray(strip(random_faces(8))[..., 0]).save(path)
    with pytest.raises(SkyboxError, match="found Pillow's mode L, expected 16 bits"):
        read_depth(tmp_path, "house", "v")
