"""A deterministic vector env that says in its observation where it is, for tests of who received what.

obs = (row, episode, t, x); x adds up the actions. reward = row + 10 t before the step, plus the action. Row i's
episodes last ``lengths[i]`` steps, and end by termination where ``terminates[i]``, else by truncation.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv


class CountingEnv(VectorEnv):
    def __init__(self, lengths: Sequence[int] = (5, 7), terminates: Sequence[bool] = (True, False), *, agents: int = 1):
        self.num_envs, self.agents = len(lengths), agents
        self.lengths, self.terminates = np.array(lengths), np.array(terminates)
        lead = (agents,) if agents > 1 else ()
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (*lead, 4), np.float32)
        self.single_action_space = gym.spaces.Box(-1, 1, (*lead, 1), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)
        names = {"row": [0, 1], "episode": [1, 2], "t": [2, 3], "x": [3, 4]}
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "horizon": int(max(lengths)),
            "obs_names": names,
            "views": {"clock": ["episode", "t"]},
            "agents": agents,
            "record": [],
        }

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        self.episode, self.t, self.x = (np.zeros(self.num_envs) for _ in range(3))
        self.steps = np.zeros(self.num_envs, dtype=int)
        return self._obs(), {}

    def _obs(self) -> np.ndarray:
        obs = np.stack([np.arange(self.num_envs), self.episode, self.t, self.x], -1).astype(np.float32)
        return np.repeat(obs[:, None], self.agents, 1) if self.agents > 1 else obs

    def step_async(self, action: np.ndarray, active: np.ndarray | None = None) -> None:
        self.action = np.asarray(action, dtype=float)
        self.active = np.ones(self.num_envs, bool) if active is None else np.asarray(active)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        on = self.active
        pushed = self.action.reshape(self.num_envs, self.agents, -1).sum(-1)  # (N, agents)
        reward = (np.arange(self.num_envs) + 10 * self.t)[:, None] + pushed
        reward = np.where(on[:, None], reward * np.arange(1, self.agents + 1), 0.0)
        self.steps += on
        self.t, self.x = self.t + on, self.x + on * pushed.sum(-1)
        ended = on & (self.t >= self.lengths)
        terminated, truncated = ended & self.terminates, ended & ~self.terminates
        final = self._obs()
        self.episode, self.t, self.x = self.episode + ended, np.where(ended, 0, self.t), np.where(ended, 0, self.x)
        info = {"final_obs": final, "_final_obs": ended, "final_info": {}} if ended.any() else {}
        return self._obs(), reward if self.agents > 1 else reward[:, 0], terminated, truncated, info

    def step(self, action: np.ndarray, active: np.ndarray | None = None) -> tuple:
        self.step_async(action, active)
        return self.step_wait()

    def state_dict(self) -> dict[str, Any]:
        return {"episode": self.episode, "t": self.t, "x": self.x}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.episode, self.t, self.x = (state[key].copy() for key in ("episode", "t", "x"))
