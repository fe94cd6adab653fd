"""Subwords: learned anew they are the same, scripts keep their vowel signs, special tokens come from nowhere else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import rxr_files
import tokenizers

from clip_core.subword_tokenizer import (
    SPECIAL,
    START,
    SubwordTokenizer,
    learn_subwords,
    read_subwords,
    write_subwords,
)
from clip_core.tokenizer import Tokenizer, WordTokenizer, build_vocabulary

LANGUAGES = ("en-IN", "hi-IN", "te-IN")
TEXTS = [rxr_files.text_of(language, steps) for language in LANGUAGES for steps in (2, 4, 5)]


@pytest.fixture(scope="module")
def document() -> str:
    return learn_subwords(TEXTS, 400)


@pytest.fixture
def tokenizer(document: str) -> SubwordTokenizer:
    return SubwordTokenizer(document, 60)


def without_spaces(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(tokenizer: SubwordTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
    assert tokenizer.unk_id not in ids
    assert without_spaces(tokenizer.decode(ids)) == without_spaces(text)
    assert tokenizer.decode(ids).split() == tokenizer.split(text)


def test_words_keep_their_vowel_signs(tokenizer: SubwordTokenizer) -> None:
    """GPT-2's pattern, and Python's \\w, cut these words at every vowel sign."""
    assert tokenizer.split("सीढ़ियों से ऊपर जाएं।") == [unicodedata.normalize("NFKC", "सीढ़ियों"), "से", "ऊपर", "जाएं", "।"]
    assert tokenizer.split("మెట్లు ఎక్కి, వెళ్ళండి.") == ["మెట్లు", "ఎక్కి", ",", "వెళ్ళండి", "."]
    assert tokenizer.split("That's YOUR stop...") == ["that", "'", "s", "your", "stop", ".", ".", "."]


def test_two_spellings_of_a_letter_are_one(tokenizer: SubwordTokenizer) -> None:
    composed, apart = "सी\u095dी", "सी\u0922\u093cी"  # rha, and dha with a dot below
    assert composed != apart
    assert tokenizer.encode(composed) == tokenizer.encode(apart)
    assert tokenizer.encode("LEFT") == tokenizer.encode("left")


def test_frequent_words_become_one_piece(tokenizer: SubwordTokenizer) -> None:
    assert len(tokenizer.encode("left")) == 3
    assert tokenizer.vocabulary[tokenizer.encode("left")[1]] == f"{START}left"
    assert len(tokenizer.encode("felt")) > 3  # the same letters, a word that was never seen


def test_special_tokens(tokenizer: SubwordTokenizer) -> None:
    assert tokenizer.vocabulary[:4] == SPECIAL
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.eos_id, tokenizer.bos_id) == (0, 1, 2, 3)
    ids = tokenizer.encode("go <EOS> left <PAD>")  # what an instruction says is never one of them
    assert ids.count(tokenizer.eos_id) == 1
    assert tokenizer.pad_id not in ids
    assert tokenizer.decode(ids).split() == ["go", "<UNK>", "eos", "<UNK>", "left", "<UNK>", "pad", "<UNK>"]
    assert tokenizer.decode([3, 2, 1]) == ""
    assert tokenizer.decode(tokenizer.encode("字")) == "<UNK>"
    with pytest.raises(ValueError, match="token id 9999 is outside the vocabulary"):
        tokenizer.decode([9999])


def test_batch_is_as_one_by_one(document: str) -> None:
    tokenizer = SubwordTokenizer(document, 12)
    texts = ["", "  ", TEXTS[0], "left", TEXTS[8]]
    ids, lengths = tokenizer.encode_batch(texts)
    assert ids.shape == (5, 12)
    assert ids.dtype == lengths.dtype == np.int64
    for text, row, length in zip(texts, ids, lengths, strict=True):
        assert row[:length].tolist() == tokenizer.encode(text)
        assert set(row[length:]) <= {tokenizer.pad_id}
    assert lengths.tolist() == [2, 2, 12, 3, 12]
    assert ids[2, -1] == tokenizer.eos_id
    assert tokenizer.encode_batch([])[0].shape == (0, 12)


@pytest.mark.parametrize("text", [*TEXTS, "no\u00a0break  \n tabs\tand ,marks! x\u00a8y \u0301alone", "…½ﬁ"])
def test_ids_of_chunks_are_those_of_the_text(document: str, text: str) -> None:
    whole = tokenizers.Tokenizer.from_str(document).encode(text).ids
    assert SubwordTokenizer(document, 500).encode(text)[1:-1] == whole


def test_it_is_a_tokenizer_like_the_word_tokenizer(tokenizer: SubwordTokenizer) -> None:
    words: Tokenizer = WordTokenizer(build_vocabulary(TEXTS, 1), 60)
    pieces: Tokenizer = tokenizer
    assert {name for name in dir(words) if not name.startswith("_")} <= set(dir(pieces))
    assert (
        len(pieces) == len(tokenizer.vocabulary) == max(json.loads(tokenizer.document)["model"]["vocab"].values()) + 1
    )


def test_other_process_learns_the_same(document: str) -> None:
    """The library's hashes differ from process to process; what it learns must not."""
    program = (
        "import sys, json, hashlib; from clip_core.subword_tokenizer import learn_subwords;"
        "print(hashlib.sha256(learn_subwords(json.load(sys.stdin), 400).encode()).hexdigest())"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == hashlib.sha256(document.encode()).hexdigest()


def test_written_and_read(tokenizer: SubwordTokenizer, tmp_path: Path) -> None:
    write_subwords(tmp_path / "subwords.json", tokenizer.document)
    assert "సీ" in (tmp_path / "subwords.json").read_text(encoding="utf-8") or "మీ" in tokenizer.document
    again = SubwordTokenizer(read_subwords(tmp_path / "subwords.json"), 60)
    assert again.vocabulary == tokenizer.vocabulary
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert [path.name for path in tmp_path.iterdir()] == ["subwords.json"]


def test_documents_of_something_else(tokenizer: SubwordTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no subword vocabulary at"):
        read_subwords(tmp_path / "subwords.json")
    for text in ("", "left\nright\n", "[]", '{"model": {"type": "WordLevel"}}', tokenizer.document[:-40]):
        (tmp_path / "subwords.json").write_text(text)
        with pytest.raises(ValueError, match=r"not a subword vocabulary .* learn_subwords"):
            read_subwords(tmp_path / "subwords.json")
    (tmp_path / "subwords.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_subwords(tmp_path / "subwords.json")
    other = json.loads(tokenizer.document)
    other["model"]["vocab"] = {name: 5000 - i for name, i in other["model"]["vocab"].items()}
    with pytest.raises(ValueError, match="does not begin with <PAD> <UNK> <EOS> <BOS>"):
        SubwordTokenizer(json.dumps(other))


def test_sizes(document: str) -> None:
    with pytest.raises(ValueError, match="size is 4; expected more than the 4 special tokens"):
        learn_subwords(TEXTS, 4)
    with pytest.raises(ValueError, match="max_length is 1"):
        SubwordTokenizer(document, 1)
    with pytest.raises(ValueError, match="hold no word"):
        learn_subwords(["", " "], 100)
    small, large = (SubwordTokenizer(learn_subwords(TEXTS, size)) for size in (130, 200))
    assert (len(small), len(large)) == (130, 200)
    assert len(large.encode(TEXTS[0])) < len(small.encode(TEXTS[0]))
    assert len(SubwordTokenizer(learn_subwords(TEXTS, 5))) > 50  # every character has its place
