"""A split in each language of its instructions, so that a speaker writes and is judged in one at a time.

A speaker of several languages has no word that says which one to write. It is asked for one by its script: pieces of
words in the scripts of the others are never written, and from the first word on it is its own words that it follows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from agent.data import Split, alongside
from clip_core.tokenizer import Tokenizer
from envs.episodes import Episode
from envs.guide_annotations import SCRIPTS

LETTERS = ("L", "M")
"""Unicode categories of letters and of the signs that go with them."""


def languages_of(episodes: Sequence[Episode]) -> list[str]:
    """The languages (en, hi, te) of instructions, sorted; none for data that does not say."""
    return sorted({e.language.split("-")[0] for e in episodes if e.language is not None})


def by_language(split: Split, tokenizer: Tokenizer) -> dict[str | None, Split]:
    """Language -> the episodes in it, where there are several languages; else the split itself, by None."""
    episodes = split.world.episodes
    languages = languages_of(episodes)
    if len(languages) < 2:
        return {None: split}
    return {
        language: alongside(split, split.name, [e for e in episodes if languages_of([e]) == [language]], tokenizer)
        for language in languages
    }


def foreign_ids(tokenizer: Tokenizer, language: str | None) -> tuple[int, ...]:
    """The pieces of words that have a letter of another script than the language; none for None."""
    if language is None:
        return ()
    script, special = SCRIPTS[language], (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id)
    pieces = enumerate(tokenizer.vocabulary)
    return tuple(i for i, piece in pieces if i not in special and not written_in(piece, script))


def written_in(text: str, script: str) -> bool:
    """Whether all letters are of a script (LATIN, DEVANAGARI, TELUGU); digits and marks are of every one."""
    letters = (c for c in text if unicodedata.category(c)[0] in LETTERS)
    return all(unicodedata.name(c, "").startswith(script) for c in letters)
