"""Search for the likeliest routes of a follower: beam, Dijkstra over states, exact best-first.

Legend: B episodes, W beam width, N = B W hypotheses, n those that decide, A candidates at most (actions but the stop).

A route's log-probability is the sum over its actions, the stop included; a route that reaches the step limit ends there
without one. Different routes are different sequences of actions, so no search can find one twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from agent.best_first import best_first
from agent.candidates import STOP, Candidates, Found, collect
from agent.data import Split
from agent.ensemble import Ensemble
from agent.hypotheses import Decider
from agent.sight import Eyes
from clip_core.decoder import Search, Symbols, beam_search
from envs import dynamics
from envs.dynamics import NavState

Method = Literal["beam", "dijkstra", "best-first"]
K = 40
"""Candidates of an episode."""
MAX_EXPANSIONS = 1000
"""Prefixes of routes that a search extends before it gives up; R2R-EnvDrop's takes 300 states."""


@dataclass(frozen=True)
class RouteSearch:
    """How candidates are searched for."""

    method: Method
    """beam: the width is k; dijkstra: one route per state, as R2R-EnvDrop; best-first: the exact k likeliest."""
    k: int = K
    """Candidates of an episode."""
    max_expansions: int = MAX_EXPANSIONS
    """Where dijkstra and best-first give up."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}: expected 1 or more candidates")
        if self.max_expansions < 1:
            raise ValueError(f"max_expansions is {self.max_expansions}: expected 1 or more")


def find_candidates(
    ensemble: Ensemble,
    eyes: Eyes,
    split: Split,
    search: RouteSearch,
    max_steps: int,
    batch: int = 128,
    done: Callable[[int], object] = lambda episodes: None,
) -> Candidates:
    """Candidates for every episode of a split, in eval mode without gradients; `done` is told of the number of episodes
    after each batch."""
    was_training = ensemble.training
    ensemble.eval()
    found = []
    with torch.no_grad():
        for index in torch.argsort(split.lengths, stable=True).split(batch):
            episodes = index.to(split.ids.device)
            start = ensemble.read(split.ids[episodes], split.lengths[index])
            decider = Decider(ensemble, eyes, split.tables, start)
            if search.method == "beam":
                routes = beam(decider, episodes, search.k, max_steps)
            else:
                factored = search.method == "dijkstra"
                routes = best_first(decider, episodes, search.k, max_steps, search.max_expansions, factored)
            found.append((index.numpy(), routes))
            done(len(index))
    ensemble.train(was_training)
    return collect(found, split.world)


def beam(decider: Decider, episodes: Tensor, width: int, max_steps: int) -> Found:
    """The routes that a beam keeps for each episode [B], at most W.

    The beam is the one that writes texts (`decoder.beam_search`): actions are its tokens, and a route that has ended
    keeps its place while no likelier one takes it. With room for all routes it finds all of them.
    """
    tables, count, device = decider.tables, len(episodes), episodes.device
    moves = tables.neighbour.shape[1]
    symbols = Symbols(begin=moves + 2, end=moves, padding=moves + 1)
    walker = _BeamWalker(decider, width, max_steps, symbols)
    zeros = torch.zeros_like(episodes)
    start = _Hypotheses(
        dynamics.begin(tables, zeros, zeros, episodes),
        decider.first_vectors(),
        torch.ones(count, 1, dtype=torch.bool, device=device),
    )
    search = Search("beam", beam_width=width)
    kept = beam_search(walker.step, start, count, symbols, max_steps + 2, search, device)
    (rows,) = torch.nonzero(~kept.total.isneginf(), as_tuple=True)
    tokens = kept.ids[rows, 1:]
    action = torch.where(tokens < moves, tokens, STOP)
    moved = (action != STOP).sum(1)
    # A route that was cut at the step limit has no stop among its actions.
    actions = torch.where(moved < max_steps, moved + 1, moved)
    visited: list[list[int]] = [[] for _ in range(count)]
    for of, viewpoint in zip(*(torch.cat(part).tolist() for part in zip(*walker.seen, strict=True)), strict=True):
        visited[of].append(viewpoint)
    return Found(rows // width, action, actions, kept.total[rows], visited, torch.zeros_like(episodes).bool())


class _Hypotheses(NamedTuple):
    """Where N hypotheses are, what the follower remembers of each, which of the next tokens [N, V] are possible."""

    state: NavState
    vectors: list[Tensor]
    possible: Tensor

    def rows(self, index: Tensor) -> _Hypotheses:
        """Some of them, one several times where the beam branches."""
        return _Hypotheses(
            NavState(*(column.index_select(0, index) for column in self.state)),
            [vector.index_select(0, index) for vector in self.vectors],
            self.possible.index_select(0, index),
        )


class _BeamWalker:
    """The step function of `decoder.beam_search`: tokens are candidate slots, one of a stop, one of padding.

    `seen`: of every step the episode's place in the batch and the viewpoint of the hypotheses that decided.
    """

    def __init__(self, decider: Decider, width: int, max_steps: int, symbols: Symbols) -> None:
        self.decider, self.width, self.max_steps, self.symbols = decider, width, max_steps, symbols
        self.seen: list[tuple[Tensor, Tensor]] = []

    def step(self, last: Tensor, before: _Hypotheses) -> tuple[Tensor, _Hypotheses]:
        """Logits [N, V] of the next token, and the hypotheses with the last one's move made."""
        tables, symbols, device = self.decider.tables, self.symbols, last.device
        if last[0] == symbols.begin:  # on a device: a sync
            state, alive = before.state, torch.arange(len(last), device=device) % self.width == 0
        else:
            alive = before.possible.gather(1, last[:, None]).squeeze(1) & (last < symbols.end)
            state = before.state._replace(ended=~alive)
            state, _, _, _ = dynamics.move(tables, state, last, self.max_steps)
        # Those at the step limit end, and nothing is asked of those that have ended: both score 0 for the end.
        (rows,) = torch.nonzero(alive & (state.steps < self.max_steps), as_tuple=True)  # on a device: a sync
        logits = torch.full((len(last), symbols.padding + 1), -torch.inf, device=device)
        logits[:, symbols.end] = 0.0
        vectors = before.vectors
        if len(rows):
            self.seen.append((rows // self.width, state.viewpoint[rows]))
            asked = NavState(*(column[rows] for column in state))
            log_prob, after = self.decider.decide(asked, [vector[rows] for vector in vectors], rows, self.width)
            logits[rows] = self._as_tokens(log_prob, tables.count[asked.viewpoint])
            vectors = [vector.index_copy(0, rows, new) for vector, new in zip(vectors, after, strict=True)]
        possible = (logits > -torch.inf) & alive[:, None]
        return logits, _Hypotheses(state, vectors, possible)

    def _as_tokens(self, log_prob: Tensor, count: Tensor) -> Tensor:
        """The stop, which follows the last candidate, moves to the token of the end: [n, A + 1] -> [n, V]."""
        stop = log_prob.gather(1, count[:, None])
        logits = F.pad(log_prob.scatter(1, count[:, None], -torch.inf), (0, 1), value=-torch.inf)
        return logits.index_copy(1, torch.tensor([self.symbols.end], device=count.device), stop)
