"""Any other Gymnasium id behind the same face: single envs in this process."""

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from PIL import Image

from envs.facts import metadata
from envs.slice import generator_of, pack, unpack
from envs.task import positive, whole
from envs.vector import Step, reset_mask, row_seeds

NOTHING: dict[str, Any] = {}


class Rows(VectorEnv):
    """Single Gymnasium envs as rows, with the conventions of `BatchedEnv`: SAME_STEP, `active`, actions in [-1, 1].

    Each episode is seeded from its row's generator. Physics cannot be saved: `load_state_dict` starts fresh episodes,
    the same ones each time, and `metadata["exact_resume"]` is False.

    Args:
        envs: the rows; all alike. They are closed with this one.
        read_action, read_obs: from our action to the envs', and from their observation to ours.
        obs, action: our spaces of one row. lead: (agents,) where a row is a team, whose rewards are as many.
        xy: columns of an observation that become `info["xy"]`, or None.
        facts: what stands in `metadata`.
    """

    def __init__(
        self,
        envs: Sequence[gymnasium.Env],
        *,
        read_action: Callable[[Any], Any],
        read_obs: Callable[[Any], np.ndarray],
        obs: Box,
        action: Box | Discrete,
        xy: list[int] | None,
        facts: dict[str, Any],
        lead: tuple[int, ...] = (),
    ):
        self._envs, self._read_action, self._read_obs = list(envs), read_action, read_obs
        self._xy, self._lead = xy, lead
        self.metadata = facts | ({"agents": lead[0]} if lead else {})
        self.single_action_space, self.single_observation_space = action, obs
        self.num_envs = num_envs = len(self._envs)
        self.render_mode = self._envs[0].render_mode
        self.observation_space = batch_space(obs, num_envs)
        self.action_space = batch_space(action, num_envs)
        self._obs = np.zeros((num_envs, *obs.shape), obs.dtype)
        self._generators: list[np.random.Generator] | None = None
        self._pending: tuple[np.ndarray, np.ndarray] | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As `BatchedEnv.reset`. Other options go to each env."""
        mask = reset_mask(options, self.num_envs)
        if self._generators is None:
            if not mask.all():
                raise ResetNeeded("the first reset must be of all rows: call reset() without a reset_mask")
            seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
            self._generators = [generator_of(0, row) for row in range(self.num_envs)]
        seeds = row_seeds(seed, self.num_envs)
        rest = {key: value for key, value in (options or {}).items() if key != "reset_mask"}
        for row in np.flatnonzero(mask).tolist():
            row_seed = seeds[row]
            if row_seed is not None:
                self._generators[row] = generator_of(row_seed, row)
            self._restart(row, rest or None)
        self._pending = None
        return self._obs.copy(), self._info(self._obs, np.ones(self.num_envs, dtype=bool))

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> Step:
        """As `BatchedEnv.step`: rows that are not active are not stepped."""
        self.step_async(actions, active)
        return self.step_wait()

    def step_async(self, actions: np.ndarray, active: np.ndarray | None = None) -> None:
        if self._generators is None:
            raise ResetNeeded("call reset() before step()")
        if self._pending is not None:
            raise RuntimeError("step_async() while a step is in flight: call step_wait() first")
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions of shape {actions.shape}: must be {self.action_space.shape}")
        mask = np.ones(self.num_envs, dtype=bool) if active is None else np.array(active, dtype=bool)
        self._pending = actions.copy(), mask

    def step_wait(self) -> Step:
        if self._pending is None:
            raise RuntimeError("step_wait() without step_async()")
        (actions, active), self._pending = self._pending, None
        reward = np.zeros((self.num_envs, *self._lead))
        terminated, truncated = np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        for row in np.flatnonzero(active).tolist():
            action = self._read_action(actions[row])
            obs, reward[row], terminated[row], truncated[row], _ = self._envs[row].step(action)
            self._obs[row] = self._read_obs(obs)
        final, ended = self._obs.copy(), terminated | truncated
        for row in np.flatnonzero(ended).tolist():
            self._restart(row, None)
        info = self._info(self._obs, np.ones(self.num_envs, dtype=bool))
        info["final_obs"], info["_final_obs"] = final, ended
        info["final_info"], info["_final_info"] = self._info(final, ended), ended.copy()
        return self._obs.copy(), reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """The rows' generators, (num_envs, 6) int64."""
        if self._generators is None:
            raise ResetNeeded("call reset() before state_dict()")
        return {"generator": np.stack([pack(generator) for generator in self._generators])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Starts the episodes that come next in the saved generators; the interrupted ones are lost."""
        if set(state) != {"generator"} or len(state["generator"]) != self.num_envs:
            raise ValueError(f"env state of another env: this one has env.num_envs={self.num_envs}")
        self._generators = [generator_of(0, row) for row in range(self.num_envs)]
        for generator, packed in zip(self._generators, state["generator"], strict=True):
            unpack(generator, packed)
        self.reset()

    def render(self) -> tuple[np.ndarray, ...]:
        """A frame of each row."""
        return tuple(self.render_rows(range(self.num_envs)))

    def render_rows(
        self, rows: Sequence[int], *, width: int = 240, height: int = 240, camera: str = "track"
    ) -> list[np.ndarray]:
        """The envs' own frames, scaled to (height, width, 3) uint8; they have one camera.

        Raises:
            RuntimeError: the env cannot be drawn here.
        """
        if self.render_mode is None:
            raise RuntimeError("this env has no render mode rgb_array")
        try:
            frames = [np.asarray(self._envs[row].render()) for row in rows]
        except gymnasium.error.DependencyNotInstalled as error:
            raise RuntimeError(f"this env cannot be drawn: {_line(error)}") from error
        return [np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames]

    def close_extras(self, **kwargs: Any) -> None:
        for env in getattr(self, "_envs", []):
            env.close()

    def _restart(self, row: int, options: dict[str, Any] | None) -> None:
        assert self._generators is not None
        seed = int(self._generators[row].integers(2**31))
        obs, _ = self._envs[row].reset(seed=seed, options=options)
        self._obs[row] = self._read_obs(obs)

    def _info(self, obs: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        return {} if self._xy is None else {"xy": obs[..., self._xy].astype(np.float64), "_xy": mask.copy()}


class Gymnasium(Rows):
    """Rows of a Gymnasium id.

    Box observations keep their shape; float ones become float32 and others keep their dtype. Discrete observations
    become one-hot.

    Args:
        id: of a registered env. With `module:` in it, that module is imported, which needs `trust_module`.
        num_envs: rows.
        kwargs: for `gymnasium.make`.
        horizon: env steps until truncation; None is the id's own.
        xy: two indices of a flat observation that become `info["xy"]`, or None.
        cell: side of a coverage cell of `info["xy"]`; only with `xy`.
        trust_module: whether an id may import a module, which runs its code.

    Raises:
        ValueError: the id is unknown, lacks a package or a horizon, or has a space that is not supported.
    """

    def __init__(
        self,
        *,
        id: str,
        num_envs: int = 8,
        kwargs: Mapping[str, Any] = NOTHING,
        horizon: int | None = None,
        xy: Sequence[int] | None = None,
        cell: float = 1.0,
        trust_module: bool = False,
    ):
        whole(1, num_envs=num_envs)
        positive(cell=cell)
        if horizon is not None:
            whole(1, horizon=horizon)
        envs = [_make(id, dict(kwargs), horizon, trust_module) for _ in range(num_envs)]
        first = envs[0]
        limit = horizon or (first.spec.max_episode_steps if first.spec else None)
        if limit is None:
            raise ValueError(f"env.horizon=null: {id} has no time limit of its own; set one")
        read_obs, box = _observation(id, first.observation_space)
        space = first.action_space
        super().__init__(
            envs,
            read_action=_action_reader(id, space),
            read_obs=read_obs,
            obs=box,
            action=Discrete(int(space.n)) if isinstance(space, Discrete) else Box(-1.0, 1.0, space.shape, np.float32),
            xy=None if xy is None else _indices(xy, box.shape),
            facts=metadata(
                horizon=limit,
                widths={"obs": box.shape[0]} if len(box.shape) == 1 else {},
                parts=["obs"],
                infos=[] if xy is None else ["xy"],
                views=MappingProxyType({}),
                coverage=None if xy is None else {"key": "xy", "cell": cell},
                record=[],
                fps=first.metadata.get("render_fps") or 30,
                exact_resume=False,
            ),
        )


def _make(id: str, kwargs: dict[str, Any], horizon: int | None, trust_module: bool) -> gymnasium.Env:
    if ":" in id and not trust_module:
        raise ValueError(f"env.id={id!r}: it would import a module and run its code; allow it with env.trust_module")
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # Gymnasium would try a library that needs a display
    limit = {} if horizon is None else {"max_episode_steps": horizon}
    try:
        env = gymnasium.make(id, disable_env_checker=True, **limit, **kwargs)
        if "rgb_array" not in env.metadata.get("render_modes", []) or "render_mode" in kwargs:
            return env
        env.close()
        return gymnasium.make(id, disable_env_checker=True, render_mode="rgb_array", **limit, **kwargs)
    except TypeError as error:
        raise ValueError(f"env.kwargs={kwargs!r}: {id} does not take them: {_line(error)}") from error
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"env.id={id!r}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _action_reader(id: str, space: gymnasium.Space) -> Callable[[Any], Any]:
    """A function from our action to the env's."""
    if isinstance(space, Discrete):
        return lambda action: int(action) + int(space.start)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and space.is_bounded():
        low, high = space.low, space.high
        half = space.dtype.type(0.5)

        def scaled(action: np.ndarray) -> np.ndarray:
            return low + half * (np.clip(action, -1, 1).astype(space.dtype) + space.dtype.type(1)) * (high - low)

        return scaled
    raise ValueError(f"env.id={id!r}: action space {space} is not supported: it must be a bounded Box or Discrete")


def _observation(id: str, space: gymnasium.Space) -> tuple[Callable[[Any], np.ndarray], Box]:
    """A function from the env's observation to ours, and our space."""
    if isinstance(space, Discrete):
        rows = np.eye(int(space.n), dtype=np.float32)
        return lambda obs: rows[int(obs) - int(space.start)], Box(0.0, 1.0, (int(space.n),), np.float32)
    if isinstance(space, Box):
        dtype = np.float32 if np.issubdtype(space.dtype, np.floating) else space.dtype.type
        ours = Box(space.low.astype(dtype), space.high.astype(dtype), space.shape, dtype)
        return lambda obs: np.asarray(obs, dtype=dtype), ours
    raise ValueError(f"env.id={id!r}: observation space {space} is not supported: it must be a Box or Discrete")


def _indices(xy: Sequence[int], shape: tuple[int, ...]) -> list[int]:
    if len(shape) != 1 or len(xy) != 2 or not all(isinstance(index, int) and 0 <= index < shape[0] for index in xy):
        raise ValueError(f"env.xy={xy!r}: must be two indices of a flat observation; the observation is {shape}")
    return list(xy)
