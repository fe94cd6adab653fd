"""The sheet of a route, and its command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from envs.houses import show
from envs.houses.__main__ import main
from envs.houses.blueprint import room_colour
from envs.houses.sheet import draw_sheet


def shown(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str]:
    code = main(["show", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_command_draws_the_route_of_an_unseen_house(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = shown(capsys, world, "--out", tmp_path / "sheet.png")
    assert code == 0
    assert "s3u000" in told
    assert "val_unseen" in told
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 1920
        assert image.height > 1200


def test_sheet_shows_rooms_and_the_panorama(world: Path) -> None:
    house = show.read_house(world, None)
    route = house["routes"]["val_unseen"][0]
    sheet = draw_sheet(world, house, route, "a title")
    colours = {tuple(colour) for colour in sheet[::3, :1320:3].reshape(-1, 3).tolist()}
    for room in house["rooms"]:
        wanted = np.round(np.array(room_colour(room["kind"])) * 255)
        assert any(np.abs(np.array(colour) - wanted).max() <= 1 for colour in colours), room["kind"]
    turned = draw_sheet(world, house, {**route, "heading": route["heading"] + 1.0}, "a title")
    assert turned.shape == sheet.shape
    assert (turned != sheet).any(axis=-1).mean() > 0.05


def test_faults_are_told(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "sheet.png")
    for argv, expected in (
        ((world, "--scan", "nowhere"), "s3t000, s3t001, s3u000"),
        ((world, "--route", "999"), "has the routes 0 to"),
        ((world, "--out", tmp_path / "sheet.gif"), "ends in .png"),
        ((tmp_path / "empty",), "no world of houses"),
    ):
        code, told = shown(capsys, *argv, *(() if "--out" in argv else out))
        assert code == 2
        assert expected in told
    assert not list(tmp_path.glob("sheet*"))


def test_world_without_skyboxes_or_whole_houses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world: Path
) -> None:
    houses = tmp_path / "houses"
    houses.mkdir()
    assert "no skyboxes" in shown(capsys, tmp_path)[1]
    (tmp_path / "v1" / "scans" / "s" / "matterport_skybox_images").mkdir(parents=True)
    assert "holds no house yet" in shown(capsys, tmp_path)[1]
    (houses / "s.json").write_text(json.dumps({"scan": "s"}))
    assert "is damaged" in shown(capsys, tmp_path)[1]


def test_built_in_world_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPNAV_CACHE", str(tmp_path))
    code, told = shown(capsys)
    assert code == 2
    assert "precompute prepare" in told
    assert str(tmp_path) in told
