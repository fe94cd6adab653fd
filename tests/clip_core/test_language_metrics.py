"""BLEU, ROUGE-L, word accuracy and the scores by id: against pycocoevalcap, and by hand."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_core.caption_scores import CaptionScores, score_captions, score_tokens
from clip_core.cider import count_frequencies
from clip_core.language_metrics import bleu, common_subsequence, rouge_l, speaker_bleu, word_accuracy

NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Any]:
    return json.loads(gzip.decompress((golden_dir / "language" / "captions_dev.json.gz").read_bytes()))


def split(text: str) -> list[str]:
    return text.split()


def numbers(scores: dict[str, Any]) -> list[float]:
    """Golden scores in the order of NAMES."""
    return [*scores["bleu"], scores["rouge_l"], scores["cider"]]


def assert_equal(scores: CaptionScores[str], golden: dict[str, Any]) -> None:
    assert [scores.corpus[name] for name in NAMES] == pytest.approx(numbers(golden["scores"]), abs=1e-6)
    assert scores.each.keys() == golden["per_item"].keys()
    for i, expected in golden["per_item"].items():
        assert [scores.each[i][name] for name in NAMES] == pytest.approx(numbers(expected), abs=1e-6), i


# -- golden ------------------------------------------------------------------------------------------------------------


def test_golden_tokens_give_golden_scores(golden: dict[str, Any]) -> None:
    candidates = {i: text.split() for i, text in golden["tokenized_candidates"].items()}
    references = {i: [text.split() for text in group] for i, group in golden["tokenized_references"].items()}
    assert_equal(score_tokens(candidates, references), golden)


def test_golden_texts_give_golden_scores(golden: dict[str, Any]) -> None:
    """With our own tokenizer, on the same lines: not only within 0.005."""
    assert_equal(score_captions(golden["candidates"], golden["references"], lines_as_published=True), golden)


def test_texts_that_the_published_code_reads_whole(golden: dict[str, Any]) -> None:
    """Up to the first carriage return both ways of reading lines are one, and scores of each id are the golden ones.

    CIDEr of an id depends on all others, by its document frequencies: they are those of the golden tokens here.
    """
    whole = []
    for i, group in golden["references"].items():
        if any("\r" in text for text in group):
            break
        whole.append(i)
    assert len(whole) > 200
    published = [[text.split() for text in group] for group in golden["tokenized_references"].values()]
    scores = score_captions(
        {i: golden["candidates"][i] for i in whole},
        {i: golden["references"][i] for i in whole},
        frequencies=count_frequencies(published),
    )
    for i in whole:
        assert [scores.each[i][name] for name in NAMES] == pytest.approx(numbers(golden["per_item"][i]), abs=1e-6)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_bleu_by_hand() -> None:
    """The example of Papineni et al.: "the" seven times; then the closest length, the shorter of two as close."""
    _, each = bleu([["the"] * 7], [[split("the cat is on the mat"), split("there is a cat on the mat")]])
    assert each[0, 0] == pytest.approx(2 / 7)
    assert each[0, 1] < 1e-7
    corpus, each = bleu([split("a b c")], [[split("a b"), split("a b c d")]])
    assert corpus == pytest.approx(each[0])
    assert corpus[2] == pytest.approx(1)  # length 2 is as close as 4: no brevity penalty
    corpus, _ = bleu([split("a b c")], [[split("a b c d e")]])
    assert corpus[:3] == pytest.approx([math.exp(1 - 5 / 3)] * 3)


def test_bleu_of_a_corpus_sums_counts() -> None:
    corpus, each = bleu([split("a b c d"), split("x y")], [[split("a b c d")], [split("p q")]])
    assert corpus[0] == pytest.approx(4 / 6)
    assert corpus[1] == pytest.approx(math.sqrt(4 / 6 * 3 / 4))
    assert each[:, 0] == pytest.approx([1, 0], abs=1e-8)


def test_rouge_by_hand() -> None:
    """Precision from one reference, recall from another; 2.44 p r / (r + 1.44 p)."""
    assert common_subsequence("abcbdab", "bdcaba") == 4
    assert common_subsequence("", "abc") == common_subsequence("abc", "") == 0
    score = rouge_l([split("a b c d")], [[split("a x b y c z w v"), split("a b")]])[0]
    precision, recall = 3 / 4, 1.0
    assert score == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))


def test_speaker_bleu_by_hand() -> None:
    """The shortest reference gives the length, and precisions are not smoothed."""
    candidate = split("turn left and stop .")
    references = [split("turn left and stop there ."), split("walk to the end of the hall , turn left")]
    found = speaker_bleu([candidate], [references])
    precision = [5 / 5, 3 / 4, 2 / 3, 1 / 2]
    brevity = math.exp(1 - 6 / 5)
    assert found.precision == pytest.approx(precision)
    assert found.brevity == pytest.approx(brevity)
    assert found.bleu == pytest.approx(brevity * math.prod(precision) ** 0.25)
    short = [split("stop ."), *references]
    assert speaker_bleu([candidate], [short]).brevity == 1
    closest = bleu([candidate], [short])[0][3]  # the one of 6 words gives the length
    assert closest == pytest.approx(brevity * speaker_bleu([candidate], [short]).bleu)
    assert speaker_bleu([split("turn left")], [references]).bleu == 0  # no 3-gram


def test_identical_and_empty_sentences() -> None:
    same = [split("a b c d e"), split("f g h i")]
    assert bleu(same, [[s] for s in same])[0] == pytest.approx([1] * 4)
    assert rouge_l(same, [[s] for s in same]) == pytest.approx([1, 1])
    assert speaker_bleu(same, [[s] for s in same]).bleu == pytest.approx(1)
    corpus, each = bleu([[], []], [[s] for s in same])
    assert corpus.tolist() == [0] * 4
    assert each.tolist() == [[0] * 4] * 2
    assert rouge_l([[]], [[["a"], []]]).tolist() == [0]
    empty = speaker_bleu([[]], [[["a"]]])
    assert (empty.bleu, empty.brevity, empty.precision.tolist()) == (0, 0, [0] * 4)


def test_word_accuracy() -> None:
    words, sentences = word_accuracy([[5, 6, 7], [8, 2]], [[5, 9, 7], [8, 2]])
    assert words == pytest.approx(4 / 5)
    assert sentences == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="sentence 0: found 2 predicted words for 3"):
        word_accuracy([[5, 6]], [[5, 9, 7]])
    with pytest.raises(ValueError, match="found 1 predictions for 2 targets"):
        word_accuracy([[5]], [[5], [6]])


def test_tokens_may_be_ids() -> None:
    words = [split("a b a c"), split("b c")]
    ids = [["abc".index(word) for word in sentence] for sentence in words]
    assert np.array_equal(bleu([words[0]], [[words[1]]])[0], bleu([ids[0]], [[ids[1]]])[0])


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([], [], "found no candidates"),
        ([["a"]], [], "found 1 candidates and 0 groups"),
        ([["a"]], [[]], "candidate 0 has no references"),
        ([["a"]], ["a"], "candidate 0 has no references"),
        ([["a"]], [["a b"]], "a text; expected token lists"),
        (["a b"], [[["a"]]], "a text; expected token lists"),
    ],
)
def test_bad_sentences(candidates: Any, references: Any, message: str) -> None:
    for metric in (bleu, rouge_l, speaker_bleu):
        with pytest.raises(ValueError, match=message):
            metric(candidates, references)


def test_bad_ids() -> None:
    references = {i: ["go left"] for i in range(9)}
    with pytest.raises(ValueError, match=re.escape("7 of 9 ids are missing: 2, 3, 4, 5, 6, ...")):
        score_captions({0: "go", 1: "stop"}, references)
    with pytest.raises(ValueError, match="1 of 9 ids are unknown: 11"):
        score_captions({**dict.fromkeys(range(9), "go"), 11: "go"}, references)
    with pytest.raises(ValueError, match="candidate 3 has no references"):
        score_captions(dict.fromkeys(range(9), "go"), {**references, 3: []})


def test_an_empty_candidate_scores_nothing() -> None:
    scores = score_captions({1: "...", 2: "turn left now please"}, {1: ["go up"], 2: ["turn left now please"]})
    assert max(scores.each[1].values()) < 1e-6
    assert scores.each[2]["rouge_l"] == pytest.approx(1)
    assert scores.each[2]["cider"] == pytest.approx(10)
