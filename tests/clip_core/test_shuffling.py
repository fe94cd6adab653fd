"""The order of items: whole epochs, found at any position, shared by ranks."""

from __future__ import annotations

from itertools import islice

import torch

from clip_core.shuffling import shuffled_batches


def test_epochs_are_whole_and_positions_are_found_without_replay() -> None:
    batches = [batch.tolist() for batch in islice(shuffled_batches(10, 4, 7, 0, 0, 1), 10)]
    flat = [number for batch in batches for number in batch]
    assert [sorted(flat[i : i + 10]) for i in range(0, 40, 10)] == [list(range(10))] * 4
    assert flat[:10] != flat[10:20]
    assert [b.tolist() for b in islice(shuffled_batches(10, 4, 7, 6, 0, 1), 4)] == batches[6:]
    assert next(shuffled_batches(10, 4, 8, 0, 0, 1)).tolist() != batches[0]


def test_ranks_share_what_one_process_sees() -> None:
    together = list(islice(shuffled_batches(10, 6, 7, 0, 0, 1), 5))
    ranks = [islice(shuffled_batches(10, 3, 7, 0, rank, 2), 5) for rank in range(2)]
    for whole, *parts in zip(together, *ranks, strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_batch_larger_than_the_set() -> None:
    assert sorted(next(shuffled_batches(3, 7, 0, 0, 0, 1)).tolist())[:2] == [0, 0]
    assert len(next(shuffled_batches(3, 7, 0, 5, 0, 1))) == 7
