"""Gymnasium environments of vision-and-language navigation: `NavVectorEnv` for speed, its scalar twin `NavEnv` to read.

Legend: B environments, K candidates, D feature size, A angle feature size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from array_api_compat import array_namespace
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs import dynamics
from envs.candidates import HEADINGS, STEP_RAD, VIEWS, angle_feature, view_angle_features
from envs.dynamics import STOP_REWARD, draw_episode
from envs.metrics import SUCCESS_RADIUS_M
from envs.tables import Array, NavTables, World, load_world, start_view

MAX_STEPS = 35
"""R2R-EnvDrop: `maxAction`."""

HEADING_LIMIT_RAD = np.float32(2 * np.pi)
FEATURE_LIMIT = np.finfo(np.float32).max
"""Any finite number: Gymnasium's checker warns of infinite bounds."""

SEED_LIMIT = 2**31
NOT_STARTED = "step before the first reset; expected an episode to be under way: call reset() first"


def observation_space(tables: NavTables, episodes: int) -> spaces.Dict:
    """Space of one environment's observation; see `envs.dynamics.observe` for the meaning."""
    rows, slots = tables.neighbour.shape
    return spaces.Dict(
        {
            "episode": spaces.Discrete(episodes),
            "viewpoint": spaces.Discrete(rows),
            "view": spaces.Discrete(VIEWS),
            "candidate_viewpoint": spaces.Box(0, rows - 1, (slots,), np.int32),
            "candidate_view": spaces.Box(0, VIEWS - 1, (slots,), np.uint8),
            "candidate_heading": spaces.Box(-HEADING_LIMIT_RAD, HEADING_LIMIT_RAD, (slots,), np.float32),
            "candidate_elevation": spaces.Box(-HEADING_LIMIT_RAD, HEADING_LIMIT_RAD, (slots,), np.float32),
            "action_mask": spaces.Box(0, 1, (slots + 1,), np.int8),
        }
    )


class NavVectorEnv(gym.vector.VectorEnv):
    """B environments that step together by table look-ups.

    Runs on numpy, or unchanged on a device: give `world` and `tables` moved there (`world.tables.convert(...)`).
    Autoreset mode: NEXT_STEP (default; the step after an end resets, its action is ignored, its reward is 0) or
    DISABLED (an ended environment stays where it is, with reward 0, until `reset`).

    `reset(options={"episodes": [B] indices})` starts these episodes; without it each environment draws from its own
    seeded sequence (seed + its index, as Gymnasium's vector environments do). `options={"reset_mask": [B] bool}`
    resets only those.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        data: str | Path | None = None,
        split: str = "train",
        connectivity: str | Path | None = None,
        env: str = "r2r",
        world: World | None = None,
        tables: NavTables | None = None,
        max_steps: int = MAX_STEPS,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        candidate_order: str = "sweep",
        elevation_base: str = "horizon",
        render_mode: str | None = None,
    ) -> None:
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            raise ValueError("autoreset mode SAME_STEP is not supported; choose NEXT_STEP or DISABLED")
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 2, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.world = _world(world, data, split, connectivity, env, candidate_order, elevation_base)
        self.tables = self.world.tables if tables is None else tables
        self.num_envs, self.max_steps = num_envs, max_steps
        self.single_observation_space = observation_space(self.tables, len(self.world.episodes))
        self.single_action_space = spaces.Discrete(self.tables.neighbour.shape[1] + 1)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.state: dynamics.NavState | None = None

    def reset(
        self, *, seed: int | list[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Start new episodes in all (or the masked) environments."""
        options = options or {}
        if seed is not None or self.state is None:
            seeds, draws = self._seeds(seed), self._like(np.zeros(self.num_envs, np.int64))
        else:
            seeds, draws = self.state.seed, self.state.draws
        if options.get("episodes") is not None:
            episode = self._chosen(options["episodes"])
        else:
            episode = draw_episode(seeds, draws, len(self.world.episodes))
            draws = draws + 1
        fresh = dynamics.begin(self.tables, seeds, draws, episode)
        mask = options.get("reset_mask")
        if mask is not None:
            if self.state is None:
                raise ValueError("reset with a reset_mask before the first whole reset; call reset() once without it")
            fresh = dynamics.where(self._like(mask) != 0, fresh, self.state)
        self.state = fresh
        return dynamics.observe(self.tables, fresh), {}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Observation, reward [B] float32, terminated [B], truncated [B], info. Nothing here waits for a device."""
        before = self._started()
        state, reward, terminated, truncated = dynamics.move(self.tables, before, actions, self.max_steps)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            episode = draw_episode(before.seed, before.draws, len(self.world.episodes))
            fresh = dynamics.begin(self.tables, before.seed, before.draws + 1, episode)
            state = dynamics.where(before.ended, fresh, state)
            terminated = terminated & ~before.ended
        self.state = state
        return dynamics.observe(self.tables, state), reward, terminated, truncated, {}

    def sample_actions(self, uniform: Array) -> Array:
        """[B] valid actions from [B] uniform numbers in [0, 1): candidates and stop, all equally likely."""
        xp: Any = array_namespace(uniform)
        count = xp.take(self.tables.count, self._started().viewpoint, axis=0)
        return xp.astype(uniform * xp.astype(count + 1, uniform.dtype), xp.int64)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One top-down map per environment, [H, W, 3] uint8 each."""
        if self.render_mode != "rgb_array" or self.state is None:
            return None
        # Fetches three columns to the host: pictures are for people.
        columns = [np.asarray(a.tolist()) for a in (self.state.episode, self.state.viewpoint, self.state.view)]
        return tuple(draw_state(self.world, int(e), int(r), int(v)) for e, r, v in zip(*columns, strict=True))

    def _started(self) -> dynamics.NavState:
        if self.state is None:
            raise ValueError(NOT_STARTED)
        return self.state

    def _seeds(self, seed: int | list[int] | None) -> Array:
        if seed is None:
            seed = int(self.np_random.integers(SEED_LIMIT))
        if not isinstance(seed, Sequence):
            self._np_random, self._np_random_seed = gym.utils.seeding.np_random(int(seed))
            seed = [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"found {len(seed)} seeds; expected one number, or one for each of {self.num_envs}")
        return self._like(np.asarray(seed, np.int64) % SEED_LIMIT)

    def _chosen(self, episodes: Any) -> Array:
        xp: Any = array_namespace(self.tables.count)
        episode, limit = self._like(episodes), len(self.world.episodes)
        if tuple(episode.shape) != (self.num_envs,):
            raise ValueError(f"episodes have shape {tuple(episode.shape)}; expected one for each of {self.num_envs}")
        # Waits for the device: a wrong index would be an endless search for the user there.
        if bool(xp.any((episode < 0) | (episode >= limit))):
            raise ValueError(f"an episode index lies outside 0 .. {limit - 1}: the split has {limit} episodes")
        return episode

    def _like(self, values: Any) -> Array:
        """Integers as an array of the tables' library and device."""
        xp: Any = array_namespace(self.tables.count)
        device = getattr(self.tables.count, "device", None)
        if array_namespace(self.tables.count) is array_namespace(np.zeros(1)):
            return np.asarray(values, np.int64)
        return xp.asarray(values, dtype=xp.int64, device=device)


class NavEnv(gym.Env):
    """One environment, written to be read: the specification of `NavVectorEnv`, on scenes instead of tables.

    Observation: that of `envs.dynamics.observe` without the batch dimension. With `features` ([R, 36, D] by viewpoint
    row) also what the originals feed their agents: `features` [36, D + A] and `candidate_features` [K + 1, D + A]
    (zeros for stop), the angle feature of size A (`angle_feature_size`, 128 or 4) appended; that of the views counts
    from the horizon under both elevation bases.
    Info: instr_id, scan, viewpoint id, instruction.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        split: str = "train",
        connectivity: str | Path | None = None,
        env: str = "r2r",
        world: World | None = None,
        max_steps: int = MAX_STEPS,
        candidate_order: str = "sweep",
        elevation_base: str = "horizon",
        features: np.ndarray | None = None,
        angle_feature_size: int = 128,
        render_mode: str | None = None,
    ) -> None:
        self.world = _world(world, data, split, connectivity, env, candidate_order, elevation_base)
        self.max_steps, self.render_mode = max_steps, render_mode
        self.features, self.angle_feature_size = features, angle_feature_size
        rows, self.slots = self.world.candidates.neighbour.shape
        self.action_space = spaces.Discrete(self.slots + 1)
        self.observation_space = observation_space(self.world.tables, len(self.world.episodes))
        if features is not None:
            if features.ndim != 3 or features.shape[:2] != (rows, VIEWS):
                raise ValueError(
                    f"features have shape {features.shape}; expected ({rows}, {VIEWS}, D): one row per viewpoint"
                )
            self._view_angles = view_angle_features(angle_feature_size)
            for name, n in (("features", VIEWS), ("candidate_features", self.slots + 1)):
                shape = (n, features.shape[2] + angle_feature_size)
                self.observation_space[name] = spaces.Box(-FEATURE_LIMIT, FEATURE_LIMIT, shape, np.float32)
        self.draws = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode: `options={"episode": index}`, or the next of the seeded sequence."""
        super().reset(seed=seed)
        if seed is not None or not hasattr(self, "sequence_seed"):
            self.sequence_seed = (int(self.np_random.integers(SEED_LIMIT)) if seed is None else seed) % SEED_LIMIT
            self.draws = 0
        if options and options.get("episode") is not None:
            self.episode_index = int(options["episode"])
            if not 0 <= self.episode_index < len(self.world.episodes):
                limit = len(self.world.episodes)
                raise ValueError(f"episode {self.episode_index} lies outside 0 .. {limit - 1}: the split has {limit}")
        else:
            self.episode_index = draw_episode(self.sequence_seed, self.draws, len(self.world.episodes))
            self.draws += 1
        self.episode = self.world.episodes[self.episode_index]
        self.scene = self.world.scenes[self.episode.scan]
        self.viewpoint = self.scene.row[self.episode.start]
        self.view = start_view(self.episode.heading_rad)
        self.steps = 0
        self.path = [self.viewpoint]
        return self._observe(), self._info()

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move to candidate `action`, or stop where there is none of that number."""
        if not hasattr(self, "episode"):
            raise ValueError(NOT_STARTED)
        before = self._distance_m()
        row = self._row()
        terminated = not 0 <= action < self.world.candidates.count[row]
        if not terminated:
            table = self.world.candidates
            self.view = int(table.view[row, action])
            self.viewpoint = int(table.neighbour[row, action]) - table.offset[self.scene.scan]
            self.path.append(self.viewpoint)
        self.steps += 1
        after = self._distance_m()
        if not self.episode.has_goal:
            reward = 0.0
        elif terminated:
            reward = STOP_REWARD if after < SUCCESS_RADIUS_M else -STOP_REWARD
        else:
            reward = float(np.sign(before - after))
        truncated = not terminated and self.steps >= self.max_steps
        return self._observe(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """[H, W, 3] uint8: the building from above, the reference route and the way walked so far."""
        if self.render_mode != "rgb_array":
            return None
        return draw_state(self.world, self.episode_index, self._row(), self.view, self.path)

    def _row(self) -> int:
        return self.world.candidates.offset[self.scene.scan] + self.viewpoint

    def _distance_m(self) -> float:
        goal = self.scene.row[self.episode.path[-1]]
        return float(self.world.geodesics[self.scene.scan].distance_m[self.viewpoint, goal])

    def _observe(self) -> dict[str, Any]:
        table, row = self.world.candidates, self._row()
        n = table.count[row]
        heading, elevation = np.zeros(self.slots, np.float32), np.zeros(self.slots, np.float32)
        heading[:n] = table.heading_rad[row, :n] - np.float32(self.view % HEADINGS * STEP_RAD)
        base = (self.view // HEADINGS - 1) * STEP_RAD if self.world.elevation_base == "view" else 0.0
        elevation[:n] = table.elevation_rad[row, :n] - np.float32(base)
        observation = {
            "episode": np.int64(self.episode_index),
            "viewpoint": np.int64(row),
            "view": np.int64(self.view),
            "candidate_viewpoint": table.neighbour[row].copy(),
            "candidate_view": table.view[row].astype(np.uint8),
            "candidate_heading": heading,
            "candidate_elevation": elevation,
            "action_mask": (np.arange(self.slots + 1) <= n).astype(np.int8),
        }
        if self.features is not None:
            own = self.features[row].astype(np.float32)
            views = np.concatenate([own, self._view_angles[self.view]], -1)
            candidates = np.zeros((self.slots + 1, views.shape[1]), np.float32)
            angles = angle_feature(heading[:n], elevation[:n], self.angle_feature_size)
            candidates[:n] = np.concatenate([own[table.view[row, :n]], angles], -1)
            observation |= {"features": views, "candidate_features": candidates}
        return observation

    def _info(self) -> dict[str, Any]:
        return {
            "instr_id": self.episode.instr_id,
            "scan": self.scene.scan,
            "viewpoint": self.scene.viewpoints[self.viewpoint],
            "instruction": self.episode.instruction,
        }


def _world(
    world: World | None, data: str | Path | None, split: str, connectivity: str | Path | None, *options: str
) -> World:
    """The world given, or the one of the data folder."""
    if data is None:
        if world is None:
            raise ValueError("no data: give data=DIR (the folder of R2R_{split}.json, see docs/data.md) or world=...")
        return world
    if world is not None:
        raise ValueError(
            "both world and data given; expected one: a world brings its episodes, candidate order and elevation base"
        )
    return load_world(data, split, connectivity, *options)


def draw_state(world: World, episode: int, row: int, view: int, path: list[int] | None = None) -> np.ndarray:
    """Top-down map of an agent: the building, the reference route, the way walked, position and heading."""
    from envs.topdown import draw_topdown  # matplotlib loads only for pictures

    item = world.episodes[episode]
    scene = world.scenes[item.scan]
    return draw_topdown(
        scene,
        reference=[scene.row[v] for v in item.path],
        path=path,
        position=row - world.candidates.offset[item.scan],
        heading_rad=view % HEADINGS * STEP_RAD,
        title=f"{item.scan} {item.instr_id}",
    )
