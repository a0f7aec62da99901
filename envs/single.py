"""One row as an ordinary `gymnasium.Env`."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import VectorEnv


class Single(gymnasium.Env):
    """A batched env of one row, without its autoreset: the observation of a step that ends an episode is the last one.

    `reset()` after an end goes on with the episode that the batched env has already begun, so both see the same ones.
    Of a team it is all agents' observations and actions (agents, ...), and the sum of their rewards.

    Args:
        env: with `num_envs` 1. It is closed with this one.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: `env` has more rows than one, or the render mode is another.
    """

    def __init__(self, env: VectorEnv, *, render_mode: str | None = None):
        if env.num_envs != 1:
            raise ValueError(f"env.num_envs={env.num_envs}: must be 1 for a single env")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r}: must be null or rgb_array")
        self.env = env
        self.render_mode = render_mode
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        self.metadata = {key: value for key, value in env.metadata.items() if key != "autoreset_mode"}
        self._began: tuple[np.ndarray, dict[str, Any]] | None = None  # the next episode's start, after an end

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if self._began is not None and seed is None and not options:
            obs, info = self._began
        else:
            batch, infos = self.env.reset(seed=seed, options=options)
            obs, info = batch[0], _row(infos)
        self._began = None
        return obs, info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._began is not None:
            raise ResetNeeded("the episode has ended: call reset() before step()")
        obs, reward, terminated, truncated, info = self.env.step(np.asarray(action)[None])
        if terminated[0] or truncated[0]:
            self._began = obs[0], _row(info)
        final = _row(info["final_info"])
        return info["final_obs"][0], float(reward[0].sum()), bool(terminated[0]), bool(truncated[0]), final

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The current frame (H, W, 3) uint8. After an end it shows the next episode's start."""
        if self.render_mode is None:
            return None
        return self.env.render_rows([0])[0]  # type: ignore[attr-defined]

    def close(self) -> None:
        self.env.close()


def _row(info: dict[str, Any]) -> dict[str, Any]:
    """The only row of each info, without masks."""
    return {key: value[0] for key, value in info.items() if not key.startswith("_") and not key.startswith("final_")}
