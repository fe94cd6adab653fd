"""Splits captions into words as the COCO caption evaluation does, without Java.

That evaluation (pycocoevalcap) runs the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1, lower-cases, and drops
punctuation. These are its rules as far as captions and instructions meet them, found by trying it: of the 15,035
different instructions of R2R (train, val_seen) all but four are split alike. Faces :) and HTML's &quot; are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PUNCTUATION = frozenset(['"', "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", ";"])
"""Tokens that the evaluation drops, with -- and ... of any length. It also means to drop brackets, but looks for -LRB-
among words in lower case: they stay."""
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_LETTERS = str.maketrans({"‘": "`", "’": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."})
_TWO_WORDS = {"cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "lemme": 3, "gimme": 3, "'tis": 2, "'twas": 2}
"""Words that are two tokens, with the length of the first."""

_ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|drs|prof|rev|gen|col|capt|lt|sgt|sen|rep|gov|hon|pres|jr|sr|st|ste|mt|ave|blvd|rd|ln|ft|"
    "bldg|apt|dept|univ|inc|corp|co|ltd|bros|etc|vs|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|"
    "mon|tue|tues|wed|thu|thurs|fri"
)
_END = r"(?![^\W_])"  # neither letter nor digit follows
_PART = r"[^\W_]+(?:_[^\W_]+)*"
_TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)[^\s"'`()\[\]<>,]+                  # an address
  | (?:[\w-]+\.)+(?:com|net|org|edu|gov)/[^\s"'`()\[\]<>,]+
  | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                           # a mail address
  | </?[a-z]\w*>                                           # a tag
  | [A-Z]{{1,3}}&[A-Z]{{1,3}}(?=s?{_END})                  # AT&T, but not mac&cheese
  | (?i:
      (?:[^\W\d_]\.)+(?:[^\W\d_]{_END})?\.?{_END}          # u.s.a., p.m., a.
    | (?:{_ABBREVIATIONS})\.{_END}                         # mr., etc.
    | no\.(?=\s*\d)                                        # no. 5
    | \d+(?:[.,:/]\d+)+(?!\d)                              # 3.5, 1,000, 5:30, 10/12/2004
    | [-+]?\.?\d+{_END}(?!-\w)                             # -5, .5
    | y'(?=all{_END})
    | (?:o'clock|ma'am|'n'|'em|'cause|'\d\ds?|'tis|'twas|d'ye){_END}
    | n't{_END} | '(?:s|m|d|re|ve|ll|n){_END}              # what is left of don't, he's
    | {_PART}?(?=n't{_END})                                # do|n't
    | [^\W\d_]+(?:\.[^\W\d_]+)+(?![-/]?[^\W_])             # room.turn, without a space: like the name of a site
    | {_PART}(?:[-/]{_PART})*                              # t-shirt, kitchen/dining
    )
  | [@#][^\W\d]\w*
  | \w+
  | \.{{3,}} | [!?]+ | -{{2,}} | ''
  | \S
    """,
    re.VERBOSE,
)


def caption_tokens(text: str) -> list[str]:
    """Lower-case words of a caption, without punctuation; an empty list where nothing is left."""
    words: list[str] = []
    for match in _TOKEN.findall(text.translate(_LETTERS)):
        token = match.lower()
        if token in PUNCTUATION or set(token) in ({"-"}, {"."}):
            continue
        cut = _TWO_WORDS.get(token)
        words += [_BRACKETS.get(token, token)] if cut is None else [token[:cut], token[cut:]]
    return words


_LINE_END = re.compile(r"\r\n|[\n\r\v\f\u2028\u2029]")


def tokenize_captions(captions: Sequence[str], lines_as_published: bool = False) -> list[list[str]]:
    """`caption_tokens` of each caption.

    lines_as_published: as pycocoevalcap, which writes all captions to one file, a line each, but leaves carriage
    returns in them. A caption with one in its middle becomes two, and every later caption gets the words of another.
    56 of the 15,060 instructions of R2R (train, val_seen) hold one. Only to equal published scores of such texts.
    """
    if lines_as_published:
        lines = _LINE_END.split("\n".join(caption.replace("\n", " ") for caption in captions))
        captions = lines[: len(captions)]
    return [caption_tokens(caption) for caption in captions]
