"""Writing with kept keys and values, beside a plain twin that reads the whole text again for every token."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from clip_core.decoder import Search, Symbols, beam_search, generate, log_probabilities
from clip_core.transformer_decoder import LONGEST, TransformerTextDecoder, Writing, sinusoids

PAD, UNK, EOS, BOS = 0, 1, 2, 19
SYMBOLS = Symbols(BOS, EOS, PAD, never=(PAD, BOS, UNK))
ROOM, CPU = 9, torch.device("cpu")


class Plain(NamedTuple):
    """A state without a cache: the ids so far [N, T], and for each text a context of its own [N, M, H]."""

    ids: Tensor
    context: Tensor

    def rows(self, index: Tensor) -> Plain:
        return Plain(self.ids[index], self.context[index])


class PlainDecoder:
    """Every token from nothing."""

    def __init__(self, model: TransformerTextDecoder) -> None:
        self.model = model

    def start(self, context: Tensor, each: int = 1) -> Plain:
        texts = len(context) * each
        return Plain(torch.zeros(texts, 0, dtype=torch.int64), context.repeat_interleave(each, 0))

    def step(self, last: Tensor, state: Plain) -> tuple[Tensor, Plain]:
        ids = torch.cat([state.ids, last[:, None]], 1)
        hidden, _ = self.model.advance(ids, self.model.start(state.context))
        return self.model.projection(hidden[:, -1]), Plain(ids, state.context)


@pytest.fixture
def model() -> TransformerTextDecoder:
    torch.manual_seed(0)
    made = TransformerTextDecoder(20, 16, 2, 4, 32, 0.1).eval()
    with torch.no_grad():
        made.projection.weight.mul_(10)  # texts that differ, of several lengths
        made.projection.bias[EOS] += 2
        for layer in made.layers:
            layer.cross.out.weight.mul_(3)
    return made


@pytest.fixture
def context() -> Tensor:
    return 2 * torch.randn(6, 5, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("search", [Search(), Search("sample"), Search("beam", beam_width=3)], ids=lambda s: s.method)
def test_with_and_without_a_cache_is_one(model: TransformerTextDecoder, context: Tensor, search: Search) -> None:
    """Greedy and sampled texts end one by one, so that contexts keep unlike numbers of texts; beams change places."""
    found = []
    for decoder, each in ((model, 4), (PlainDecoder(model), 4)):
        state = decoder.start(context, each)
        draws = torch.Generator().manual_seed(5)
        found.append(generate(decoder.step, state, 6 * each, SYMBOLS, ROOM, search, CPU, draws))
    assert torch.equal(found[0].ids, found[1].ids)
    assert len(set(found[0].lengths.tolist())) > 1
    torch.testing.assert_close(found[0].log_prob, found[1].log_prob, atol=1e-5, rtol=0)


def test_teacher_forcing_is_token_by_token(model: TransformerTextDecoder, context: Tensor) -> None:
    """Two texts a context, of unequal lengths; padding changes nothing."""
    context = context[:3]
    ids = torch.randint(3, 19, (6, 7), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = BOS
    lengths = torch.tensor([7, 4, 2, 7, 5, 3])
    reading = model(ids, lengths, context)
    state, logits = model.start(context, 2), []
    for place in range(6):
        step, state = model.step(ids[:, place], state)
        logits.append(step)
    expected = torch.stack(logits, 1)
    assert len(reading.target) == int((lengths - 1).sum())
    for text in range(6):
        mine = reading.text == text
        torch.testing.assert_close(reading.logits[mine], expected[text, : lengths[text] - 1], atol=1e-5, rtol=1e-5)
        assert torch.equal(reading.target[mine], ids[text, 1 : lengths[text]])
    cut = model(ids[:, :7].clone().index_fill_(1, torch.tensor([6]), PAD), lengths.clamp(max=6), context)
    same = reading.text == 1
    torch.testing.assert_close(cut.logits[cut.text == 1], reading.logits[same], atol=1e-5, rtol=1e-5)


def test_contexts_of_a_beam_are_not_copied(model: TransformerTextDecoder, context: Tensor) -> None:
    state = model.start(context[:3], 2)
    _, state = model.step(torch.full((6,), BOS), state)
    exchanged = state.rows(torch.tensor([1, 1, 2, 3, 5, 4]))
    assert exchanged.seen is state.seen
    assert torch.equal(exchanged.past[0][0][0], state.past[0][0][1])
    few = state.rows(torch.tensor([5, 0]))
    assert isinstance(few, Writing)
    assert torch.equal(few.seen[1][0], state.seen[1][0][[2, 0]])
    assert few.context.tolist() == [0, 1]


def test_what_is_looked_at(model: TransformerTextDecoder, context: Tensor) -> None:
    watched: list[Tensor] = []
    model.advance(torch.full((6, 3), 4), model.start(context[:3], 2), watched)
    assert [tuple(weights.shape) for weights in watched] == [(6, 3, 5)] * 2
    torch.testing.assert_close(watched[0].sum(2), torch.ones(6, 3))


def test_beam_gives_several_texts_of_each_context(model: TransformerTextDecoder, context: Tensor) -> None:
    kept = beam_search(model.step, model.start(context), 6, SYMBOLS, ROOM, Search("beam", beam_width=4), CPU)
    totals = kept.total.view(6, 4)
    assert (totals.diff(dim=1) <= 0).all()
    reading = model(kept.ids, kept.lengths, context)
    chances = log_probabilities(reading.logits, SYMBOLS).gather(1, reading.target[:, None]).squeeze(1)
    summed = torch.zeros(24).index_add(0, reading.text, chances)
    torch.testing.assert_close(summed, kept.total, atol=1e-5, rtol=1e-5)


def test_position_codes_of_the_paper() -> None:
    codes = sinusoids(12, 8)
    for place, column in ((0, 0), (3, 2), (11, 7)):
        angle = place / 10_000 ** (2 * (column // 2) / 8)
        assert float(codes[place, column]) == pytest.approx((math.cos if column % 2 else math.sin)(angle), abs=1e-6)


def test_too_long_a_text(model: TransformerTextDecoder, context: Tensor) -> None:
    with pytest.raises(ValueError, match="a text of 513 tokens; expected 512 at most"):
        model.advance(torch.zeros(6, LONGEST + 1, dtype=torch.int64), model.start(context))
