"""The environment's dynamics as pure functions of tables, state and action, in any array library.

Legend: B environments, K candidates. Written against the Python array API: numpy tables give a numpy environment,
torch tables on a GPU the same on the GPU, without a host sync.

Actions: 0 .. count - 1 move to that candidate; `count` (the slot after the last candidate, where the originals
append their STOP) and everything outside that range stops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from envs.candidates import HEADINGS
from envs.metrics import SUCCESS_RADIUS_M
from envs.tables import Array, NavTables

STOP_REWARD = 2.0
"""R2R-EnvDrop: +2 for a stop within the success radius, -2 for one outside."""

MASK_32 = 0xFFFFFFFF


class NavState(NamedTuple):
    """A batch of environments as a value; all [B] int64, `ended` bool."""

    seed: Array
    draws: Array
    episode: Array
    viewpoint: Array
    view: Array
    steps: Array
    ended: Array


def draw_episode(seed: Array, draws: Array, episodes: int) -> Array:
    """The episode of the draws-th reset under a seed, the same for int and array.

    A hash of 32 bits (Wellons' lowbias32), brought to the range by a product: quicker than a remainder.
    """
    x = (seed * 0x9E3779B1 + draws * 0x85EBCA6B + 0x6A09E667) & MASK_32
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK_32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK_32
    return ((x ^ (x >> 16)) * episodes) >> 32


def begin(tables: NavTables, seed: Array, draws: Array, episode: Array) -> NavState:
    """The state at the start of the given episodes."""
    xp: Any = array_namespace(episode)
    return NavState(
        seed=seed,
        draws=draws,
        episode=episode,
        viewpoint=xp.take(tables.start, episode, axis=0),
        view=xp.take(tables.start_view, episode, axis=0),
        steps=xp.zeros_like(episode),
        ended=xp.zeros_like(episode, dtype=xp.bool),
    )


def where(condition: Array, yes: NavState, no: NavState) -> NavState:
    """Per environment one of two states."""
    xp: Any = array_namespace(condition)
    return NavState(*(xp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))


def distance_to_goal(tables: NavTables, episode: Array, viewpoint: Array) -> Array:
    """[B] metres along the graph. Privileged: for rewards, teachers and metrics, never an observation."""
    xp: Any = array_namespace(episode)
    goal = xp.take(tables.goal, episode, axis=0)
    place = xp.take(tables.distance_row, viewpoint, axis=0) + xp.take(tables.local, goal, axis=0)
    return xp.take(tables.distance_m, place, axis=0)


def move(tables: NavTables, state: NavState, action: Array, max_steps: int) -> tuple[NavState, Array, Array, Array]:
    """One step of every environment that has not ended; the others stay as they are, with reward 0.

    Returns (state, reward [B] float32, terminated [B], truncated [B]). Reward of R2R-EnvDrop: the sign of the
    progress in metres, +2 or -2 at a stop; 0 without a goal. (The original raises an error when a move leaves the
    distance unchanged; here the sign is 0.)
    """
    xp: Any = array_namespace(action)
    slots = tables.neighbour.shape[1]
    stop = (action < 0) | (action >= xp.take(tables.count, state.viewpoint, axis=0))
    moves = ~(stop | state.ended)
    edge = state.viewpoint * slots + xp.where(moves, action, xp.zeros_like(action))
    viewpoint = xp.where(moves, xp.take(xp.reshape(tables.neighbour, (-1,)), edge, axis=0), state.viewpoint)
    view = xp.where(moves, xp.take(xp.reshape(tables.view, (-1,)), edge, axis=0), state.view)
    before = distance_to_goal(tables, state.episode, state.viewpoint)
    after = distance_to_goal(tables, state.episode, viewpoint)
    outcome = xp.where(after < SUCCESS_RADIUS_M, STOP_REWARD, -STOP_REWARD)
    counts = xp.take(tables.has_goal, state.episode, axis=0) & ~state.ended
    # not xp.sign: array_api_compat's for torch looks for NaN by a mask, which waits for the device
    progress = xp.astype(before > after, before.dtype) - xp.astype(before < after, before.dtype)
    reward = xp.astype(xp.where(moves, progress, outcome) * counts, xp.float32)
    steps = state.steps + xp.astype(~state.ended, state.steps.dtype)
    terminated = stop | state.ended
    truncated = ~terminated & (steps >= max_steps)
    return (
        state._replace(viewpoint=viewpoint, view=view, steps=steps, ended=terminated | truncated),
        reward,
        terminated,
        truncated,
    )


def observe(tables: NavTables, state: NavState) -> dict[str, Array]:
    """What an agent may see: numbers and angles, nothing of the goal.

    episode, viewpoint, view [B] int64; candidate_viewpoint [B, K] int32, candidate_view [B, K] uint8;
    candidate_heading, candidate_elevation [B, K] float32, radians, relative to the agent's heading (and to its
    elevation where the tables say so); action_mask [B, K + 1] int8: candidates, then stop right after the last one.
    """
    xp: Any = array_namespace(state.viewpoint)
    viewpoint, view = state.viewpoint, state.view
    elevation_row = view // HEADINGS
    by_heading = viewpoint * HEADINGS + (view - elevation_row * HEADINGS)  # quicker than view % HEADINGS
    bases = tables.relative_elevation_rad.shape[0] // tables.neighbour.shape[0]
    by_elevation = viewpoint if bases == 1 else viewpoint * bases + elevation_row
    return {
        "episode": state.episode,
        "viewpoint": viewpoint,
        "view": view,
        "candidate_viewpoint": xp.take(tables.neighbour, viewpoint, axis=0),
        "candidate_view": xp.take(tables.view, viewpoint, axis=0),
        "candidate_heading": xp.take(tables.relative_heading_rad, by_heading, axis=0),
        "candidate_elevation": xp.take(tables.relative_elevation_rad, by_elevation, axis=0),
        "action_mask": xp.take(tables.action_mask, viewpoint, axis=0),
    }
