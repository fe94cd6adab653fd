"""Text, token by token, out of any model that scores the next token.

Legend: N texts being written, V tokens of the vocabulary, L tokens of a text, W beam width.

A model takes part with a step function and a state: `step(last_N, state) -> (logits_NV, state)`, where the state's
`rows` gives the same state for chosen texts, one of them several times where a beam branches. An LSTM's state is a few
vectors, a transformer's the keys and values of the tokens so far. What is written has the layout of
`Tokenizer.encode_batch`: begin, tokens, end, padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor

from clip_core.blocks import draw, draw_at
from clip_core.tokenizer import Tokenizer

KEEP_SHARE = 0.8
"""On a CPU, the batch is made smaller when fewer than this share of its texts are still being written."""

EXIT_CHECK_STEPS = 4
"""On a device, how often the host asks whether every text has ended (each time a sync)."""


class DecoderState(Protocol):
    """What a model carries from token to token."""

    def rows(self, index: Tensor) -> Self:
        """The state of the chosen texts; `index` [M] int64 may name a text several times."""
        ...


S = TypeVar("S", bound=DecoderState)
Step = Callable[[Tensor, S], tuple[Tensor, S]]
"""The last token of each text [N] int64 and the state -> logits [N, V] of the next token, and the next state."""


@dataclass(frozen=True)
class Symbols:
    """Ids of the tokens that begin a text, end it and fill up behind it; `never`: those that are not written."""

    begin: int
    end: int
    padding: int
    never: tuple[int, ...] = ()

    @staticmethod
    def of(tokenizer: Tokenizer) -> Symbols:
        """Those of a vocabulary; like R2R-EnvDrop, an unknown word is never written."""
        never = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id)
        return Symbols(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, never)


@dataclass(frozen=True)
class Search:
    """How the next token is chosen."""

    method: Literal["greedy", "sample", "beam"] = "greedy"
    """greedy: the likeliest token; sample: drawn from the model; beam: the likeliest text among --beam-width kept."""
    temperature: float = 1.0
    """With sample: logits are divided by it; below 1 bolder towards the likeliest."""
    beam_width: int = 5
    """With beam: texts kept at each step."""
    length_power: float = 0.0
    """With beam: a text's log-probability is divided by its length to this power; 1 ranks by the mean per token."""

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "sample", "beam"):
            raise ValueError(f"search is {self.method!r}: expected greedy, sample or beam")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: expected more than 0 (--search greedy is its limit)")
        if self.beam_width < 1:
            raise ValueError(f"beam_width is {self.beam_width}: expected 1 or more")


@dataclass(frozen=True)
class Generated:
    """Texts. ids [N, L] int64: begin, tokens, end, padding; lengths [N] int64 with begin and end counted (both as
    `Tokenizer.encode_batch` gives them); log_prob [N, L - 1] of each token after the begin, 0 where there is padding.

    A log-probability is the model's own, without the tokens that are never written and at temperature 1, however the
    token was chosen. A text that finds no end within the room given is ended at its last place.
    """

    ids: Tensor
    lengths: Tensor
    log_prob: Tensor

    @property
    def total(self) -> Tensor:
        """[N] log-probability of the whole text."""
        return self.log_prob.sum(1)

    def rows(self, index: Tensor) -> Generated:
        """Some of the texts."""
        return Generated(self.ids[index], self.lengths[index], self.log_prob[index])


@torch.no_grad()
def generate(
    step: Step[S],
    state: S,
    count: int,
    symbols: Symbols,
    max_length: int,
    search: Search,
    device: torch.device,
    generator: torch.Generator | None = None,
    fractions_NL: Tensor | None = None,
) -> Generated:
    """Write `count` texts of at most `max_length` tokens, begin and end included, from a state of `count` rows.

    With a beam the best text of each; `beam_search` gives all that it kept. `generator`: where samples are drawn from
    (on the device), torch's global one if None. fractions: random numbers in [0, 1) to draw them by instead, on the
    device, a text a row, a token a column (max_length - 2 or more): a text's draws are then the same in any company.
    Raises ValueError for a max_length below 2.
    """
    if search.method == "beam":
        kept = beam_search(step, state, count, symbols, max_length, search, device)
        best = kept.rows(torch.arange(count, device=device) * search.beam_width)
        return _trimmed(best.ids, best.log_prob, symbols)
    _check_room(max_length)
    ids = torch.full((count, max_length), symbols.padding, device=device)
    ids[:, 0] = last = torch.full((count,), symbols.begin, device=device)
    log_prob = torch.zeros(count, max_length - 1, device=device)
    place_of = torch.arange(count, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    for place in range(1, max_length):
        logits, state = step(last, state)
        scores = log_probabilities(logits, symbols)
        if place == max_length - 1:
            word = torch.full_like(last, symbols.end)
        elif search.method == "sample":
            chances = torch.softmax(scores / search.temperature, 1)
            if fractions_NL is None:
                word = draw(chances, generator)
            else:
                word = draw_at(chances, fractions_NL[place_of, place - 1])
        else:
            word = scores.argmax(1)
        score = scores.gather(1, word[:, None]).squeeze(1)
        last = torch.where(ended, symbols.padding, word)
        ids[place_of, place] = last
        log_prob[place_of, place - 1] = torch.where(ended, 0.0, score)
        ended = ended | (word == symbols.end)
        if _is_time_to_look(place, device):
            running = torch.nonzero(~ended).squeeze(1)  # on a device: a sync
            if len(running) == 0:
                break
            if device.type == "cpu" and len(running) < KEEP_SHARE * len(ended):
                state, last, ended, place_of = state.rows(running), last[running], ended[running], place_of[running]
    return _trimmed(ids, log_prob, symbols)


@torch.no_grad()
def beam_search(
    step: Step[S], state: S, count: int, symbols: Symbols, max_length: int, search: Search, device: torch.device
) -> Generated:
    """The W texts that a beam keeps for each of `count` states: [count * W] rows, the best of a text's first.

    A text that has ended keeps its place in the beam while no better one takes it, so without a length power the first
    one is the likeliest that was ever looked at. Where fewer than W texts exist, the rest is empty, with
    log-probability -inf.
    """
    _check_room(max_length)
    width = search.beam_width
    ids = torch.full((count, width, max_length), symbols.padding, device=device)
    ids[:, :, 0] = symbols.begin
    log_prob = torch.zeros(count, width, max_length - 1, device=device)
    total = torch.full((count, width), -torch.inf, device=device)
    total[:, 0] = 0  # all W places of a text are the same so far
    ended = torch.zeros(count, width, dtype=torch.bool, device=device)
    first = torch.arange(count, device=device)[:, None]
    state = state.rows(first.expand(-1, width).flatten())
    length = torch.zeros(count, width, device=device)
    for place in range(1, max_length):
        logits, state = step(ids[:, :, place - 1].flatten(), state)
        scores = log_probabilities(logits, symbols).unflatten(0, (count, width))
        if place == max_length - 1:
            scores = _only(scores, symbols.end, scores[..., symbols.end])
        scores = torch.where(ended[..., None], _only(scores, symbols.padding, 0.0), scores)
        length = length + (~ended).float()
        joint = total[..., None] + scores
        ranking = joint / length[..., None] ** search.length_power
        best = ranking.flatten(1).topk(width).indices
        parent = torch.div(best, scores.shape[2], rounding_mode="floor")
        word = best - parent * scores.shape[2]
        state = state.rows((first * width + parent).flatten())
        total = joint.flatten(1).gather(1, best)
        ids, log_prob, length, ended = (x[first, parent] for x in (ids, log_prob, length, ended))
        ids[:, :, place], log_prob[:, :, place - 1] = word, scores.flatten(1).gather(1, best)
        ended = ended | (word == symbols.end)
        if _is_time_to_look(place, device) and bool((ended | total.isneginf()).all()):  # on a device: a sync
            break
    nothing = total.isneginf()
    ids[nothing] = torch.tensor([symbols.begin, symbols.end] + [symbols.padding] * (max_length - 2), device=device)
    log_prob[nothing] = torch.tensor([-torch.inf] + [0.0] * (max_length - 2), device=device)
    return _trimmed(ids.flatten(0, 1), log_prob.flatten(0, 1), symbols)


def _check_room(max_length: int) -> None:
    if max_length < 2:
        raise ValueError(f"max_length is {max_length}: expected at least 2, the room of begin and end")


def log_probabilities(logits_NV: Tensor, symbols: Symbols) -> Tensor:
    """Of each next token [N, V], float32; -inf for what is never written."""
    hidden_V = _hidden(symbols.never, logits_NV.shape[1], logits_NV.device)
    return torch.log_softmax(logits_NV.float().masked_fill(hidden_V, -torch.inf), 1)


@lru_cache(maxsize=16)
def _hidden(never: tuple[int, ...], words: int, device: torch.device) -> Tensor:
    """True for the tokens [V] that are never written; kept, so that they travel to a device once."""
    hidden = torch.zeros(words, dtype=torch.bool)
    hidden[list(never)] = True
    return hidden.to(device)


def _only(scores: Tensor, token: int, value: Tensor | float) -> Tensor:
    """Scores that leave one token possible."""
    alone = torch.full_like(scores, -torch.inf)
    alone[..., token] = value
    return alone


def _is_time_to_look(place: int, device: torch.device) -> bool:
    return device.type == "cpu" or place % EXIT_CHECK_STEPS == 0


def _trimmed(ids: Tensor, log_prob: Tensor, symbols: Symbols) -> Generated:
    """Without the columns that only hold padding."""
    is_end = ids == symbols.end
    lengths = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, ids.shape[1])
    longest = int(lengths.max()) if len(lengths) else 1  # on a device: a sync
    return Generated(ids[:, :longest], lengths, log_prob[:, : longest - 1])
