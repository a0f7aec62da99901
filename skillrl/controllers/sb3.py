"""Stable-Baselines3 chooses skills: any of its algorithms, by name, as a guest of the run.

It runs its own loop over decisions and the run lends it what it has: metrics, checkpoints, budgets in env steps. With
``learner=primitive`` and ``hold=1`` it is Stable-Baselines3 on the env itself, the flat baseline.
"""

import copy
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from inspect import signature
from numbers import Real
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr
from torch import Generator, Tensor

from skillrl.composition.sb3_vec_env import SB3VecEnv
from skillrl.composition.skill_env import SkillVectorEnv, action_space
from skillrl.controllers.base import Controller
from skillrl.selector import Selector
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Carry, Selection, Spec

OURS = {
    "env": "task",
    "gamma": "controller.gamma, per env step",
    "seed": "seed",
    "device": "runtime.device",
    "verbose": "logger",
    "tensorboard_log": "logger",
}
"""Arguments of every algorithm that the run gives, and where it has them from."""

log = logging.getLogger(__name__)


class SB3(Controller):
    """An algorithm of Stable-Baselines3 chooses z every ``hold`` env steps; a step of its is a decision.

    It is told γ^hold. What it cannot do: discount a decision that ends early by γ^k (see ``SB3VecEnv``). An on-policy
    one (PPO) learns from whole rollouts alone: what the budget's end cuts off is not learnt from.

    Args:
        skills: frozen.
        algorithm: a class of Stable-Baselines3, such as PPO, SAC, DQN, TD3; or another one's dotted path.
        kwargs: its constructor's; counts in them (``n_steps``, ``learning_starts``, ``buffer_size``) are decisions.
            ``policy`` is MlpPolicy if not given; a number as ``action_noise`` is the standard deviation of Gaussian
            noise, without which TD3 explores only until ``learning_starts``.
        gamma: discount per env step.
    """

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        algorithm: str = "PPO",
        hold: int = 10,
        gamma: float = 0.99,
        kwargs: Mapping[str, Any] = MappingProxyType({}),
    ):
        super().__init__(spec, skills, hold=hold)
        if not 0 < gamma <= 1:
            raise ValueError(f"controller.gamma is {gamma!r}: it must lie above 0 and at most at 1")
        self.gamma = gamma
        self.algorithm, self.kwargs = find(algorithm), dict(kwargs)
        check_arguments(self.algorithm, self.kwargs)
        self.luggage = Luggage(self)
        with warnings.catch_warnings(action="ignore"):  # of sizes that are not those of the training
            self._adopt(self._build(self._spaces(1)))
        if self.model.predict(np.zeros((1, *spec.obs.shape), spec.obs.dtype), deterministic=True)[1] is not None:
            raise ValueError(f"controller.algorithm is {algorithm}, which is recurrent: no state is kept for it here")

    def prior(self) -> Selector:
        return Choosing(self)

    # ---- the guest (training.Guest)

    def rehearse(self, num_envs: int, env_steps: int) -> None:
        """Errors: ValueError where the algorithm refuses so many rows, or would not end one rollout."""
        model = self._build(self._spaces(num_envs))
        if isinstance(model, OnPolicyAlgorithm):
            rollout = model.n_steps * num_envs * self.hold
            if 0 < env_steps < rollout:
                raise ValueError(
                    f"controller.kwargs.n_steps is {model.n_steps}: a rollout of it takes {rollout} env steps "
                    f"({num_envs} envs, hold {self.hold}), and downstream.env_steps is {env_steps}: "
                    f"it would learn nothing. Take +controller.kwargs.n_steps={env_steps // (num_envs * self.hold)} "
                    "or less"
                )

    def learn(self, state: Any, hooks: Iterable[Callable[[Any], Any]], *, stop: Callable[[], bool]) -> None:
        """Until the budget of env steps is spent; see ``training.Guest``."""
        collector = state.collector
        env = SB3VecEnv(SkillVectorEnv.around(collector, hold=self.hold))
        self._adopt(self._build(env, seed=int(torch.randint(2**31, ())), device=collector.device))
        self.luggage.unpack()
        model, rounds = self.model, Rounds(state, list(hooks), stop)
        model.set_logger(Logger(None, []))
        while not (state.finished() or stop()):
            # so that it does not reset the env: the collector stands where it should
            model._last_obs = collector.obs.cpu().numpy().copy()
            model._last_episode_starts = collector.first.cpu().numpy()
            decisions = math.ceil((state.schedule.total - state.env_steps) / self.hold)
            model.learn(decisions, rounds, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]

    def export(self, folder: Path) -> None:
        """``sb3.zip``, for its own ``load``."""
        self.model.save(folder / "sb3.zip")

    # ---- the algorithm

    def _build(self, env: SB3VecEnv, *, seed: int | None = None, device: torch.device | str = "cpu") -> BaseAlgorithm:
        given = copy.deepcopy(self.kwargs)  # algorithms write into what they are given
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        if isinstance(given.get("action_noise"), Real):
            shape = env.action_space.shape or ()
            given["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, float(given["action_noise"])))
        given = {"policy": "MlpPolicy", **given, "env": env, "gamma": self.gamma**self.hold}
        name = self.algorithm.__name__
        try:
            return self.algorithm(**given, seed=seed, device=device)
        except AssertionError as error:  # that is how it checks what it is given
            if "action spaces" not in str(error):
                raise ValueError(f"controller.kwargs of {name}: {error}") from error
            kind = "a box" if self.skills.space.count is None else "discrete"
            raise ValueError(
                f"controller.algorithm is {name}, which cannot choose among these skills: their choice is {kind}, "
                f"for which there are {'PPO, SAC and TD3' if kind == 'a box' else 'PPO and DQN'}"
            ) from error

    def _adopt(self, model: BaseAlgorithm) -> None:
        self.model = model
        self.net = model.policy  # a module: what is saved and moved with the controller

    def _spaces(self, num_envs: int) -> SB3VecEnv:
        """An env that is only looked at."""
        obs = self.spec.obs
        seen = gym.spaces.Box(-np.inf, np.inf, obs.shape, np.dtype(obs.dtype).type)
        return SB3VecEnv(
            SimpleNamespace(
                num_envs=num_envs,
                single_observation_space=seen,
                single_action_space=action_space(self.skills.space),
                metadata={"autoreset_mode": AutoresetMode.SAME_STEP},
                render_mode=None,
            )
        )


class Choosing(Selector):
    """The trained algorithm's side of the option loop."""

    def __init__(self, controller: SB3):
        self.controller, self.hold = controller, controller.hold

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        choice, _ = self.controller.model.predict(obs.cpu().numpy(), deterministic=deterministic)
        return Selection(self.controller.skills.space.project(torch.as_tensor(choice, device=obs.device)))


class Rounds(BaseCallback):
    """Brings State up to date and calls the hooks, between two rollouts, when the first has been learnt from."""

    def __init__(self, state: Any, hooks: list[Callable[[Any], Any]], stop: Callable[[], bool]):
        super().__init__()
        self.state, self.hooks, self.stop = state, hooks, stop
        self.begun = state.env_steps
        self.mark: dict[str, Any] | None = None

    def _on_rollout_start(self) -> None:
        self._close()
        if isinstance(self.model, OnPolicyAlgorithm):  # a long rollout, which nobody waits for when the run is stopped
            self.mark = copy.deepcopy(self.state.collector.state_dict())
            self.decisions = self.model.num_timesteps

    def _on_step(self) -> bool:
        self.state.env_steps += int(sum(info["duration"] for info in self.locals["infos"]))
        if self.mark is not None and self.stop():
            self.state.collector.load_state_dict(self.mark)
            self.state.env_steps, self.model.num_timesteps = self.begun, self.decisions
            return False
        return not self.state.finished()

    def _on_training_end(self) -> None:
        self._close()

    def _close(self) -> None:
        if self.state.env_steps == self.begun:
            return
        self.begun = self.state.env_steps
        told = self.logger.name_to_value
        self.state.metrics = {f"sb3/{key}": float(value) for key, value in told.items() if isinstance(value, Real)}
        told.clear()
        self.logger.name_to_count.clear()
        self.state.grad_steps = int(getattr(self.model, "_n_updates", 0))
        self.state.episodes = self.state.collector.drain()
        for hook in self.hooks:
            hook(self.state)


class Luggage:
    """What a checkpoint needs to go on with an algorithm: its zip, its counters, its replay buffer.

    Of the zip only tensors are read again, and the rest are numbers: no pickle is ever loaded.
    """

    def __init__(self, controller: SB3):
        self.controller = controller
        self.packed: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        model, file = self.controller.model, io.BytesIO()
        model.save(file)
        buffer = vars(model).get("replay_buffer")
        return {
            "zip": torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8),
            "counters": {key: value for key, value in vars(model).items() if type(value) in (int, float, bool)},
            "replay": {} if buffer is None else {
                "pos": buffer.pos,
                "full": buffer.full,
                "arrays": {key: torch.from_numpy(value[: buffer.size()]) for key, value in _arrays(buffer).items()},
            },
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Kept until the algorithm has its env."""
        self.packed = state

    def unpack(self) -> None:
        """Into the algorithm, if there is anything."""
        if self.packed is None:
            return
        model, packed, self.packed = self.controller.model, self.packed, None
        file = io.BytesIO(packed["zip"].cpu().numpy().tobytes())
        _, tensors, others = load_from_zip_file(file, load_data=False, device=model.device)
        model.set_parameters(tensors, device=model.device)
        for name, value in (others or {}).items():
            if value is not None:
                recursive_setattr(model, f"{name}.data", value.data)
        vars(model).update(packed["counters"])
        if packed["replay"]:
            buffer = model.replay_buffer  # type: ignore[attr-defined]
            buffer.pos, buffer.full = packed["replay"]["pos"], packed["replay"]["full"]
            for key, value in packed["replay"]["arrays"].items():
                _arrays(buffer)[key][: len(value)] = value.cpu().numpy()
        name = type(model).__name__
        log.warning("Stable-Baselines3's %s goes on from its last finished rollout, not bit for bit", name)


def _arrays(buffer: Any) -> dict[str, np.ndarray]:
    """What a replay buffer has of each decision."""
    return {
        key: value
        for key, value in vars(buffer).items()
        if isinstance(value, np.ndarray) and value.shape[:1] == (buffer.buffer_size,)
    }


def find(name: str) -> type[BaseAlgorithm]:
    """The algorithm of that name, or dotted path. Errors: ValueError where there is none."""
    known = {key: value for key, value in vars(stable_baselines3).items() if _is_algorithm(value)}
    module, _, last = name.rpartition(".")
    try:
        found = getattr(import_module(module), last) if module else known[name]
    except (ImportError, AttributeError, KeyError) as error:
        reason = f" ({error})" if module else ""
        raise ValueError(
            f"controller.algorithm is {name!r}, which does not exist{reason}: "
            f"Stable-Baselines3 has {', '.join(sorted(known))}, and another one is named by its dotted path"
        ) from error
    if not _is_algorithm(found):
        raise ValueError(f"controller.algorithm is {name!r}: that is no algorithm of Stable-Baselines3's kind")
    return found


def _is_algorithm(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseAlgorithm)


def check_arguments(algorithm: type[BaseAlgorithm], kwargs: Mapping[str, Any]) -> None:
    """Errors: ValueError naming what the run gives itself, or what the algorithm does not take."""
    known = [key for key in signature(algorithm).parameters if key not in OURS and not key.startswith("_")]
    for key in kwargs:
        if key in OURS:
            raise ValueError(f"controller.kwargs.{key} is given by the run itself: set {OURS[key]}")
        if key not in known:
            raise ValueError(
                f"controller.kwargs.{key} is no argument of {algorithm.__name__}: it has {', '.join(sorted(known))}"
            )
