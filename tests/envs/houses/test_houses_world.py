"""Worlds on disk: the field's loaders read them, environments run in them, equal settings give equal bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from small_world import CONFIG

import envs  # noqa: F401 (registers the environments)
from envs.episodes import check_no_leak, load_episodes
from envs.geodesics import geodesics
from envs.houses.__main__ import main
from envs.houses.world import HouseJob, WorldConfig, make_house, make_world
from envs.scenes import list_scans, load_scenes
from envs.tables import load_world

SPLITS = ("train", "val_seen", "val_unseen", "test")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_loaders_read_graphs_and_episodes(world: Path) -> None:
    scenes = load_scenes(world / "connectivity")
    assert list(scenes) == ["s3t000", "s3t001", "s3u000"] == list_scans(world / "connectivity")
    for scene in scenes.values():
        assert scene.included.all()
        assert np.isfinite(geodesics(scene).distance_m).all()
        assert scene.pose[:, :3, 2] == pytest.approx(np.tile([0.0, 1.0, 0.0], (len(scene.pose), 1)))
        assert np.linalg.det(scene.pose[:, :3, :3]) == pytest.approx(1.0)
        assert (scene.height_m == 1.5).all()
    expected = {"train": 2 * 16, "val_seen": 2 * 2, "val_unseen": 8, "test": 4}
    ids: set[str] = set()
    for split in SPLITS:
        episodes = load_episodes(world, split, scenes=scenes)
        assert len(episodes) == 3 * expected[split]
        assert not ids & {e.path_id for e in episodes}
        ids |= {e.path_id for e in episodes}
        assert all(e.has_goal == (split != "test") for e in episodes)
        assert {e.scan[2] for e in episodes} == {"t" if split in ("train", "val_seen") else "u"}


def test_paths_are_shortest_with_their_length(world: Path) -> None:
    scenes = load_scenes(world / "connectivity")
    tables = {scan: geodesics(scene).distance_m for scan, scene in scenes.items()}
    for split in SPLITS[:3]:
        for e in load_episodes(world, split, scenes=scenes):
            rows = [scenes[e.scan].number(viewpoint) for viewpoint in e.path]
            length = sum(scenes[e.scan].edge_length_m[a, b] for a, b in pairwise(rows))
            assert length == pytest.approx(tables[e.scan][rows[0], rows[-1]])
            assert e.distance_m == pytest.approx(length, abs=0.006)
            assert 4 <= len(rows) <= 7
            assert 5 <= length <= 20


def test_seen_and_unseen_are_apart(world: Path) -> None:
    train, seen, unseen = (load_episodes(world, split) for split in SPLITS[:3])
    check_no_leak(train, unseen)
    assert not {(e.scan, e.path) for e in train} & {(e.scan, e.path) for e in seen}
    test = json.loads((world / "R2R_test.json").read_text())
    assert all(len(item["path"]) == 1 and "distance" not in item for item in test)


def test_environments_run_in_it(world: Path) -> None:
    env = gymnasium.make("clipnav/R2R-v0", data=str(world), split="train")
    env.reset(seed=0)
    for _ in range(30):
        observation, info = env.reset()
        assert info["scan"].startswith("s3t")
        action = env.action_space.sample(observation["action_mask"])
        _, reward, *_ = env.step(action)
        assert reward in (-2.0, -1.0, 1.0, 2.0)
    env.close()
    assert len(load_world(world, "val_unseen").episodes) == 24


def test_panoramas_are_there_for_every_viewpoint(world: Path) -> None:
    for scan, scene in load_scenes(world / "connectivity").items():
        folder = world / "v1" / "scans" / scan / "matterport_skybox_images"
        expected = {f"{v}_skybox_small.jpg" for v in scene.viewpoints}
        expected |= {f"{v}_skybox_depth_small.png" for v in scene.viewpoints}
        assert {path.name for path in folder.iterdir()} == expected


def test_scene_graphs_tell_what_is_where(world: Path) -> None:
    house: dict[str, Any] = json.loads((world / "houses" / "s3t000.json").read_text())
    rooms = house["rooms"]
    assert [v["id"] for v in house["viewpoints"]] == [item["image_id"] for item in house["connectivity"]]
    for viewpoint, item in zip(house["viewpoints"], house["connectivity"], strict=True):
        x0, y0, x1, y1 = rooms[viewpoint["room"]]["rect_m"]
        if rooms[viewpoint["room"]]["kind"] != "stairs":
            assert x0 - 0.01 <= item["pose"][3] <= x1 + 0.01
            assert y0 - 0.01 <= item["pose"][7] <= y1 + 0.01
    assert sum(len(v["seen_items"]) for v in house["viewpoints"]) > 100
    assert {"category", "colour", "material", "size", "room", "rect_m", "z_m", "hangs"} == set(house["items"][0])


def test_equal_settings_give_equal_bytes_after_an_interruption(world: Path, tmp_path: Path) -> None:
    """The rest is made by two processes."""
    out = tmp_path / "again"
    made: list[int] = []

    def interrupt(done: int, total: int) -> None:
        made.append(done)
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world(out, CONFIG, on_house=interrupt)
    assert made == [0, 1]
    assert not (out / "R2R_train.json").exists()
    make_world(out, CONFIG, workers=2, on_house=lambda done, _: made.append(done))
    assert made == [0, 1, 1, 2, 3]
    assert digests(out) == digests(world)


def test_a_house_with_a_lost_panorama_is_made_again(tmp_path: Path) -> None:
    config = WorldConfig(seed=5, train=1, unseen=0, face_px=32, train_routes=2, eval_routes=1)
    counts = make_world(tmp_path, config)
    assert counts == {"train": 2, "val_seen": 1, "val_unseen": 0, "test": 0}
    assert not (tmp_path / "R2R_test.json").exists()
    before = digests(tmp_path)
    lost = next(tmp_path.rglob("*_skybox_small.jpg"))
    lost.unlink()
    make_world(tmp_path, config)
    assert digests(tmp_path) == before
    assert make_house(HouseJob(tmp_path, config, 0, 0)) == "s5t000"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"train": 0}, "at least 1 house to train in"), ({"unseen": -1}, "0 or more unseen"),
     ({"train": 5000}, "1000 in all"), ({"face_px": 7}, "32 to 2048"), ({"seed": -1}, "--seed is -1"),
     ({"train_routes": 0}, "at least 1 per house")],
)  # fmt: skip
def test_impossible_worlds_are_refused(tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_world(tmp_path / "none", replace(CONFIG, **change))
    assert not (tmp_path / "none").exists()


def test_command(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "world")
    assert main(["--out", out, "--train", "0"]) == 2
    assert "at least 1 house" in capsys.readouterr().err
    assert main(["--out", out, "--workers", "0"]) == 2
    assert "--workers is 0" in capsys.readouterr().err
    assert main(["--out", str(world), "--seed", "9"]) == 2
    assert "holds another world" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
    small = ["--train", "1", "--unseen", "0", "--face-px", "32", "--train-routes", "3", "--workers", "1"]
    assert main(["--out", out, *small]) == 0
    assert "train 3, val_seen 1" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python -m envs.houses --out world" in capsys.readouterr().out
