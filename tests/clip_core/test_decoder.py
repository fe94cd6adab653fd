"""Writing text token by token: the likeliest texts against all texts, sampled ones against their chances."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from clip_core.decoder import Generated, Search, Symbols, beam_search, generate
from clip_core.tokenizer import BASE_VOCABULARY, WordTokenizer

PAD, UNK, EOS, A, B, C, BOS = range(7)
SYMBOLS = Symbols(BOS, EOS, PAD, never=(PAD, BOS, UNK))
ROOM = 5
CPU = torch.device("cpu")


class Memory(NamedTuple):
    """A model's state that holds its whole past, as a transformer's does: the ids so far [N, t], whose text [N]."""

    past: Tensor
    text: Tensor

    def rows(self, index: Tensor) -> Memory:
        return Memory(self.past[index], self.text[index])


class Tables:
    """A model whose next token depends on the text, the place, the last two tokens: random logits."""

    def __init__(self, texts: int, end: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(3)
        self.logits = 2 * torch.randn(texts, ROOM, 7, 7, 7, generator=generator)
        self.logits[..., EOS] += end
        self.calls = 0

    def start(self, texts: int) -> Memory:
        return Memory(torch.full((texts, 1), PAD), torch.arange(texts))

    def step(self, last: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        self.calls += 1
        past = torch.cat([state.past, last[:, None]], 1)
        return self.logits[state.text, past.shape[1] - 2, past[:, -2], last], Memory(past, state.text)

    def all_texts(self, text: int) -> dict[tuple[int, ...], float]:
        """Every text that fits, with its log-probability by plain arithmetic."""
        found = {}
        for words in range(ROOM - 1):
            for middle in itertools.product((A, B, C), repeat=words):
                tokens, total = [PAD, BOS, *middle, EOS], 0.0
                for t in range(1, len(tokens) - 1):
                    logits = self.logits[text, t - 1, tokens[t - 1], tokens[t]].clone()
                    logits[[PAD, BOS, UNK]] = -torch.inf
                    total += float(logits.log_softmax(0)[tokens[t + 1]])
                found[tuple(tokens[1:])] = total
        return found


def run(model: Tables, texts: int, search: Search, seed: int = 0) -> Generated:
    generator = torch.Generator().manual_seed(seed)
    return generate(model.step, model.start(texts), texts, SYMBOLS, ROOM, search, CPU, generator)


def texts_of(found: Generated) -> list[tuple[int, ...]]:
    return [tuple(ids[:n]) for ids, n in zip(found.ids.tolist(), found.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("width", [40, 50])
def test_a_wide_beam_equals_all_texts(power: float, width: int):
    """With ROOM 5 there are 1 + 3 + 9 + 27 = 40 texts: the beam must give all, sorted, and nothing more."""
    model = Tables(3)
    search = Search("beam", beam_width=width, length_power=power)
    kept = beam_search(model.step, model.start(3), 3, SYMBOLS, ROOM, search, CPU)
    assert len(kept.ids) == 3 * width
    for text in range(3):
        expected = model.all_texts(text)
        ranked = sorted(expected, key=lambda ids: -expected[ids] / (len(ids) - 1) ** power)
        mine = kept.rows(torch.arange(width) + text * width)
        assert len(expected) == 40
        assert texts_of(mine)[:40] == ranked
        assert mine.total[:40].tolist() == pytest.approx([expected[ids] for ids in ranked], rel=1e-5)
        assert mine.total[40:].isneginf().all()


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_narrow_beam_equals_a_plain_one(width: int):
    """Kept lists in Python: extend each text that has not ended by each word, keep the best `width`."""
    model = Tables(4)
    kept = beam_search(model.step, model.start(4), 4, SYMBOLS, ROOM, Search("beam", beam_width=width), CPU)
    for text in range(4):
        pool: list[tuple[float, list[int]]] = [(0.0, [PAD, BOS])]
        for place in range(1, ROOM):
            grown = []
            for total, ids in pool:
                if ids[-1] == EOS:
                    grown.append((total, ids))
                    continue
                logits = model.logits[text, place - 1, ids[-2], ids[-1]].clone()
                logits[[PAD, BOS, UNK]] = -torch.inf
                scores = logits.log_softmax(0)
                allowed = [EOS] if place == ROOM - 1 else [EOS, A, B, C]
                grown += [(total + float(scores[word]), [*ids, word]) for word in allowed]
            pool = sorted(grown, key=lambda one: -one[0])[:width]
        mine = kept.rows(torch.arange(width) + text * width)
        assert texts_of(mine) == [tuple(ids[1:]) for _, ids in pool]
        assert mine.total.tolist() == pytest.approx([total for total, _ in pool], rel=1e-5)


def test_greedy_takes_the_likeliest_token_and_a_beam_of_one_is_greedy():
    model = Tables(16)
    greedy = run(model, 16, Search())
    for text, ids in enumerate(texts_of(greedy)):
        tokens = [PAD, *ids]
        for t in range(1, len(tokens) - 1):
            logits = model.logits[text, t - 1, tokens[t - 1], tokens[t]].clone()
            logits[[PAD, BOS, UNK]] = -torch.inf
            assert tokens[t + 1] == (int(logits.argmax()) if t < ROOM - 1 else EOS)
        assert float(greedy.total[text]) == pytest.approx(model.all_texts(text)[ids], rel=1e-5)
    one = run(model, 16, Search("beam", beam_width=1))
    assert torch.equal(one.ids, greedy.ids)
    torch.testing.assert_close(one.log_prob, greedy.log_prob)
    assert len(set(greedy.lengths.tolist())) > 2


@pytest.mark.parametrize("by_fractions", [False, True])
def test_sampled_texts_come_as_often_as_they_are_likely(by_fractions: bool):
    count, random = 20_000, torch.Generator().manual_seed(1)
    model = Tables(1)
    state = Memory(torch.full((count, 1), PAD), torch.zeros(count, dtype=torch.int64))
    fractions = torch.rand(count, ROOM - 1, generator=random) if by_fractions else None
    found = generate(model.step, state, count, SYMBOLS, ROOM, Search("sample"), CPU, random, fractions)
    drawn = texts_of(found)
    expected = model.all_texts(0)
    chance = {ids: torch.tensor(total).exp().item() for ids, total in expected.items()}
    assert found.total.tolist() == pytest.approx([expected[ids] for ids in drawn], rel=1e-4, abs=1e-5)
    # Texts that find no end in the room are ended there, so theirs come more often than their probability says.
    free = {ids: p for ids, p in chance.items() if len(ids) < ROOM and p > 1e-3}
    assert len(free) > 3
    for ids, p in free.items():
        assert drawn.count(ids) / count == pytest.approx(p, abs=4 * (p * (1 - p) / count) ** 0.5)


def test_a_text_drawn_by_fractions_is_the_same_in_any_company():
    model, fractions = Tables(12), torch.rand(12, ROOM - 1, generator=torch.Generator().manual_seed(2))
    state, sampling = model.start(12), Search("sample")
    together = generate(model.step, state, 12, SYMBOLS, ROOM, sampling, CPU, fractions_NL=fractions)
    assert len(set(together.lengths.tolist())) > 2
    for text in range(12):
        alone = state.rows(torch.tensor([text]))
        found = generate(model.step, alone, 1, SYMBOLS, ROOM, sampling, CPU, fractions_NL=fractions[text : text + 1])
        assert texts_of(found) == texts_of(together)[text : text + 1]


def test_temperature_sharpens_and_flattens():
    count, model = 4000, Tables(1)
    shares = []
    likeliest = texts_of(run(model, 1, Search()))[0][1]
    for temperature in (0.05, 1.0, 50.0):
        state = Memory(torch.full((count, 1), PAD), torch.zeros(count, dtype=torch.int64))
        search = Search("sample", temperature=temperature)
        found = generate(model.step, state, count, SYMBOLS, ROOM, search, CPU, torch.Generator().manual_seed(1))
        shares.append(float((found.ids[:, 1] == likeliest).float().mean()))
        known = model.all_texts(0)
        assert found.total.tolist() == pytest.approx([known[ids] for ids in texts_of(found)], rel=1e-4, abs=1e-5)
    assert shares[0] > 0.98
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] == pytest.approx(1 / 4, abs=0.05)


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_layout_of_what_is_written(method: str):
    """Begin, words, one end, padding; lengths and log-probabilities agree with that, and nothing forbidden comes."""
    found = run(Tables(64), 64, Search(method))  # type: ignore[arg-type]
    assert found.ids.shape[1] == int(found.lengths.max()) == found.log_prob.shape[1] + 1
    for ids, length, log_prob in zip(found.ids, found.lengths, found.log_prob, strict=True):
        assert ids[0] == BOS
        assert ids[length - 1] == EOS
        assert set(ids[1 : length - 1].tolist()) <= {A, B, C}
        assert (ids[length:] == PAD).all()
        assert (log_prob[: length - 1] < 0).all()
        assert (log_prob[length - 1 :] == 0).all()


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_an_end_ends_the_work(method: str):
    """Where everything ends at once, one step is enough; a beam of 5 also fills its places with longer texts."""
    model = Tables(8, end=100.0)
    found = run(model, 8, Search(method))  # type: ignore[arg-type]
    assert found.ids.tolist() == [[BOS, EOS]] * 8
    assert model.calls == (3 if method == "beam" else 1)


def test_no_end_is_ended_at_the_last_place():
    found = run(Tables(8, end=-100.0), 8, Search())
    assert found.lengths.tolist() == [ROOM] * 8
    assert (found.ids[:, -1] == EOS).all()
    assert (found.log_prob[:, -1] < -50).all()


def test_texts_do_not_depend_on_their_company():
    """The batch shrinks as texts end; each is what it would be alone."""
    model = Tables(32)
    for search in (Search(), Search("beam", beam_width=3)):
        together = run(model, 32, search)
        for text in range(0, 32, 5):
            state = Memory(torch.full((1, 1), PAD), torch.tensor([text]))
            alone = generate(model.step, state, 1, SYMBOLS, ROOM, search, CPU)
            assert texts_of(alone) == texts_of(together)[text : text + 1]


def test_symbols_of_a_vocabulary():
    tokenizer = WordTokenizer([*BASE_VOCABULARY, "left", "right"])
    symbols = Symbols.of(tokenizer)
    assert (symbols.padding, symbols.end, symbols.begin) == (0, 2, 5)
    assert set(symbols.never) == {0, 1, 5}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "best"}, "expected greedy, sample or beam"),
        ({"temperature": 0.0}, "expected more than 0"),
        ({"beam_width": 0}, "expected 1 or more"),
    ],
)
def test_searches_that_cannot_be(settings: dict, words: str):
    with pytest.raises(ValueError, match=words):
        Search(**settings)


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_no_room_for_a_text(method: str):
    model = Tables(1)
    with pytest.raises(ValueError, match="expected at least 2"):
        generate(model.step, model.start(1), 1, SYMBOLS, 1, Search(method), CPU)  # type: ignore[arg-type]
