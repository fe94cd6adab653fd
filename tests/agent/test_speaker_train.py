"""The commands that train a speaker and let it speak, in process; retrieval; every input they refuse."""

from __future__ import annotations

import json
from itertools import chain, islice
from pathlib import Path

import agent_toy
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from agent import evaluate, speak, train
from agent.data import Split
from agent.loading import check_partners, load_speaker, load_trained
from agent.retrieval import nearest_routes
from agent.routes import episode_routes
from agent.sight import Eyes
from agent.speaker import Speaker, SpeakerSizes
from agent.speaker_config import BUILT_IN, PRESETS, SpeakerConfig, TrainSpeakerConfig
from agent.speaker_objective import SpeakerObjective
from agent.speaking import readable, retrieve, score_spoken
from clip_core import tokenizer as words
from clip_core.checkpoint import LAST, read_checkpoint
from clip_core.subword_tokenizer import split_any_script
from clip_core.tokenizer import BASE_VOCABULARY, WordTokenizer
from envs.episodes import load_episodes

TINY = ["--train", "speaker", "--hidden", "16", "--word", "8", "--batch", "4", "--angle", "8", "--max-words", "12"]


def run(places: list[str], out: Path, steps: int, *flags: str) -> int:
    return train.main([*places, "--out", str(out), "--steps", str(steps), *TINY, *flags])


@pytest.fixture(scope="module")
def speaker_run(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a blind speaker's run of 3 steps."""
    out = tmp_path_factory.mktemp("speakers") / "run"
    assert run(places, out, 3, "--log-every", "1") == 0
    return out


def test_a_run_leaves_scores_instructions_pictures(small_data: Path, speaker_run: Path):
    for name in ("log.jsonl", "curves.png", "vocab.txt", "last.safetensors", "spoken_val_seen.png"):
        assert (speaker_run / name).is_file(), name
    tables = json.loads((speaker_run / "table.json").read_text())
    assert list(tables) == ["val_seen", "val_unseen"]
    for rows in tables.values():
        assert set(rows) == {"nearest route", "blind speaker"}
        assert set(rows["blind speaker"]) == {"loss", "word_accuracy", "bleu4", "cider", "words"}
        assert rows["nearest route"]["words"] > 5
    lines = [json.loads(line) for line in (speaker_run / "log.jsonl").read_text().splitlines()]
    assert {"loss", "word_accuracy"} <= set(lines[0])
    original = json.loads((small_data / "R2R_val_unseen.json").read_text())
    spoken = json.loads((speaker_run / "spoken_val_unseen.json").read_text())
    for mine, theirs in zip(spoken, original, strict=True):
        assert {k: mine[k] for k in mine if k != "instructions"} == {k: theirs[k] for k in mine if k != "instructions"}
        assert set(mine) >= {"scan", "path_id", "path", "heading", "distance", "instructions"}


def test_the_learning_rate_falls_when_asked_to(places: list[str], speaker_run: Path, tmp_path: Path):
    few = ["--log-every", "1", "--eval-splits", "none", "--lr", "1e-3"]
    assert run(places, tmp_path / "falling", 4, "--lr-decay", "cosine", *few) == 0
    found = {}
    for folder in (speaker_run, tmp_path / "falling"):
        lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        found[folder] = [line["lr/adam"] for line in lines if "lr/adam" in line]
    assert found[speaker_run] == [1e-4] * 3
    cosine = [0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    np.testing.assert_allclose(found[tmp_path / "falling"], 1e-3 * np.array(cosine))


def test_resumed_run_ends_with_the_same_weights(places: list[str], tmp_path: Path):
    saving = ["--eval-splits", "val_seen", "--seed", "3"]
    assert run(places, tmp_path / "whole", 4, *saving) == 0
    assert run(places, tmp_path / "parts", 2, *saving) == 0
    torch.manual_seed(99)
    assert run(places, tmp_path / "parts", 4, *saving, "--resume") == 0
    whole, parts = (read_checkpoint(tmp_path / name / LAST).tensors for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("search", ["greedy", "sample", "beam"])
def test_speak_writes_r2rs_format(
    places: list[str], data_dir: Path, speaker_run: Path, tmp_path: Path, search: str, capsys: pytest.CaptureFixture
):
    folder = tmp_path / "spoken"
    folder.mkdir()
    out, picture = folder / "R2R_val_unseen.json", tmp_path / "routes.png"
    flags = ["--split", "val_unseen", "--checkpoint", str(speaker_run), "--search", search, "--out", str(out)]
    assert speak.main([*places, *flags, "--pictures", str(picture), "--samples", "2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "nearest route" in told
    assert f"speaker, {search}" in told
    assert imread(picture).shape[1] == 2 * 560
    loaded = (
        load_episodes(folder, "val_unseen") if all(i["instructions"][0] for i in json.loads(out.read_text())) else []
    )
    assert len(loaded) in (0, 3)


@pytest.mark.parametrize(("search", "exactly"), [("beam", True), ("sample", False)])
def test_several_instructions_for_a_route(
    places: list[str], speaker_run: Path, tmp_path: Path, search: str, exactly: bool
):
    """Different ones, none empty, of a beam the best first: the same as the one that is asked for alone."""
    out, alone = tmp_path / "several.json", tmp_path / "alone.json"
    asked = [*places, "--split", "val_seen", "--checkpoint", str(speaker_run), "--search", search]
    assert speak.main([*asked, "--instructions", "4", "--out", str(out)]) == 0
    written = [item["instructions"] for item in json.loads(out.read_text())]
    assert len(written) == 3
    assert all(2 <= len(set(texts)) == len(texts) <= 4 and all(texts) for texts in written)
    assert speak.main([*asked, "--out", str(alone)]) == 0
    if exactly:
        firsts = [item["instructions"][0] for item in json.loads(alone.read_text())]
        assert [texts[0] for texts, first in zip(written, firsts, strict=True) if first] == [f for f in firsts if f]


def test_sampling_follows_its_seed(places: list[str], speaker_run: Path, tmp_path: Path):
    texts = []
    for i, seed in enumerate(("1", "1", "2")):
        out = tmp_path / f"{i}.json"
        flags = ["--split", "val_seen", "--checkpoint", str(speaker_run), "--search", "sample", "--seed", seed]
        assert speak.main([*places, *flags, "--out", str(out)]) == 0
        texts.append([item["instructions"] for item in json.loads(out.read_text())])
    assert texts[0] == texts[1] != texts[2]


def test_a_speaker_learns_what_it_is_told(small_split: Split):
    """A dozen instructions by heart: loss falls to almost nothing, and greedy words are theirs."""
    world = small_split.world.with_episodes(list(small_split.world.episodes)[:12])
    split = Split("few", world, world.tables.convert(torch.tensor), small_split.ids[:12, :10], torch.full((12,), 10))
    tokenizer = WordTokenizer([*BASE_VOCABULARY, *(f"w{i}" for i in range(agent_toy.words_of(split) - 3))], 10)
    torch.manual_seed(0)
    sizes = SpeakerSizes(len(tokenizer), 6, word=32, hidden=64, angle=4, dropout=0.0, feature_dropout=0.0)
    eyes = agent_toy.random_eyes(world, 6)
    config = SpeakerConfig(batch=12, lr=1e-2)
    objective = SpeakerObjective(Speaker(sizes), eyes, split, {"few": split}, tokenizer, config, seed=0)
    optimizer = torch.optim.Adam(objective.parameter_groups())
    losses = []
    for batch in islice(objective.batches(0), 180):
        report = objective(batch)
        loss = report["loss"] / report["weight"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(len(tokenizer)), rel=0.1)
    assert losses[-1] < 0.2
    assert objective.evaluate()["few/word_accuracy"] > 0.95


def test_batches_are_shuffled_epochs(small_split: Split):
    tokenizer = WordTokenizer([*BASE_VOCABULARY, "a"])
    speaker = Speaker(SpeakerSizes(4, word=4, hidden=4, angle=4))
    made = SpeakerObjective(speaker, Eyes(), small_split, {}, tokenizer, SpeakerConfig(batch=8), seed=5)
    seen = list(chain(*(batch.tolist() for batch in islice(made.batches(0), 12))))
    assert sorted(seen[:48]) == sorted(seen[48:]) == list(range(48))
    assert seen[:48] != seen[48:]
    assert [b.tolist() for b in islice(made.batches(3), 2)] == [seen[24:32], seen[32:40]]
    assert made.best_metric is None


@pytest.mark.parametrize("feature", [0, 4])
def test_the_nearest_route_of_a_known_one_is_itself(small_split: Split, feature: int):
    """And of another one that with the least distance, by plain arithmetic over the routes of as many steps."""
    eyes = agent_toy.random_eyes(small_split.world, feature) if feature else Eyes()
    routes = episode_routes(small_split.world, agent_toy.CPU)
    found = nearest_routes(eyes, small_split.tables, routes, routes)
    paths = [e.path for e in small_split.world.episodes]
    assert [paths[i] for i in found] == paths
    known = [i for i in range(48) if paths[i] != paths[0]]
    nearest = nearest_routes(eyes, small_split.tables, routes.rows(torch.tensor([0])), routes.rows(torch.tensor(known)))
    best, least = None, np.inf
    for place, i in enumerate(known):
        if len(paths[i]) == len(paths[0]):
            distance = float(np.linalg.norm(described(small_split, eyes, 0) - described(small_split, eyes, i)))
            if distance < least:
                best, least = place, distance
    assert nearest == [best]


def described(split: Split, eyes: Eyes, episode: int) -> np.ndarray:
    """Direction of each move, view ahead, mean of the views."""
    world, e = split.world, split.world.episodes[episode]
    table, view, parts = world.candidates, int(world.tables.start_view[episode]), []
    for t, viewpoint in enumerate(e.path):
        row = world.row(e.scan, viewpoint)
        angles, ahead = np.zeros(4), None
        if t + 1 < len(e.path):
            slot = table.neighbour[row].tolist().index(world.row(e.scan, e.path[t + 1]))
            heading = table.heading_rad[row, slot] - view % 12 * np.pi / 6
            elevation, view = table.elevation_rad[row, slot], int(table.view[row, slot])
            angles, ahead = np.array([np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)]), view
        parts.append(angles)
        if eyes.table is not None:
            views = eyes.table[row].float().numpy()
            of_move = views[ahead] if ahead is not None else np.zeros(views.shape[1])
            mean = views.mean(0)
            parts += [of_move / max(np.linalg.norm(of_move), 1e-12), mean / np.linalg.norm(mean)]
    return np.concatenate(parts)


def test_retrieval_scores_fully_on_its_own_split(small_split: Split):
    """The first instruction of the same route is one of its references."""
    scores = score_spoken(retrieve(Eyes(), small_split, small_split), small_split.world)
    assert scores["bleu4"] == pytest.approx(1.0)
    assert scores["cider"] > 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("walk past the couch . stop .", "Walk past the couch. Stop."),
        ("turn left , then don ' t stop", "Turn left, then don't stop"),
        ("the left - hand door ( red )", "The left-hand door (red)"),
        ("बाएं मुड़ें । ऊपर जाएं !", "बाएं मुड़ें। ऊपर जाएं!"),
        ("", ""),
    ],
)
def test_readable_text(text: str, expected: str):
    assert readable(text) == expected
    split = words.split if text.isascii() else split_any_script
    assert split(expected) == split(text.replace(" ' ", "'").replace(" - ", "-"))


def test_presets():
    """Published settings where data is named, smaller and faster ones in the built-in houses."""
    made = train.parse(["--train", "speaker"])
    assert isinstance(made, TrainSpeakerConfig)
    assert made.speaker == BUILT_IN["r2r"]().speaker
    named = train.parse(["--train=speaker", "--data", "R2R"])
    assert named == train.parse(["--data", "R2R", "--train", "speaker"])
    assert isinstance(named, TrainSpeakerConfig)
    assert named.speaker == PRESETS["r2r"]().speaker == SpeakerConfig()
    assert (named.speaker.dropout, named.speaker.lr, named.speaker.batch) == (0.6, 1e-4, 64)


def test_a_speaker_is_no_follower(places: list[str], speaker_run: Path, blind_run: Path, tmp_path: Path, capsys):
    assert evaluate.main([*places, "--split", "val_seen", "--checkpoint", str(speaker_run)]) == 2
    told = capsys.readouterr().err
    assert "holds a speaker; expected a follower" in told
    assert speak.main([*places, "--split", "val_seen", "--checkpoint", str(blind_run)]) == 2
    told = capsys.readouterr().err
    assert "holds a follower; expected a speaker" in told
    assert "--train speaker" in told
    before = (blind_run / LAST).read_bytes()
    assert run(places, blind_run, 5, "--resume") == 2
    assert "speaker" in capsys.readouterr().err
    assert (blind_run / LAST).read_bytes() == before


def test_partners_must_share_words_and_features(speaker_run: Path, blind_run: Path):
    follower, speaker = load_trained(blind_run, agent_toy.CPU), load_speaker(speaker_run, agent_toy.CPU)
    check_partners(follower, speaker)
    other = WordTokenizer([*BASE_VOCABULARY, "left"], 12)
    with pytest.raises(ValueError, match=r"another vocabulary than the follower.*--vocabulary"):
        check_partners(follower, type(speaker)(**{**vars(speaker), "tokenizer": other}))
    with pytest.raises(ValueError, match=r"features model ViT-B-32, the follower with none \(blind\)"):
        check_partners(follower, type(speaker)(**{**vars(speaker), "origin": {"model": "ViT-B-32"}}))


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--split", "test"], ["no routes, only starts"]),
        (["--split", "val"], ["splits found there"]),
        (["--features", "none/store"], ["trained blind", "leave --features away"]),
        (["--search", "sample", "--temperature", "0"], ["temperature is 0.0", "--search greedy"]),
        (["--search", "beam", "--beam-width", "0"], ["beam_width is 0"]),
        (["--pictures", "."], ["is a folder"]),
        (["--samples", "0"], ["samples is 0"]),
        (["--instructions", "0"], ["instructions is 0: expected 1 or more"]),
        (["--instructions", "2"], ["instructions is 2", "expected sample or beam"]),
        (["--instructions", "6", "--search", "beam"], ["the beam keeps 5", "raise beam_width"]),
        (["--languages", "hi"], ["holds no episode in hi"]),
    ],
)
def test_bad_input_of_speak(
    places: list[str], speaker_run: Path, tmp_path: Path, capsys, monkeypatch, flags: list[str], parts: list[str]
):
    monkeypatch.chdir(tmp_path)
    assert speak.main([*places, "--checkpoint", str(speaker_run), "--split", "val_seen", *flags]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "Traceback" not in told
    for part in parts:
        assert part in told


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--hidden", "15"], ["hidden is 15", "expected a multiple of 2"]),
        (["--dropout", "1"], ["dropout is 1.0", "less than 1"]),
        (["--batch", "0"], ["batch is 0", "expected 1 or more"]),
        (["--features", "none/store"], ["no feature store at none/store"]),
    ],
)
def test_bad_input_of_training(places: list[str], tmp_path: Path, capsys, monkeypatch, flags: list[str], parts):
    monkeypatch.chdir(tmp_path)
    assert run(places, tmp_path / "run", 1, *flags) == 2
    told = capsys.readouterr().err
    for part in parts:
        assert part in told
    assert not (tmp_path / "run").exists()
