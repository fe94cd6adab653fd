"""Our splitting of captions against what Stanford's tokenizer made of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from clip_core.caption_tokens import PUNCTUATION, caption_tokens, tokenize_captions

SPLIT = {  # text: the lower-case tokens that CoreNLP 3.4.1 gave, less those that pycocoevalcap drops
    "Don't cannot gonna gotta lemme": "do n't can not gon na got ta lem me",
    "He's she'd they'll I'm we're you've John's dogs'": "he 's she 'd they 'll i 'm we 're you 've john 's dogs",
    "shouldn't've ain't who's": "should n't 've ai n't who 's",
    "cant 'tis o'clock y'all rock 'n' roll '90s 90's": "cant 't is o'clock y' all rock 'n' roll '90s 90 's",
    "it’s “double” ‘single’ – dash": "it 's double single dash",
    "An (old) man [sits] {here}": "an -lrb- old -rrb- man -lsb- sits -rsb- -lcb- here -rcb-",
    "at 5:30 p.m. with $5.00 & 50% off #1": "at 5:30 p.m. with $ 5.00 & 50 % off # 1",
    "Mr. Smith on Elm St. in the U.S.A. etc.": "mr. smith on elm st. in the u.s.a. etc.",
    "No. 5 and no.": "no. 5 and no",
    "black & white AT&T mac&cheese": "black & white at&t mac & cheese",
    't-shirt 3-piece -5 5-6 9-to-5 "quoted"': "t-shirt 3-piece -5 5-6 9-to-5 quoted",
    "kitchen/dining 1/2 his/her 10/12/2004": "kitchen/dining 1/2 his/her 10/12/2004",
    "wait... what.. no?! yes!!! and --- so -- on": "wait what no ?! yes !!! and so on",
    "room.Turn double-doors.Go stairs.2": "room.turn double-doors go stairs .2",
    "3.5 .5 1,000 th,en ,go left,.": "3.5 .5 1,000 th en go left",
    "a*b a=b a_b #tag": "a * b a = b a_b #tag",
    "x.com/a www.site.com/path, me@site.com": "x.com/a www.site.com/path me@site.com",
    "3:30pm 50mph 2nd 4x4": "3:30 pm 50mph 2nd 4x4",
    "café à la <there>": "café à la <there>",
}


@pytest.mark.parametrize(("text", "words"), SPLIT.items())
def test_as_stanford_splits(text: str, words: str) -> None:
    assert " ".join(caption_tokens(text)) == words


def test_nothing_is_left_of_punctuation() -> None:
    assert caption_tokens("") == caption_tokens(" \t\n") == caption_tokens(" ... -- ' \" . , ; : ? !") == []
    assert not PUNCTUATION & set(caption_tokens("a - b . c -- d ... e ' f"))


def test_golden_tokens(golden_dir: Path) -> None:
    """All captions of the golden data, read as pycocoevalcap reads lines: 63 references stand a line or more late."""
    golden = json.loads(gzip.decompress((golden_dir / "language" / "captions_dev.json.gz").read_bytes()))
    candidates = tokenize_captions(list(golden["candidates"].values()))
    assert candidates == [text.split() for text in golden["tokenized_candidates"].values()]
    texts = [text for group in golden["references"].values() for text in group]
    published = [text.split() for group in golden["tokenized_references"].values() for text in group]
    assert len(texts) == len(published) > 600
    assert tokenize_captions(texts, lines_as_published=True) == published
    late = [i for i, words in enumerate(tokenize_captions(texts)) if words != published[i]]
    assert late == list(range(min(late), len(texts)))
    assert "\r" in texts[min(late)]
    assert not any("\r" in text for text in texts[: min(late)])


def test_lines_as_published() -> None:
    captions = ["Go left.\r\nThen right.", "Wait.\r", "Stop\nhere."]
    assert tokenize_captions(captions) == [["go", "left", "then", "right"], ["wait"], ["stop", "here"]]
    assert tokenize_captions(captions, lines_as_published=True) == [["go", "left"], ["then", "right"], ["wait"]]
    assert tokenize_captions([], lines_as_published=True) == tokenize_captions([]) == []
