"""Drawing captions with the full-size captioner: keys and values kept, beside the same model reading all words again.

Random weights write texts as long as there is room. One thread; the clock is the processor time of this process, so
that other programs do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import NamedTuple

import torch
from torch import Tensor

from clip_core.decoder import Generated, Search, Symbols, generate
from clip_core.transformer_decoder import TransformerTextDecoder, Writing

WORDS, HIDDEN, LAYERS, HEADS, INNER, CELLS = 9488, 512, 6, 8, 2048, 196
"""Of the captioner on COCO (CLIP-ViL)."""
IMAGES, SAMPLES, ROOM = 10, 5, 22
SYMBOLS = Symbols(WORDS - 1, 2, 0, never=(0, 1, WORDS - 1))


class Again(NamedTuple):
    """A state that only knows the words so far [N, T]; the keys of the images are kept."""

    ids: Tensor
    start: Writing

    def rows(self, index: Tensor) -> Again:
        return Again(self.ids[index], self.start.rows(index))


def read_again(model: TransformerTextDecoder, last: Tensor, state: Again) -> tuple[Tensor, Again]:
    """Logits [N, V] by a pass over the whole text."""
    ids = torch.cat([state.ids, last[:, None]], 1)
    hidden, _ = model.advance(ids, state.start)
    return model.projection(hidden[:, -1]), Again(ids, state.start)


def timed(work: Callable[[], Generated]) -> tuple[Generated, float]:
    """What is drawn under one seed, and the processor seconds."""
    torch.manual_seed(0)
    begin = process_time()
    drawn = work()
    return drawn, process_time() - begin


@torch.no_grad()
def run() -> list[dict]:
    """One row: samples of captions per second of the processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = TransformerTextDecoder(WORDS, HIDDEN, LAYERS, HEADS, INNER, 0.1).eval()
        count, device = IMAGES * SAMPLES, torch.device("cpu")
        state = model.start(torch.randn(IMAGES, CELLS, HIDDEN), SAMPLES)
        empty = Again(torch.zeros(count, 0, dtype=torch.int64), state)

        def kept() -> Generated:
            return generate(model.step, state, count, SYMBOLS, ROOM, Search("sample"), device)

        def again() -> Generated:
            step = lambda last, state: read_again(model, last, state)  # noqa: E731
            return generate(step, empty, count, SYMBOLS, ROOM, Search("sample"), device)

        timed(kept)  # memory, kernels
        drawn, kept_s = timed(kept)
        redrawn, again_s = timed(again)
    finally:
        torch.set_num_threads(threads)
    if not torch.equal(drawn.ids, redrawn.ids):
        raise ValueError("the two ways draw other captions under one seed")
    return [
        {
            "name": f"captions drawn, 6 + 6 layers, {CELLS} cells, {ROOM - 2} words, {SAMPLES} an image",
            "value": count / kept_s,
            "unit": "captions/s",
            "reference": "without kept keys and values",
            "reference_value": count / again_s,
        }
    ]
