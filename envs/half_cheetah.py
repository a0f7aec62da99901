"""HalfCheetah: a planar body with two legs (Wawrzyński 2009), with Gymnasium's v5 physics and reward."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.physics import Physics
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, Task, along_x, not_negative
from envs.vector import BatchedEnv

OBSERVE = ["x", "joints", "velocities"]
VIEWS = {"xy": ["x"], "body": ["joints", "velocities"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []


class HalfCheetahTask(Task):
    """Gymnasium's v5 reward; it never ends early."""

    def __init__(
        self, *, forward_reward_weight: float, ctrl_cost_weight: float, reset_noise_scale: float, frame_skip: int
    ):
        not_negative(reset_noise_scale=reset_noise_scale)
        self.frame_skip = frame_skip
        self.forward_reward_weight = forward_reward_weight
        self.ctrl_cost_weight = ctrl_cost_weight
        self.reset_noise_scale = reset_noise_scale

    def simulator(self, n: int) -> Physics:
        fields = {"qpos": ("qpos", None), "qvel": ("qvel", None)}
        return Physics(xml="half_cheetah.xml", frame_skip=self.frame_skip, fields=fields, n=n)

    def parts(self) -> dict[str, Read]:
        return {
            "x": lambda now: now["qpos"][:, :1],
            "joints": lambda now: now["qpos"][:, 1:],  # height, pitch, six joints
            "velocities": lambda now: now["qvel"],
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": along_x}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        scale, qpos, qvel = self.reset_noise_scale, initial["qpos"], initial["qvel"]
        return {
            "qpos": qpos + generator.uniform(-scale, scale, size=qpos.shape),
            "qvel": qvel + scale * generator.standard_normal(qvel.shape),
        }

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        x_velocity = (now["qpos"][:, 0] - before["qpos"][:, 0]) / dt  # (n,)
        # In float32, as Gymnasium sums the squares of a float32 action.
        ctrl_cost = self.ctrl_cost_weight * np.add.reduce(np.square(control), axis=1)
        return self.forward_reward_weight * x_velocity - ctrl_cost

    def picture(self) -> Picture:
        return MujocoPicture("half_cheetah.xml", Shot(distance=2.9, elevation=-12, height=0.5, extent=3.0))


def unrewarded(*, reset_noise_scale: float, frame_skip: int) -> HalfCheetahTask:
    """The body of a task with a reward of its own."""
    return HalfCheetahTask(
        forward_reward_weight=0.0, ctrl_cost_weight=0.0, reset_noise_scale=reset_noise_scale, frame_skip=frame_skip
    )


class HalfCheetah(BatchedEnv):
    """HalfCheetah with x in the observation or not. `info["xy"]` is (x, 0).

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation (Gymnasium: 1000).
        observe: out of x (1), joints (8: height, pitch and six joints), velocities (9).
        forward_reward_weight: Gymnasium v5's.
        ctrl_cost_weight: Gymnasium v5's.
        reset_noise_scale: Gymnasium v5's.
        frame_skip: physics steps in one env step. Gymnasium v5's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 200,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = VIEWS,
        coverage: Mapping[str, Any] = COVERAGE,
        record: Sequence[str] = RECORD,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 0.1,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        task = HalfCheetahTask(
            forward_reward_weight=forward_reward_weight,
            ctrl_cost_weight=ctrl_cost_weight,
            reset_noise_scale=reset_noise_scale,
            frame_skip=frame_skip,
        )
        super().__init__(
            task,
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
