"""Best-first search over prefixes of routes: the exact k likeliest routes, or the best one to every state.

Legend: B episodes still searched, n some of them, X prefixes extended so far, K candidates + 1 (actions), H hidden,
C complete routes.

The prefixes of an episode form a tree. A node is a prefix with one more action, not taken yet: action a of the x-th
prefix that was extended is node x * K + a; its score is the log-probability of all its actions. Log-probabilities are
not positive, so no prefix is likelier than what it begins with: nodes that are taken in the order of their scores
(Dijkstra's search, -log p being the cost) end in complete routes in the order of theirs.

The follower's memory is its whole past, so the state of an exact search is the whole prefix. The state-factored search
of Speaker-Follower (Fried et al. 2018, arXiv 1806.02724) and `_dijkstra` of R2R-EnvDrop (Tan, Yu, Bansal 2019, arXiv
1904.04195), whose state is (viewpoint, action), keep the likeliest prefix of each state: the candidates then stop at
different viewpoints, and a route that is likelier than one of them may be missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent.candidates import STOP, Found
from agent.hypotheses import Decider
from agent.rollout import KEEP_SHARE
from envs import dynamics
from envs.dynamics import NavState
from envs.tables import NavTables

FIRST_ROOM = 32
"""Prefixes that a tree has room for at first; the room doubles when it is full."""


def best_first(
    decider: Decider, episodes: Tensor, k: int, max_steps: int, max_expansions: int, factored: bool
) -> Found:
    """The k likeliest complete routes of every episode [B], or as many as there are.

    A route is complete with a stop, or after `max_steps` moves. `factored`: one prefix for each (viewpoint, action),
    see above. Where `max_expansions` prefixes were extended before k routes were complete, the search gives up: the
    candidates are then the likeliest of the complete routes met so far.
    """
    tables, zeros = decider.tables, torch.zeros_like(episodes)
    trees = _Trees(tables, episodes, k, max_steps, factored, decider.first_vectors())
    state = dynamics.begin(tables, zeros, zeros, episodes)
    rows = torch.arange(len(episodes), device=episodes.device)
    log_prob, vectors = decider.decide(state, decider.first_vectors(), rows, 1)
    trees.extend(rows, state, log_prob, zeros - 1, vectors)
    number, left = rows, list[tuple[Tensor, Found]]()
    while len(number):
        rows, node, score = trees.take(max_expansions)
        if len(rows):
            state, before = trees.follow(rows, node)
            log_prob, vectors = decider.decide(state, before, rows, 1)
            trees.extend(rows, state, score[:, None] + log_prob, node, vectors)
        running = torch.nonzero(~trees.over).squeeze(1)  # on a device: a sync
        if len(running) < KEEP_SHARE * len(number):
            ended = torch.nonzero(trees.over).squeeze(1)
            left.append((number[ended], trees.harvest(ended)))
            trees.keep(running)
            decider.keep(running)
            number = number[running]
    return _joined(left, len(episodes))


class _Trees:
    """The trees of the episodes that are still searched. All tensors have B rows.

    episode; used: prefixes so far; over, cut bool: searched, given up. open [B, X, K]: scores of the nodes that were
    not taken yet, else -inf. viewpoint, view, depth [B, X]: where a prefix has led, after how many moves; origin
    [B, X]: the node that became it, -1 at the start; vectors, [B, X, ...] each: what the follower remembers then.
    done_node, done_score [B, k], done: complete routes, taken in the order of their scores. Of a factored search:
    holder, held [B, S]: node and score of the likeliest prefix of each state, numbered within the scan.
    """

    BY_EPISODE = ("episode", "used", "over", "cut", "done_node", "done_score", "done", "holder", "held")
    BY_PREFIX = ("open", "viewpoint", "view", "depth", "origin")

    def __init__(
        self, tables: NavTables, episodes: Tensor, k: int, max_steps: int, factored: bool, vectors: list[Tensor]
    ) -> None:
        self.tables, self.k, self.max_steps, self.factored = tables, k, max_steps, factored
        self.actions = tables.action_mask.shape[1]
        batch, scores = len(episodes), vectors[0].new_zeros(0, dtype=torch.float32)
        self.episode = episodes
        self.used, self.done = episodes.new_zeros(2, batch)
        self.over, self.cut = episodes.new_zeros((2, batch), dtype=torch.bool)
        self.open = scores.new_full((batch, FIRST_ROOM, self.actions), -torch.inf)
        self.viewpoint, self.view, self.depth, self.origin = episodes.new_zeros(4, batch, FIRST_ROOM)
        self.vectors = [vector.new_zeros(batch, FIRST_ROOM, *vector.shape[1:]) for vector in vectors]
        self.done_node, self.done_score = episodes.new_zeros(batch, k), scores.new_full((batch, k), -torch.inf)
        states = (int(tables.local.max()) + 1) * self.actions if factored else 0  # on a device: a sync
        self.holder, self.held = episodes.new_zeros(batch, states), scores.new_full((batch, states), -torch.inf)

    def take(self, max_expansions: int) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest open node of every tree. Returns the rows [n] whose node is to be extended, the nodes, their
        scores; complete routes are put among those done."""
        nodes = self.open.flatten(1)
        score, node = nodes.max(1)
        exists = ~self.over & (score > -torch.inf)
        complete = exists & self._is_complete(node)
        (rows,) = torch.nonzero(exists, as_tuple=True)  # on a device: a sync
        nodes[rows, node[rows]] = -torch.inf
        (rows,) = torch.nonzero(complete, as_tuple=True)
        self.done_node[rows, self.done[rows]], self.done_score[rows, self.done[rows]] = node[rows], score[rows]
        self.done = self.done + complete.long()
        self.cut = self.cut | (exists & ~complete & (self.used >= max_expansions))
        self.over = self.over | ~exists | (self.done == self.k) | self.cut
        (rows,) = torch.nonzero(~self.over & ~complete, as_tuple=True)
        return rows, node[rows], score[rows]

    def _is_complete(self, node: Tensor) -> Tensor:
        """[B] whether a node [B] of each tree is a stop, or the last move there may be."""
        prefix = (node // self.actions)[:, None]
        stop = node % self.actions == self.tables.count[self.viewpoint.gather(1, prefix).squeeze(1)]
        return stop | (self.depth.gather(1, prefix).squeeze(1) + 1 >= self.max_steps)

    def follow(self, rows: Tensor, node: Tensor) -> tuple[NavState, list[Tensor]]:
        """Where the move of a node [n] leads in the trees of those rows, and what the follower remembers there."""
        prefix = node // self.actions
        episode, depth = self.episode[rows], self.depth[rows, prefix]
        zeros = torch.zeros_like(episode)
        here, view = self.viewpoint[rows, prefix], self.view[rows, prefix]
        state = NavState(zeros, zeros, episode, here, view, depth, zeros.bool())
        state, _, _, _ = dynamics.move(self.tables, state, node % self.actions, self.max_steps)
        return state, [vector[rows, prefix] for vector in self.vectors]

    def extend(self, rows: Tensor, state: NavState, score: Tensor, origin: Tensor, vectors: list[Tensor]) -> None:
        """One more prefix in the trees of those rows [n], with the scores [n, K] of its nodes."""
        at = self.used[rows]
        if int(at.max()) >= self.open.shape[1]:  # on a device: a sync
            self._make_room()
        if self.factored:
            score = self._hold(rows, state.viewpoint, score, at)
        columns = (score, state.viewpoint, state.view, state.steps, origin)
        for name, column in zip(self.BY_PREFIX, columns, strict=True):
            getattr(self, name)[rows, at] = column
        for table, vector in zip(self.vectors, vectors, strict=True):
            table[rows, at] = vector
        self.used = self.used.index_add(0, rows, torch.ones_like(rows))

    def _hold(self, rows: Tensor, viewpoint: Tensor, score: Tensor, at: Tensor) -> Tensor:
        """The scores, -inf where a likelier prefix holds the state already; the others take it from who held it."""
        action = torch.arange(self.actions, device=rows.device)
        state = self.tables.local[viewpoint][:, None] * self.actions + action
        better = score > self.held[rows[:, None], state]
        row, column = torch.nonzero(better, as_tuple=True)  # on a device: a sync
        tree, key = rows[row], state[row, column]
        was_held = self.held[tree, key] > -torch.inf
        self.open.flatten(1)[tree[was_held], self.holder[tree, key][was_held]] = -torch.inf
        self.held[tree, key] = score[row, column]
        self.holder[tree, key] = at[row] * self.actions + column
        return score.masked_fill(~better, -torch.inf)

    def _make_room(self) -> None:
        for name in self.BY_PREFIX:
            table = getattr(self, name)
            setattr(self, name, torch.cat([table, torch.full_like(table, -torch.inf if name == "open" else 0)], 1))
        self.vectors = [torch.cat([vector, torch.zeros_like(vector)], 1) for vector in self.vectors]

    def keep(self, rows: Tensor) -> None:
        """Some of the trees alone."""
        for name in (*self.BY_EPISODE, *self.BY_PREFIX):
            setattr(self, name, getattr(self, name).index_select(0, rows))
        self.vectors = [vector.index_select(0, rows) for vector in self.vectors]

    def harvest(self, rows: Tensor) -> Found:
        """The candidates of some trees [n]; `Found.episode` counts within these."""
        node, score = self._best_complete(rows)
        place, rank = torch.nonzero(score > -torch.inf, as_tuple=True)
        tree, node, score = rows[place], node[place, rank], score[place, rank]
        prefix = node // self.actions
        actions = self.depth[tree, prefix] + 1
        size = int(actions.max()) if len(actions) else 0
        action = node.new_full((len(node), size), STOP)
        going = torch.arange(len(node), device=node.device)
        while len(going):
            of, prefix = tree[going], node[going] // self.actions
            slot = node[going] % self.actions
            stop = slot == self.tables.count[self.viewpoint[of, prefix]]
            action[going, self.depth[of, prefix]] = torch.where(stop, STOP, slot)
            node[going] = self.origin[of, prefix]
            going = going[node[going] >= 0]
        walks = zip(self.viewpoint[rows].tolist(), self.used[rows].tolist(), strict=True)
        return Found(place, action, actions, score, [walk[:used] for walk, used in walks], self.cut[rows])

    def _best_complete(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and scores [n, k] of the likeliest complete routes, -inf where there are fewer; those that were taken
        first, then, where the search gave up, those that were not."""
        viewpoint, depth = self.viewpoint[rows], self.depth[rows]
        action = torch.arange(self.actions, device=rows.device)
        complete = (action == self.tables.count[viewpoint][:, :, None]) | (depth + 1 >= self.max_steps)[:, :, None]
        rest = self.open[rows].masked_fill(~complete, -torch.inf).flatten(1)
        rest_score, rest_node = rest.topk(min(self.k, rest.shape[1]), 1)
        score = torch.cat([self.done_score[rows], rest_score], 1)
        node = torch.cat([self.done_node[rows], rest_node], 1)
        score, order = score.sort(dim=1, descending=True, stable=True)
        return node.gather(1, order)[:, : self.k], score[:, : self.k]


def _joined(parts: list[tuple[Tensor, Found]], batch: int) -> Found:
    """One record of the episodes [batch] from those of some [n] each, whose places in the batch are given."""
    size = max(found.action.shape[1] for _, found in parts)
    visited: list[list[int]] = [[]] * batch
    cut = parts[0][1].cut.new_zeros(batch)
    for number, found in parts:
        cut[number] = found.cut
        for place, walk in zip(number.tolist(), found.visited, strict=True):
            visited[place] = walk

    def padded(action: Tensor) -> Tensor:
        return torch.nn.functional.pad(action, (0, size - action.shape[1]), value=STOP)

    return Found(
        torch.cat([number[found.episode] for number, found in parts]),
        torch.cat([padded(found.action) for _, found in parts]),
        torch.cat([found.actions for _, found in parts]),
        torch.cat([found.log_prob for _, found in parts]),
        visited,
        cut,
    )
