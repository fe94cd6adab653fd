"""Tokenizer: ids and vocabulary of R2R-EnvDrop, the original's rules on difficult text, faults of a vocabulary."""

import gzip
import itertools
import json
import re
import string
from collections import Counter

import numpy as np
import pytest

from clip_core.tokenizer import WordTokenizer, build_vocabulary, read_vocabulary, split, write_vocabulary

WORDS = ["<PAD>", "<UNK>", "<EOS>", "walk", "the", "stairs", ".", ",", ". .", ".."]
TRICKY = [
    "",
    " \t\n",
    "Walk PAST the Stairs.",
    "wait...then go!? (left) -- ok",
    "stop. . Turn . , right",
    "don't_stop __ _. a_b",
    "naïve café – “quotes” … ¿qué?",
    "İstanbul ﬁn ß",
    "前に進む。 ठहरो, ఆగు",
    "a\u2028b\x1c. \x85.\xa0c",
    '","\n".',
]


def split_plainly(sentence):
    """The rules of R2R-EnvDrop, one after another."""
    pieces = (piece.strip().lower() for piece in re.split(r"(\W+)", sentence))
    words = []
    for piece in filter(None, pieces):
        only_punctuation = all(character in string.punctuation for character in piece)
        words += list(piece) if only_punctuation and set(piece) != {"."} else [piece]
    return words


@pytest.fixture(scope="module")
def train_texts(data_dir):
    routes = json.loads((data_dir / "r2r/R2R_train.json").read_text())
    return [text for route in routes for text in route["instructions"]]


@pytest.fixture(scope="module")
def field_vocabulary(data_dir):
    return read_vocabulary(data_dir / "golden/environment/train_vocab.txt")


def test_ids_of_the_original(data_dir, field_vocabulary):
    episodes = json.loads(gzip.decompress((data_dir / "golden/environment/env_dev.json.gz").read_bytes()))["episodes"]
    tokenizer = WordTokenizer(field_vocabulary)
    ids, lengths = tokenizer.encode_batch([episode["instructions"] for episode in episodes])
    assert ids.dtype == lengths.dtype == np.int64
    assert ids.tolist() == [episode["instr_encoding"] for episode in episodes]
    assert all({step["instr_encoding_length"] for step in episode["steps"]} == {length}
               for episode, length in zip(episodes, lengths, strict=True))  # fmt: skip
    assert len(tokenizer) == 992
    assert tokenizer.bos_id == 991


def test_vocabulary_of_the_original(train_texts, field_vocabulary):
    """The original counted an earlier text of R2R train, with "tot he" for "to the": three words differ for it."""
    ours = build_vocabulary(train_texts)
    assert set(field_vocabulary) - set(ours) == {"tot"}
    assert set(ours) <= set(field_vocabulary)
    assert not any("tot" in text.lower() for text in train_texts)
    counts = Counter(word for text in train_texts for word in split_plainly(text))
    theirs = [counts[word] for word in field_vocabulary[3:] if word not in ("tot", "he", "t")]
    assert theirs == sorted(theirs, reverse=True)
    assert theirs == [counts[word] for word in ours[3:] if word not in ("he", "t")]


def test_split_agrees_with_the_plain_rules(train_texts):
    assert [split(text) for text in train_texts[::7]] == [split_plainly(text) for text in train_texts[::7]]


@pytest.mark.parametrize("text", TRICKY)
def test_split_of_difficult_text(text):
    assert split(text) == split_plainly(text)


def test_split_of_all_short_strings():
    for characters in itertools.product("a_. -\u0301\n", repeat=5):
        text = "".join(characters)
        assert split(text) == split_plainly(text), repr(text)


def test_encode_by_hand():
    tokenizer = WordTokenizer(WORDS, max_length=6)
    assert tokenizer.encode("Walk  the PLANK.") == [10, 3, 4, 1, 6, 2]
    assert tokenizer.encode("") == tokenizer.encode(" \n") == [10, 2]
    assert WordTokenizer(WORDS).encode("walk,. the.. stairs . .") == [10, 3, 7, 6, 4, 9, 5, 8, 2]
    assert tokenizer.encode(",. .. . .") == [10, 1, 2], "a run with spaces inside is one word"
    assert tokenizer.encode("walk the stairs, walk the stairs") == [10, 3, 4, 5, 7, 2]
    ids, lengths = tokenizer.encode_batch(["the stairs", "", "walk walk walk walk"])
    assert ids.tolist() == [[10, 4, 5, 2, 0, 0], [10, 2, 0, 0, 0, 0], [10, 3, 3, 3, 3, 2]]
    assert lengths.tolist() == [4, 2, 6]
    ids, lengths = tokenizer.encode_batch([])
    assert ids.shape == (0, 6)
    assert lengths.shape == (0,)


def test_decode_stops_at_the_end():
    tokenizer = WordTokenizer(WORDS)
    ids, _ = tokenizer.encode_batch(["Walk the plank."])
    assert tokenizer.decode(ids[0]) == "walk the <UNK> ."
    assert tokenizer.decode([4, 2, 3]) == "the"
    with pytest.raises(ValueError, match="token id 11 is outside the vocabulary of 11 words"):
        tokenizer.decode([3, 11])
    with pytest.raises(ValueError, match="token id -1"):
        tokenizer.decode([-1])


def test_build_vocabulary_counts_and_orders():
    texts = ["b a. a c", "B ?! a?", "c\n. .\n. d"]
    assert build_vocabulary(texts, min_count=2) == ["<PAD>", "<UNK>", "<EOS>", "a", "b", "c", "?"]
    assert build_vocabulary([]) == ["<PAD>", "<UNK>", "<EOS>"]


def test_words_with_a_line_break_never_enter_a_vocabulary():
    assert build_vocabulary([". \n ."] * 9) == ["<PAD>", "<UNK>", "<EOS>"]


def test_vocabulary_file_round_trip(tmp_path):
    path = tmp_path / "vocab.txt"
    write_vocabulary(path, [*WORDS, "çay", "<BOS>"])
    assert path.read_bytes().decode().split("\n") == [*WORDS, "çay", ""]
    assert read_vocabulary(path) == [*WORDS, "çay"]
    assert WordTokenizer(read_vocabulary(path)).vocabulary == (*WORDS, "çay", "<BOS>")
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes("\r\n".join(WORDS).encode())
    assert read_vocabulary(path) == WORDS


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [(["<PAD>", "the"], "lacks <UNK> <EOS>"), ([*WORDS, "walk", "the"], r"twice: \['the', 'walk'\]")],
)
def test_faulty_vocabulary(vocabulary, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(vocabulary)


def test_faulty_vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(ValueError, match="no vocabulary at"):
        read_vocabulary(path)
    path.write_text("<PAD>\n\nthe\n")
    with pytest.raises(ValueError, match="line 2 is empty"):
        read_vocabulary(path)
    path.write_bytes(b"<PAD>\n\xff\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_vocabulary(path)
    with pytest.raises(ValueError, match="max_length is 1"):
        WordTokenizer(WORDS, max_length=1)
