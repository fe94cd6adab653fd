"""A speaker of several languages writes and is judged in one at a time."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import agent_toy
import pytest
import rxr_files
import torch

from agent import speak, train
from agent.augment import Author
from agent.data import Split, load_splits
from agent.languages import by_language, foreign_ids, languages_of, written_in
from agent.routes import episode_routes
from agent.speaker import Speaker, SpeakerSizes
from agent.speaker_config import SpeakerConfig
from agent.speaker_objective import SpeakerObjective
from agent.speaking import score_spoken
from clip_core.decoder import Search
from clip_core.subword_tokenizer import SubwordTokenizer, learn_subwords
from envs.guide_annotations import SCRIPTS
from envs.tables import load_world

TINY = ["--train", "speaker", "--hidden", "16", "--word", "8", "--batch", "4", "--angle", "8", "--max-words", "30"]


@pytest.fixture(scope="module")
def places(small_data: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags for annotations in RxR's format on routes of the small data."""
    out = tmp_path_factory.mktemp("rxr")
    for i, split in enumerate(("train", "val_unseen")):
        routes = json.loads((small_data / f"R2R_{split}.json").read_text())
        rxr_files.write_guide(out, split, rxr_files.guide_lines(split, routes, 1000 * i))
    return ["--env", "rxr", "--data", str(out), "--connectivity", str(data_dir / "connectivity"), "--device", "cpu"]


@pytest.fixture(scope="module")
def split(places: list[str], data_dir: Path) -> tuple[Split, SubwordTokenizer]:
    """Six routes in four tags, three languages."""
    world = load_world(places[3], "train", data_dir / "connectivity", env="rxr")
    world = world.with_episodes(list(world.episodes)[:24])
    tokenizer = SubwordTokenizer(learn_subwords([e.instruction for e in world.episodes], 400), 60)
    return load_splits({"train": world}, tokenizer, agent_toy.CPU)["train"], tokenizer


def test_scripts():
    assert written_in("Turn left, 3 steps!", "LATIN")
    assert written_in("सीढ़ियों से ऊपर जाएं। 12", "DEVANAGARI")
    assert not written_in("सीढ़ियों left", "DEVANAGARI")
    assert not written_in("మెట్లు", "DEVANAGARI")
    assert written_in("\u2581.", "TELUGU")  # no letter at all


def test_scores_compare_whole_words(split: tuple[Split, SubwordTokenizer]):
    """R2R's words would end at every vowel sign of Hindi."""
    hindi = by_language(*split)["hi"].world
    said = {e.path_id: e.instruction for e in hindi.episodes}
    assert score_spoken(said, hindi)["bleu4"] == pytest.approx(1.0)
    assert score_spoken(said, hindi)["words"] == sum(len(split[1].split(text)) for text in said.values()) / len(said)
    turned = {path_id: " ".join(reversed(text.split())) for path_id, text in said.items()}
    assert score_spoken(turned, hindi)["bleu4"] < 0.05


def test_pieces_of_other_scripts(split: tuple[Split, SubwordTokenizer]):
    _, tokenizer = split
    assert foreign_ids(tokenizer, None) == ()
    kept = {language: set(range(len(tokenizer))) - set(foreign_ids(tokenizer, language)) for language in SCRIPTS}
    assert all({tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id} < ids for ids in kept.values())
    for language, ids in kept.items():
        assert set(tokenizer.encode(rxr_files.text_of(f"{language}-IN", 5))) <= ids
        assert (
            not set(tokenizer.encode(rxr_files.text_of(f"{language}-IN", 5)))
            <= kept["te" if language == "hi" else "hi"]
        )


def test_a_split_in_its_languages(split: tuple[Split, SubwordTokenizer], small_split: Split):
    whole, tokenizer = split
    parts = by_language(whole, tokenizer)
    assert {language: len(part.world.episodes) for language, part in parts.items()} == {"en": 12, "hi": 6, "te": 6}
    assert languages_of(whole.world.episodes) == ["en", "hi", "te"]
    rows = [i for i, e in enumerate(whole.world.episodes) if e.language == "hi-IN"]
    assert torch.equal(parts["hi"].ids, whole.ids[rows])
    assert list(by_language(parts["hi"], tokenizer)) == [None]
    assert by_language(small_split, tokenizer) == {None: small_split}  # R2R does not say


def test_it_writes_in_the_language_asked_for(split: tuple[Split, SubwordTokenizer]):
    """Trained on all three at once, one instruction of each for every route; asked for each in turn."""
    whole, tokenizer = split
    torch.manual_seed(0)
    sizes = SpeakerSizes(len(tokenizer), 6, word=32, hidden=64, angle=4, dropout=0.0, feature_dropout=0.0)
    eyes = agent_toy.random_eyes(whole.world, 6)
    objective = SpeakerObjective(
        Speaker(sizes), eyes, whole, {"val": whole}, tokenizer, SpeakerConfig(batch=24, lr=1e-2), seed=0
    )
    optimizer = torch.optim.Adam(objective.parameter_groups())
    for batch in islice(objective.batches(0), 120):
        report = objective(batch)
        optimizer.zero_grad()
        (report["loss"] / report["weight"]).backward()
        optimizer.step()
    free = objective.write(whole, None)
    assert [language for language in SCRIPTS if any(written_in(text, SCRIPTS[language]) for text in free.values())] == [
        "en"
    ]  # left to itself it writes what half of the instructions are in
    for language, part in by_language(whole, tokenizer).items():
        assert language is not None
        known = {word for phrase in rxr_files.PHRASES[language] for word in tokenizer.split(phrase)}
        first = tokenizer.split(rxr_files.PHRASES[language][0])
        for text in objective.write(part, language).values():
            words = tokenizer.split(text)
            assert words[: len(first)] == first
            assert set(words) <= known
    assert objective.evaluate()["val/bleu4"] > 0.7  # the mean over the languages


def test_commands(places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    """Training judges every language; speaking asks for one."""
    out, spoken = tmp_path / "run", tmp_path / "spoken.json"
    assert train.main([*places, "--out", str(out), "--steps", "2", "--subwords", "300", *TINY]) == 0
    names = {path.name for path in out.iterdir()}
    assert names >= {f"spoken_val_unseen_{language}.json" for language in SCRIPTS}
    assert list(json.loads((out / "table.json").read_text())) == [f"val_unseen_{language}" for language in SCRIPTS]
    asked = [*places, "--checkpoint", str(out), "--split", "val_unseen", "--search", "sample", "--out", str(spoken)]
    assert speak.main(asked) == 2
    assert "instructions in en, hi, te; expected --languages with one" in " ".join(capsys.readouterr().err.split())
    assert speak.main([*asked, "--languages", "te"]) == 0
    texts = [text for item in json.loads(spoken.read_text()) for text in item["instructions"]]
    assert len(texts) == 3
    assert all(written_in(text, SCRIPTS["te"]) for text in texts)


def test_back_translation_writes_in_one_language(places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    speaker, follower = tmp_path / "speaker", tmp_path / "follower"
    few = ["--steps", "2", "--eval-splits", "none"]
    assert train.main([*places, "--out", str(speaker), *few, "--subwords", "300", *TINY]) == 0
    flags = [*few, *agent_toy.TINY, "--max-words", "30", "--vocabulary", str(speaker / "subwords.json")]
    flags += ["--augment-speaker", str(speaker), "--augment-count", "10", "--out", str(follower)]
    assert train.main([*places, *flags]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "the training instructions are in en, hi, te; expected one language where --augment-speaker" in told
    assert train.main([*places, *flags, "--languages", "hi"]) == 0


def test_an_author_writes_in_its_language(split: tuple[Split, SubwordTokenizer]):
    whole, tokenizer = split
    torch.manual_seed(0)
    speaker = Speaker(SpeakerSizes(len(tokenizer), 6, word=8, hidden=16, angle=4)).eval()
    eyes = agent_toy.random_eyes(whole.world, 6)
    routes = episode_routes(whole.world, whole.ids.device)
    for language, script in SCRIPTS.items():
        author = Author(speaker, routes, tokenizer, Search("sample"), foreign_ids(tokenizer, language))
        ids, _ = author.write(eyes, whole, torch.arange(6), 7)
        texts = [tokenizer.decode(row) for row in ids.tolist()]
        assert any(texts)
        assert all(written_in(text, script) for text in texts)
