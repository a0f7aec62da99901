"""Hierarchy is an environment: z is the action, one step holds it for a while. The collector does the work.

``SkillEnv`` is a ``gymnasium.Env``, ``SkillVectorEnv`` a ``VectorEnv``: any library that knows Gymnasium can choose
skills.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Generator, Tensor

from skillrl.data.collector import Collector
from skillrl.selector import Selector
from skillrl.skill_policy import SkillPolicy, freeze
from skillrl.skill_spaces import SkillSpace
from skillrl.spec import Carry, Discrete, Selection, Spec


class Chosen(Selector):
    """Hands over what was put into ``choice`` (N, ...): an action of somebody else's."""

    def __init__(self, policy: SkillPolicy, hold: int | None):
        if hold is not None and hold < 1:
            raise ValueError(f"hold is {hold}: a decision lasts at least 1 env step")
        self.space, self.hold = policy.space, hold
        self.choice: Tensor | None = None
        self.rows = torch.empty(0, dtype=torch.int64)

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        assert self.choice is not None
        return Selection(self.space.project(self.choice[self.rows]))


def action_space(skills: SkillSpace) -> gym.Space:
    """What one choice among ``skills`` is to Gymnasium: a number, or a box in [-1, 1]."""
    action = skills.action()
    if isinstance(action, Discrete):
        return gym.spaces.Discrete(action.n)
    return gym.spaces.Box(-1.0, 1.0, action.shape, np.float32)


class SkillVectorEnv(VectorEnv):
    """A vector env in which a step is a decision: z, held for ``hold`` env steps or until policy or episode end.

    The reward is Σ γ^i r_i over the steps that were really made; ``info["duration"]`` (N,) counts them and
    ``info["discount"]`` is γ^k·(1 − terminated). Rows whose decision ended wait for the others and are not stepped.
    A team's reward is the sum of its agents'.

    Args:
        env: a vector env of ours. policy: the skills; they are frozen. hold: env steps a decision lasts at most.
        deterministic: the skills' mode (the usual choice) or samples, drawn with ``seed``.
    """

    def __init__(
        self,
        env: Any,
        policy: SkillPolicy,
        *,
        hold: int,
        gamma: float = 0.99,
        deterministic: bool = True,
        seed: int = 0,
    ):
        chosen = Chosen(policy, hold)
        spec = Spec.from_env(env)
        self._show(
            Collector(env, freeze(policy), chosen, spec=spec, gamma=gamma, seed=seed, deterministic=deterministic),
            chosen,
            seed,
        )

    @classmethod
    def around(cls, collector: Collector, *, hold: int, seed: int = 0) -> "SkillVectorEnv":
        """The face of a collector that may be on its way: it gets another selector, and its episodes go on."""
        env = cls.__new__(cls)
        chosen = Chosen(collector.policy, hold)
        collector.selector = chosen
        env._show(collector, chosen, seed)
        return env

    def _show(self, collector: Collector, chosen: Chosen, seed: int) -> None:
        env = collector.env
        self.env, self.num_envs, self.seed = env, env.num_envs, seed
        self.collector, self.chosen = collector, chosen
        self.single_observation_space = env.single_observation_space
        self.single_action_space = action_space(collector.policy.space)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.SAME_STEP, "hold": chosen.hold}
        self.render_mode = getattr(env, "render_mode", None)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Fresh episodes in all rows; without a seed, the next one of this env's own sequence."""
        if options and options.get("reset_mask") is not None:
            raise ValueError("SkillVectorEnv resets all rows together: options['reset_mask'] is not taken")
        if seed is not None:
            self._seeds = np.random.SeedSequence(seed)
            self.collector.reset(seed)
        else:
            if not hasattr(self, "_seeds"):
                self._seeds = np.random.SeedSequence(self.seed)
            self.collector.reset(int(self._seeds.spawn(1)[0].generate_state(1)[0]))
        return self.collector.obs.cpu().numpy().copy(), dict(self.collector.info)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision in every row."""
        n, collector = self.num_envs, self.collector
        self.chosen.choice = torch.as_tensor(np.asarray(actions).copy(), device=collector.device)
        active = torch.ones(n, dtype=torch.bool)
        reward, discount = torch.zeros(n), torch.zeros(n)
        terminated, truncated = torch.zeros_like(active), torch.zeros_like(active)
        duration = torch.zeros(n, dtype=torch.int64)
        final_obs = torch.zeros_like(collector.obs)
        while bool(active.any()):
            self.chosen.rows = (collector.due & active).nonzero().squeeze(-1)
            step, decisions = collector.tick(active)
            if decisions is None:
                continue
            rows = decisions["row"]
            team = decisions["reward"].ndim > 1  # whose agents' rewards add up, and have one discount here
            reward[rows] = decisions["reward"].sum(-1) if team else decisions["reward"]
            discount[rows] = decisions["discount"][..., 0] if team else decisions["discount"]
            duration[rows] = decisions["duration"]
            terminated[rows], truncated[rows] = step["terminated"][rows], step["truncated"][rows]
            final_obs[rows] = step["next_obs"][rows]
            self._keep_infos(step, rows)
            active[rows] = False
        done = (terminated | truncated).numpy()
        info = dict(collector.info) | {"duration": duration.numpy(), "discount": discount.numpy()}
        if done.any():
            info |= {"final_obs": final_obs.cpu().numpy(), "_final_obs": done, "final_info": dict(self._final)}
        paid, ended, cut = (value.numpy() for value in (reward.double(), terminated, truncated))
        return collector.obs.cpu().numpy().copy(), paid, ended, cut, info

    def _keep_infos(self, step: dict[str, Tensor], rows: Tensor) -> None:
        """The infos of the state that each row's decision led to."""
        self._final: dict[str, np.ndarray] = getattr(self, "_final", {})
        for key, value in step.items():
            if key.startswith("info/"):
                kept = self._final.setdefault(key.removeprefix("info/"), value.cpu().numpy().copy())
                kept[rows.cpu().numpy()] = value[rows].cpu().numpy()

    def render_rows(self, rows: Any, **arguments: Any) -> list[np.ndarray]:
        """Frames of the env below."""
        return self.env.render_rows(rows, **arguments)

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close()


class SkillEnv(gym.Env):
    """One env, one decision a step. ``env`` is a vector env of ours with a single row; see ``SkillVectorEnv``."""

    def __init__(self, env: Any, policy: SkillPolicy, *, hold: int, render_mode: str | None = None, **arguments: Any):
        if env.num_envs != 1:
            raise ValueError(f"SkillEnv takes an env with num_envs=1, this one has {env.num_envs}: SkillVectorEnv does")
        self.rows = SkillVectorEnv(env, policy, hold=hold, **arguments)
        self.observation_space = self.rows.single_observation_space
        self.action_space = self.rows.single_action_space
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": env.metadata.get("render_fps", 30)}
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        obs, info = self.rows.reset(seed=seed)
        return obs[0], {key: value[0] for key, value in info.items()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.rows.step(np.asarray(action)[None])
        done = bool(terminated[0] or truncated[0])
        last = info["final_info"] if done else {}
        infos = {k: v[0] for k, v in info.items() if isinstance(v, np.ndarray) and not k.startswith(("_", "final"))}
        infos |= {key: value[0] for key, value in last.items()}
        seen = info["final_obs"][0] if done else obs[0]
        return seen, float(reward[0]), bool(terminated[0]), bool(truncated[0]), infos

    def render(self) -> Any:
        return self.rows.render_rows([0])[0] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.rows.close()
