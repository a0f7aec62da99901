"""The face that Stable-Baselines3 knows: a vector env of ours, or skills over one, as its ``VecEnv``."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv


class SB3VecEnv(VecEnv):
    """``env`` as a Stable-Baselines3 ``VecEnv``: a ``SkillVectorEnv`` (a step is a decision) or a vector env of ours.

    In the step that ends a row's episode ``obs`` is the next one's first, and the row's info has the true last
    observation as ``terminal_observation`` and ``TimeLimit.truncated``, which is False where the env ended it as well.
    ``is_success`` is the env's ``success``. For mean episode returns in Stable-Baselines3's log wrap it in its
    ``VecMonitor``, which counts decisions and their rewards.

    What Stable-Baselines3 cannot do: it discounts every decision alike. Its gamma should be γ^hold, and a decision
    that ends earlier, after k < hold steps, is discounted by γ^hold all the same, where γ^k would be right. That
    concerns decisions cut by a truncation or by the skill's own stop; after a termination nothing is discounted.
    """

    def __init__(self, env: Any):
        if env.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
            raise ValueError(
                "SB3VecEnv takes a vector env with autoreset SAME_STEP: other ones hide the last observation"
            )
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.actions = np.zeros(0)

    def reset(self) -> np.ndarray:
        """Fresh episodes everywhere, by the seed that ``seed`` was told, if any."""
        obs, info = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = _of_rows(info, self.num_envs)
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, info = self.env.step(self.actions)
        done = terminated | truncated
        infos = _of_rows(info, self.num_envs)
        cut = truncated & ~terminated
        for row, told in enumerate(infos):
            if done[row]:
                told |= {key: value[row] for key, value in info["final_info"].items() if _is_rows(key, value)}
                told["terminal_observation"] = info["final_obs"][row].copy()
            told["TimeLimit.truncated"] = bool(cut[row])
            if "success" in told:
                told["is_success"] = bool(told["success"])
        return obs, reward.astype(np.float32), done, infos

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.env.render_rows(range(self.num_envs))

    def close(self) -> None:
        self.env.close()

    # Rows are not envs of their own here: what one env is asked, all are.

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        if indices is not None:
            raise ValueError("SB3VecEnv has one env for all rows: an attribute is set in all of them or in none")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise AttributeError(f"SB3VecEnv cannot call {method_name!r} in single rows: it has one env for all of them")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def _of_rows(info: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Infos by key, (n, ...) → by row."""
    rows = {key: value for key, value in info.items() if _is_rows(key, value)}
    return [{key: value[row] for key, value in rows.items()} for row in range(n)]


def _is_rows(key: str, value: Any) -> bool:
    return isinstance(value, np.ndarray) and not key.startswith(("_", "final_"))
