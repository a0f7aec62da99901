"""MPE's particle worlds (Lowe et al. 2017) as mpe2 has them, through PettingZoo's parallel API: a team is a row.

    pip install 'skillrl[mpe]'

`envs.particles` has the physics and cooperative navigation batched, and much faster; this is the original.
"""

import importlib
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from envs.facts import metadata
from envs.gymnasium_adapter import NOTHING, Rows
from envs.task import whole

PARTS = {"velocity": 2, "xy": 2}
COVERAGE = {"key": "xy", "cell": 0.5}


class Team(gymnasium.Env):
    """A PettingZoo parallel env as one env: everything has an axis of agents, in the order of `possible_agents`.

    Agents whose observations or actions are narrower than others' are padded with zeros, and of their actions the first
    columns are read. An episode ends when it ends for one of them.
    """

    def __init__(self, env: Any):
        self.env, self.names = env, list(env.possible_agents)
        self.render_mode = env.render_mode
        self.metadata = {"render_fps": env.metadata.get("render_fps", 10)}
        self._widths = [env.observation_space(name).shape[0] for name in self.names]
        self._actions = [env.action_space(name) for name in self.names]
        for name, space in zip(self.names, self._actions):
            if not (isinstance(space, Box) and space.is_bounded() and len(space.shape) == 1):
                raise ValueError(f"action space {space} of {name} is not supported: it must be a bounded Box")
        lead, dim = len(self.names), max(space.shape[0] for space in self._actions)
        self.observation_space = Box(-np.inf, np.inf, (lead, max(self._widths)), np.float32)
        self.action_space = Box(-1.0, 1.0, (lead, dim), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        obs, _ = self.env.reset(seed=seed, options=options)
        return self._together(obs), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """action: (agents, d) in [-1, 1]; the reward is (agents,)."""
        told = {name: self._own(row, space) for name, row, space in zip(self.names, action, self._actions)}
        obs, reward, terminated, truncated, _ = self.env.step(told)
        paid = np.array([reward[name] for name in self.names], dtype=np.float64)
        return self._together(obs), paid, any(terminated.values()), any(truncated.values()), {}

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _together(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        whole = np.zeros(self.observation_space.shape or (), np.float32)
        for row, (name, width) in enumerate(zip(self.names, self._widths)):
            whole[row, :width] = obs[name]
        return whole

    def _own(self, row: np.ndarray, space: Box) -> np.ndarray:
        share = (np.clip(row[: space.shape[0]], -1, 1) + 1) / 2
        return (space.low + share * (space.high - space.low)).astype(space.dtype)


class MPE(Rows):
    """Rows of one of mpe2's worlds, with continuous actions, in this process.

    Args:
        id: of the world, simple_spread_v3 for one. num_envs: rows. kwargs: for its `parallel_env`.
        horizon: env steps until truncation.
        parts: names and widths of an agent's observation from its first column on; what is left is called rest.
        coverage: {"key": "xy", "cell": side of a cell}, where there is a part xy; or None.

    Raises:
        ValueError: mpe2 is not installed, has no such world, or does not take the arguments.
    """

    def __init__(
        self,
        *,
        id: str = "simple_spread_v3",
        num_envs: int = 8,
        kwargs: Mapping[str, Any] = NOTHING,
        horizon: int = 25,
        parts: Mapping[str, int] = PARTS,
        coverage: Mapping[str, Any] | None = COVERAGE,
    ):
        whole(1, num_envs=num_envs, horizon=horizon)
        envs = [Team(_make(id, {**kwargs, "max_cycles": horizon})) for _ in range(num_envs)]
        first = envs[0]
        lead, dim = first.observation_space.shape or ()
        if lead < 2:
            raise ValueError(f"env.id={id!r}: this world has one agent, which is no team")
        widths = _widths(parts, dim)
        start = sum(list(widths.values())[: list(widths).index("xy")]) if "xy" in widths else None
        super().__init__(
            envs,
            read_action=lambda action: action,
            read_obs=lambda obs: obs,
            obs=Box(-np.inf, np.inf, (lead, dim), np.float32),
            action=Box(-1.0, 1.0, first.action_space.shape, np.float32),
            xy=None if start is None else [start, start + 1],
            facts=metadata(
                horizon=horizon,
                widths=widths,
                parts=widths,
                infos=[] if start is None else ["xy"],
                views=MappingProxyType({}),
                coverage=coverage,
                record=[],
                fps=first.metadata["render_fps"],
                exact_resume=False,
            ),
            lead=(lead,),
        )


def _widths(parts: Mapping[str, int], dim: int) -> dict[str, int]:
    if not all(isinstance(width, int) and width > 0 for width in parts.values()) or sum(parts.values()) > dim:
        raise ValueError(f"env.parts={dict(parts)!r}: an agent's observation here is {dim} wide")
    if parts.get("xy", 2) != 2:
        raise ValueError(f"env.parts={dict(parts)!r}: xy is 2 wide")
    rest = dim - sum(parts.values())
    return dict(parts) | ({"rest": rest} if rest else {})


def _make(id: str, kwargs: Mapping[str, Any]) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        worlds = importlib.import_module("mpe2.all_modules").mpe_environments
    except ModuleNotFoundError as error:
        raise ValueError(f"env=mpe needs mpe2, which lacks {error.name}: pip install 'skillrl[mpe]'") from error
    if f"mpe/{id}" not in worlds:
        known = ", ".join(sorted(name.removeprefix("mpe/") for name in worlds))
        raise ValueError(f"env.id={id!r}: mpe2 has {known}")
    try:
        return worlds[f"mpe/{id}"].parallel_env(continuous_actions=True, render_mode="rgb_array", **kwargs)
    except (TypeError, AssertionError) as error:
        line = re.sub(r"\s+", " ", str(error))
        raise ValueError(f"env.kwargs={dict(kwargs)!r}: {id} does not take them: {line}") from error
