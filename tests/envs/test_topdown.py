"""Top-down pictures: what is drawn where, on synthetic corridors of known scale, then on real buildings."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from tiny_scene import corridor

from envs.episodes import load_episodes
from envs.floorplan import PREDICTION, REFERENCE, START
from envs.floors import find_floors
from envs.scenes import load_scene, load_scenes
from envs.topdown import Route, draw_routes, draw_topdown, write_png

SCENE = corridor(8)


def near(image, colour, tolerance=40):
    """[H, W] bool: pixels of about this colour."""
    return (np.abs(image.astype(int) - 255 * np.array(to_rgb(colour))) < tolerance).all(axis=-1)


def centre(mask):
    """Mean column and row of the pixels of a mask."""
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


def test_shape_and_determinism():
    arguments = {"reference": [0, 1, 2], "path": ["corridor0", "corridor1"], "position": 1, "heading_rad": 0.5}
    first, second = (draw_topdown(SCENE, size_px=300, title="a $100 room", **arguments) for _ in range(2))
    assert first.shape == (300, 300, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert first.flags.writeable


def map_only(image):
    return image[: int(0.93 * len(image))]  # without the legend


def test_route_colours_stand_where_the_route_is():
    reference = map_only(draw_topdown(SCENE, reference=[0, 1, 2, 3, 4, 5, 6, 7]))
    assert centre(near(reference, START))[0] < 60  # the corridor runs from left to right
    star = np.median(np.nonzero(near(reference, REFERENCE))[1])
    assert star == pytest.approx(
        8 + 496 * 15.5 / 19, abs=15
    )  # the map runs from x = -1.5 m to 17.5 m, the goal at 14 m
    assert not near(reference, PREDICTION).any()
    path = map_only(draw_topdown(SCENE, path=[0, 1, 2, 3]))
    columns = np.nonzero(near(path, PREDICTION))[1]
    assert columns.min() < 60
    assert 200 < columns.max() < 260  # stops at 6 m of 14 m
    assert not near(path, REFERENCE).any()


def test_heading_turns_the_agent():
    """Heading 0 is +y, up on the map; turning right positive: the tip moves to the right."""

    def mass(heading_rad):
        image = map_only(draw_topdown(SCENE, position=3, heading_rad=heading_rad, size_px=512))
        return centre(near(image, "#111111", 10) & (np.arange(512) > 150))  # right of the scale bar

    up, right, down, left = (mass(quarter * np.pi / 2) for quarter in range(4))
    assert up[1] < down[1] - 0.5
    assert right[0] > left[0] + 0.5


def test_circle_of_success_has_the_scale_of_the_map():
    image = map_only(draw_topdown(SCENE, reference=[3]))
    tinted = near(image, "#e9eff6", 6)  # the disc around the goal
    columns = np.nonzero(tinted.any(axis=0))[0]
    width_px = columns.max() - columns.min()
    path = map_only(draw_topdown(SCENE, reference=[3], path=[0, 1, 2, 3, 4, 5, 6, 7, 6]))
    walked = np.nonzero(near(path, PREDICTION))[1]
    per_metre = (walked.max() - walked.min()) / 14
    assert width_px == pytest.approx(6 * per_metre, rel=0.1)


def test_floors_are_told_by_height():
    height_m = np.concatenate([np.full(20, 1.5), np.linspace(1.5, 4.5, 6)[1:-1], np.full(10, 4.5)])
    assert find_floors(height_m) == pytest.approx([1.5, 4.5], abs=0.1)
    assert find_floors(np.full(3, 1.5)) == pytest.approx([1.5], abs=0.1)
    assert find_floors(np.array([0.0])) == pytest.approx([0.0], abs=0.1)


def test_one_panel_for_each_floor_that_is_touched():
    scene = corridor(10, height_m=[0.0] * 5 + [3.0] * 5)
    flat = draw_topdown(scene, path=[0, 1, 2])
    both = draw_topdown(scene, path=[3, 4, 5, 6])
    every = draw_topdown(scene, path=[0, 1, 2], floors="all")
    frame = "#dddddd"

    def frames(image):  # horizontal lines of the panels' frames, two for each panel under another
        return int((near(image, frame, 12).sum(axis=1) > 300).sum())

    assert frames(flat) < frames(both)
    assert frames(both) == frames(every)


def test_whole_building_or_its_surroundings():
    scene = corridor(40)
    far, close = (
        near(map_only(draw_topdown(scene, path=[0, 1], margin_m=margin_m)), PREDICTION) for margin_m in (None, 3.0)
    )
    assert np.ptp(np.nonzero(close)[1]) > 3 * np.ptp(np.nonzero(far)[1])


@pytest.mark.parametrize("place", ["lobby", 8, -1])
def test_unknown_viewpoint(place):
    with pytest.raises(ValueError, match=r"scan corridor has no viewpoint .*; expected an id or a row below 8"):
        draw_topdown(SCENE, path=[0, place])


def test_unreasonable_sizes():
    with pytest.raises(ValueError, match="size_px is 20; expected at least 128"):
        draw_topdown(SCENE, size_px=20)
    with pytest.raises(ValueError, match="0 routes in 2 columns"):
        draw_routes([])


def test_sheet_grows_with_rows_and_text():
    short = Route(SCENE, [0, 1], [0, 1], title="1_0", instruction="Walk.")
    long = Route(SCENE, [0, 1], [0, 1], title="1_0", instruction="Walk past the sofa. " * 12)
    one, two, three = (draw_routes([short] * n, columns=2, tile_px=200) for n in (1, 2, 3))
    assert (one.shape[1], two.shape[1], three.shape[1]) == (200, 400, 400)
    assert one.shape[0] == two.shape[0] < three.shape[0]
    assert draw_routes([long], tile_px=200).shape[0] > one.shape[0] + 50


def test_letters_that_the_font_lacks_and_dollar_signs_draw():
    route = Route(SCENE, [0, 1], title="$x^", instruction="दरवाज़े से बाहर जाएं $5 and $6_")
    assert draw_routes([route], tile_px=200).std() > 0


def test_png_holds_the_picture(tmp_path):
    image = draw_topdown(SCENE, path=[0, 1], size_px=200)
    write_png(tmp_path / "runs" / "a.png", image)
    assert np.array_equal(np.round(imread(tmp_path / "runs" / "a.png")[..., :3] * 255).astype(np.uint8), image)
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["a.png"]


def test_drawing_leaves_pyplot_and_the_backend_alone():
    code = (
        "import sys; import envs.topdown; assert 'matplotlib' not in sys.modules\n"
        "import numpy as np; from envs.scenes import Scene\n"
        "scene = Scene('s', ('a', 'b'), np.ones(2, bool), np.stack([np.eye(4)] * 2), np.ones(2), np.eye(2) < 1)\n"
        "envs.topdown.draw_topdown(scene, path=[0, 1])\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


def test_real_routes(data_dir):
    episodes = load_episodes(data_dir / "r2r", "val_seen")[::200]
    scenes = load_scenes(data_dir / "connectivity", {episode.scan for episode in episodes})
    routes = [Route(scenes[e.scan], e.path, e.path[:-1], title=e.instr_id, instruction=e.instruction) for e in episodes]
    sheet = draw_routes(routes, columns=3, tile_px=300)
    for column in range(3):
        tile = sheet[:, 300 * column : 300 * (column + 1)]
        assert near(tile, REFERENCE).sum() > 100
        assert near(tile, PREDICTION).sum() > 100


def test_real_building_has_its_floors(data_dir):
    scene = load_scene(data_dir / "connectivity", "gTV8FGcVJC9")
    assert find_floors(scene.position_m[scene.included, 2]) == pytest.approx([-5.0, -0.2, 4.7, 8.6], abs=0.15)
