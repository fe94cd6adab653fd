"""Pragmatic inference: a speaker says which of the follower's candidates fits the instruction best.

Legend: E episodes, C candidates of all episodes.

Fried et al. 2018 (Speaker-Follower, arXiv 1806.02724) choose the route that maximises P(instruction | route)^w
P(route | instruction)^(1 - w), each log-probability divided by its deviation over all candidates. R2R-EnvDrop (Tan, Yu,
Bansal 2019, arXiv 1904.04195, `beam_valid` of its code) takes the mean log-probability per word and per action instead;
so does this module. Without a mean per action, short routes win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from agent.candidates import Candidates
from agent.data import Split
from agent.sight import Eyes
from agent.speaker import Speaker
from envs.metrics import SUCCESS_RADIUS_M
from envs.tables import World

WEIGHTS = np.linspace(0.0, 1.0, 101)
"""Weights of the speaker that are tried (R2R-EnvDrop: steps of 0.01)."""


@dataclass(frozen=True)
class WeightChoice:
    """The speaker's weight with the highest success rate on a split; success at each of `WEIGHTS`."""

    weight: float
    success: np.ndarray
    split: str


def hear(
    speaker: Speaker,
    eyes: Eyes,
    split: Split,
    candidates: Candidates,
    batch: int = 512,
    done: Callable[[int], object] = lambda episodes: None,
) -> np.ndarray:
    """[C] float64: the speaker's mean log-probability per word (the end among them) of each episode's instruction, were
    the candidate its route.

    split: the episodes with their instructions as the speaker's tokenizer reads them; batch: candidates computed at
    once; `done` is told of the number of episodes after each batch. Eval mode without gradients.
    """
    was_training = speaker.training
    speaker.eval()
    routes, counts = candidates.routes(split.world, split.ids.device), candidates.counts()
    first = np.concatenate([[0], np.cumsum(counts)])
    score = np.zeros(len(candidates))
    with torch.no_grad():
        for texts in torch.argsort(split.lengths, stable=True).split(max(1, batch // int(counts.max()))):
            rows = np.concatenate([np.arange(first[e], first[e + 1]) for e in texts.tolist()])
            context = speaker.read(eyes, split.tables, routes.rows(torch.from_numpy(rows)))
            of = torch.from_numpy(np.repeat(np.arange(len(texts)), counts[texts.numpy()]))
            lengths = split.lengths[texts]
            log_prob = speaker.decoder.judge(split.ids[texts.to(split.ids.device)], lengths, context, of)
            score[rows] = log_prob.cpu().double().numpy() / (lengths[of].numpy() - 1)
            done(len(texts))
    speaker.train(was_training)
    return score


def weigh(candidates: Candidates, heard: np.ndarray | None, weight: float) -> np.ndarray:
    """[C] score of each candidate: weight * speaker + (1 - weight) * follower, mean log-probabilities per word and per
    action. Without a speaker the follower's log-probability, not divided."""
    if heard is None:
        return candidates.log_prob
    return weight * heard + (1 - weight) * candidates.log_prob / candidates.actions


def choose_weight(candidates: Candidates, heard: np.ndarray, world: World, name: str) -> WeightChoice:
    """The weight with the highest success rate on a split with goals, the smallest of equal ones."""
    success = candidates.error_m(world) < SUCCESS_RADIUS_M
    curve = np.array([success[candidates.best(weigh(candidates, heard, w))].mean() for w in WEIGHTS.tolist()])
    return WeightChoice(float(WEIGHTS[curve.argmax()]), curve, name)
