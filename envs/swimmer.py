"""Swimmer: three links in a viscous fluid (Coulom 2002), with Gymnasium's v5 physics and reward.

Its ``xy`` is the centre of mass. Gymnasium's position is that of the front link (``front`` here), which moves by
folding: in 200 steps of an untrained network by 0.2 to 0.6, and the centre of mass by 0.04 (3 initialisations,
reset_noise_scale 0.01).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.physics import Physics
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, Task, not_negative
from envs.vector import BatchedEnv

OBSERVE = ["xy", "joints", "velocities"]
VIEWS = {"xy": ["xy"], "body": ["joints", "velocities"]}
COVERAGE = {"key": "xy", "cell": 0.25}  # the body is 3 long, and slow
RECORD: list[str] = []
_TORSO = 1  # the root: its subtree is all of the body


class SwimmerTask(Task):
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
        # The centre of mass is one physics step behind qpos.
        fields = {"qpos": ("qpos", None), "qvel": ("qvel", None), "mass": ("subtree_com", _TORSO)}
        return Physics(xml="swimmer.xml", frame_skip=self.frame_skip, fields=fields, n=n)

    def parts(self) -> dict[str, Read]:
        return {
            "xy": lambda now: now["mass"][:, :2],
            "front": lambda now: now["qpos"][:, :2],
            "joints": lambda now: now["qpos"][:, 2:],  # heading, two joints
            "velocities": lambda now: now["qvel"],
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["mass"][:, :2]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        scale = self.reset_noise_scale
        return {name: value + generator.uniform(-scale, scale, size=value.shape) for name, value in initial.items()}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        x_velocity = (now["qpos"][:, 0] - before["qpos"][:, 0]) / dt  # (n,)
        # In float32, as Gymnasium sums the squares of a float32 action.
        ctrl_cost = self.ctrl_cost_weight * np.sum(np.square(control), axis=1)
        return self.forward_reward_weight * x_velocity - ctrl_cost

    def picture(self) -> Picture:
        return MujocoPicture("swimmer.xml", Shot(distance=5.5, elevation=-55))


class Swimmer(BatchedEnv):
    """Swimmer with x and y in the observation or not.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation (Gymnasium: 1000).
        observe: out of xy (2), front (2), joints (3: heading and two joints), velocities (5).
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
        ctrl_cost_weight: float = 1e-4,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 4,
    ):
        task = SwimmerTask(
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
