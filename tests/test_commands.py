"""Every command and every program of the README runs as it stands there, on a small part of the real data."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rxr_files
import torch
from PIL import Image

from agent import train
from envs.houses.built_in import CACHE_VARIABLE
from envs.houses.world import WorldConfig
from envs.scenes import load_scenes
from precompute import prepare

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {
    "agent.train": "--steps 2 --hidden 16 --word 8 --batch 2 --max-steps 4 --device cpu",
    "agent.train --train": "--steps 2 --hidden 16 --word 8 --batch 2 --max-words 12 --device cpu",
    "agent.evaluate": "--device cpu",
    "agent.speak": "--device cpu",
    "envs.houses": "--train 1 --unseen 1 --face-px 32 --train-routes 4 --eval-routes 4 --workers 1",
    "envs.houses show": "",
    "envs.r4r": "--join-m 100",
    "precompute": "",
    "vl_tasks": "--device cpu",
    "vl_tasks compare": "",
    "vl_tasks train": "--steps 2 --batch 4 --device cpu",
    "precompute train-clip": "--steps 1 --batch 8 --eval-every 0",
}
"""Added to the commands, so that they end soon; a subcommand or a flag may have an entry of its own."""
SMALL_WORLD = WorldConfig(seed=1, train=1, unseen=1, face_px=32, train_routes=4, eval_routes=4)
"""In place of the built-in houses."""
REPLACED = {"4096": "8", "20000": "8"}
ROUTES = {"train": ("r2r_dev", 6), "val_seen": ("r2r_dev", 2), "val_unseen": ("r2r_dev", 2), "test": ("r2r", 2)}


def blocks(language: str) -> list[str]:
    """The blocks of the README in a language ("" for none), in their order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [code for name, code in found if name == language]


def commands(start: str) -> list[str]:
    """The command lines of the README that begin so, in their order."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(start)]


@pytest.fixture
def workplace(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with R2R/, RxR/, connectivity/ and a feature file, as the README expects them around its commands."""
    scans = {"17DRP5sb8fy", "1LXtFkjw3qL"}
    (tmp_path / "R2R").mkdir()
    for split, (source, count) in ROUTES.items():
        items = json.loads((data_dir / source / f"R2R_{split}.json").read_text())
        scan = items[0]["scan"]
        scans.add(scan)
        chosen = [item for item in items if item["scan"] == scan][:count]
        (tmp_path / "R2R" / f"R2R_{split}.json").write_text(json.dumps(chosen))
        if split != "test":
            rxr_files.write_guide(tmp_path / "RxR", split, rxr_files.guide_lines(split, chosen))
    (tmp_path / "connectivity").symlink_to(data_dir / "connectivity", target_is_directory=True)
    write_features(tmp_path / "CLIP-ViT-B-32-views.tsv", data_dir / "connectivity", scans)
    Image.new("RGB", (96, 72), (90, 120, 60)).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLIPNAV_DATA")
    monkeypatch.setattr(prepare, "WORLD", SMALL_WORLD)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def write_features(path: Path, connectivity: Path, scans: set[str]) -> None:
    """A TSV of the field with features of 4 numbers."""
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        for scan, scene in load_scenes(connectivity, sorted(scans)).items():
            for row in np.flatnonzero(scene.included):
                features = generator.standard_normal((36, 4)).astype(np.float32)
                text = base64.b64encode(features.tobytes()).decode()
                file.write(f"{scan}\t{scene.viewpoints[row]}\t640\t480\t60\t{text}\n")


def run(line: str) -> None:
    """Run `python -m MODULE ARGUMENTS` in this process."""
    _, _, module, *arguments = shlex.split(line)
    assert module in SMALL, f"{line}: say in SMALL how this command ends soon"
    name = f"{module}.__main__" if module in ("precompute", "envs.houses", "vl_tasks") else module
    entries = [f"{module} {word}" for word in arguments]
    added = next((SMALL[entry] for entry in entries if entry in SMALL), SMALL[module])
    code = importlib.import_module(name).main([*arguments, *added.split()])
    assert code in (0, None), f"{line} ended with exit code {code}"


def test_commands_of_the_readme(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands("python -m ")
    assert {line.split()[2] for line in lines} == {name for name in SMALL if " " not in name}
    for line in lines:
        run(line)
    told = capsys.readouterr().out
    assert "random on r2r val_unseen, mean of 5 seeds" in told
    for name in ("runs/blind/curves.png", "runs/blind/vocab.txt", "random.png", "features/clip-vit-b-32/header.json"):
        assert (workplace / name).is_file(), name
    assert 0 <= json.loads((workplace / "runs/blind/val_unseen.json").read_text())["success"] <= 1


def test_training_on_two_processes_is_a_training_command(workplace: Path) -> None:
    """torchrun itself is tested in tests/clip_core; here that its command line is understood."""
    lines = commands("torchrun ")
    assert lines
    for line in lines:
        _, processes, _, module, *arguments = shlex.split(line)
        assert (processes, module) == ("--nproc-per-node=2", "agent.train")
        assert train.parse(arguments).data == Path("R2R")


def test_programs_of_the_readme(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = blocks("python")
    assert ["gymnasium" in programs[0], "MatterSim" in programs[1]] == [True, True]
    for program in programs:
        for old, new in REPLACED.items():
            program = program.replace(old, new)
        found: dict[str, object] = {}
        exec(compile(program, "README.md", "exec"), found)
        if "picture" in found:
            picture, rewards = found["picture"], found["rewards"]
            assert isinstance(picture, np.ndarray)
            assert picture.dtype == np.uint8
            assert isinstance(rewards, np.ndarray)
            assert rewards.shape == (8,)
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[-2:]] == ["17DRP5sb8fy", "1LXtFkjw3qL"]


def test_targets_of_make_exist() -> None:
    targets = {*re.findall(r"`make (\w+)`", README), *(line.split()[1] for line in commands("make "))}
    assert targets == {"train", "test", "check", "bench"}
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets <= set(rules)


def test_the_tree_names_every_module_with_its_caption() -> None:
    (tree,) = (block for block in blocks("") if "agent/ " in block)
    folders: dict[int, str] = {}
    named, uncaptioned = set(), []
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip())
        name, _, caption = line.strip().partition(" ")
        path = folders.get(depth - 2, "") + name
        if name.endswith("/"):
            folders[depth] = path
        else:
            named.add(path)
            if not caption.strip():
                uncaptioned.append(line)
    assert uncaptioned == []
    packages = ("MatterSim", "agent", "clip_core", "envs", "precompute", "vl_tasks")
    real = {p.relative_to(ROOT).as_posix() for package in packages for p in (ROOT / package).rglob("*.py")}
    own = {path for path in real if not path.endswith("/__init__.py")} | {"MatterSim/__init__.py"}
    assert named == own


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "docs" / "data.md"):
        for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
            if not re.match(r"https?://", target):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
