"""Ant: a torso on four legs (Schulman et al. 2016), with Gymnasium's v5 physics and reward."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.physics import Block, Physics
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, Task, not_negative, span
from envs.vector import BatchedEnv

OBSERVE = ["xy", "joints", "velocities"]
VIEWS = {"xy": ["xy"], "body": ["joints", "velocities"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []
Z_RANGE, FORCE_RANGE = [0.2, 1.0], [-1.0, 1.0]
_TORSO = 1


class AntTask(Task):
    """Gymnasium's v5 reward; an episode ends on falling where `terminate` is set. `blocks` are walls."""

    def __init__(
        self,
        *,
        terminate: bool,
        forward_reward_weight: float,
        ctrl_cost_weight: float,
        contact_cost_weight: float,
        healthy_reward: float,
        healthy_z_range: Sequence[float],
        contact_force_range: Sequence[float],
        reset_noise_scale: float,
        frame_skip: int,
        blocks: Sequence[Block] = (),
    ):
        not_negative(reset_noise_scale=reset_noise_scale)
        self.frame_skip = frame_skip
        span(healthy_z_range=healthy_z_range, contact_force_range=contact_force_range)
        self.terminate = terminate
        self.forward_reward_weight = forward_reward_weight
        self.ctrl_cost_weight = ctrl_cost_weight
        self.contact_cost_weight = contact_cost_weight
        self.healthy_reward = healthy_reward
        self.healthy_z_range = healthy_z_range
        self.contact_force_range = contact_force_range
        self.reset_noise_scale = reset_noise_scale
        self.blocks = blocks

    def simulator(self, n: int) -> Physics:
        fields = {
            "qpos": ("qpos", None),
            "qvel": ("qvel", None),
            # One physics step behind qpos, and what Gymnasium takes the velocity from.
            "torso": ("xpos", _TORSO),
            "cfrc_ext": ("cfrc_ext", None),
        }
        return Physics(xml="ant.xml", frame_skip=self.frame_skip, fields=fields, n=n, blocks=self.blocks)

    def parts(self) -> dict[str, Read]:
        return {
            "xy": lambda now: now["qpos"][:, :2],
            "joints": lambda now: now["qpos"][:, 2:],  # height, orientation, eight joints
            "velocities": lambda now: now["qvel"],
            "contacts": lambda now: self._contacts(now)[:, 6:],  # the world's own come first
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["qpos"][:, :2]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        scale, qpos, qvel = self.reset_noise_scale, initial["qpos"], initial["qvel"]
        return {
            "qpos": qpos + generator.uniform(-scale, scale, size=qpos.shape),
            "qvel": qvel + scale * generator.standard_normal(qvel.shape),
        }

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        x_velocity = (now["torso"][:, 0] - before["torso"][:, 0]) / dt  # (n,)
        # The first in float32, as Gymnasium sums the squares of a float32 action.
        ctrl_cost = self.ctrl_cost_weight * np.sum(np.square(control), axis=1)
        contact_cost = self.contact_cost_weight * np.sum(np.square(self._contacts(now)), axis=1)
        gains = x_velocity * self.forward_reward_weight + self._healthy(now) * self.healthy_reward
        return gains - (ctrl_cost + contact_cost)

    def terminated(self, now: Arrays) -> np.ndarray:
        return ~self._healthy(now) & self.terminate

    def picture(self) -> Picture:
        return MujocoPicture("ant.xml", Shot(distance=4.0, elevation=-30, height=0.4, extent=5.0), self.blocks)

    def _contacts(self, now: Arrays) -> np.ndarray:
        """External forces on each body, clipped. (n, 14 * 6)"""
        low, high = self.contact_force_range
        return np.clip(now["cfrc_ext"], low, high).reshape(len(now["cfrc_ext"]), -1)

    def _healthy(self, now: Arrays) -> np.ndarray:
        low, high = self.healthy_z_range
        z = now["qpos"][:, 2]
        finite = np.isfinite(now["qpos"]).all(axis=1) & np.isfinite(now["qvel"]).all(axis=1)
        return finite & (low <= z) & (z <= high)


def unrewarded(*, reset_noise_scale: float, frame_skip: int, blocks: Sequence[Block] = ()) -> AntTask:
    """The body of a task with a reward of its own: falling ends nothing."""
    return AntTask(
        terminate=False,
        forward_reward_weight=0.0,
        ctrl_cost_weight=0.0,
        contact_cost_weight=0.0,
        healthy_reward=0.0,
        healthy_z_range=Z_RANGE,
        contact_force_range=FORCE_RANGE,
        reset_noise_scale=reset_noise_scale,
        frame_skip=frame_skip,
        blocks=blocks,
    )


class Ant(BatchedEnv):
    """Ant with x and y in the observation or not.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation (Gymnasium: 1000).
        observe: out of xy (2), joints (13: height, orientation, eight joints), velocities (14), contacts (78).
        terminate: whether an unhealthy body ends the episode. Gymnasium ends it; work on skills (METRA) does not.
        forward_reward_weight: Gymnasium v5's.
        ctrl_cost_weight: Gymnasium v5's.
        contact_cost_weight: Gymnasium v5's.
        healthy_reward: a step's reward while healthy, Gymnasium v5's.
        healthy_z_range: heights that count as healthy, Gymnasium v5's.
        contact_force_range: what contact forces are clipped to, Gymnasium v5's.
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
        terminate: bool = False,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 0.5,
        contact_cost_weight: float = 5e-4,
        healthy_reward: float = 1.0,
        healthy_z_range: Sequence[float] = Z_RANGE,
        contact_force_range: Sequence[float] = FORCE_RANGE,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        task = AntTask(
            terminate=terminate,
            forward_reward_weight=forward_reward_weight,
            ctrl_cost_weight=ctrl_cost_weight,
            contact_cost_weight=contact_cost_weight,
            healthy_reward=healthy_reward,
            healthy_z_range=healthy_z_range,
            contact_force_range=contact_force_range,
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
