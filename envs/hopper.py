"""Hopper: a planar body with one leg (Erez et al. 2011), with Gymnasium's v5 physics and reward."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.physics import Physics
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, Task, along_x, not_negative, span
from envs.vector import BatchedEnv

OBSERVE = ["x", "joints", "velocities"]
VIEWS = {"xy": ["x"], "body": ["joints", "velocities"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []
STATE_RANGE, Z_RANGE, ANGLE_RANGE = [-100.0, 100.0], [0.7, float("inf")], [-0.2, 0.2]


class HopperTask(Task):
    """Gymnasium's v5 reward; an episode ends on falling where `terminate` is set."""

    def __init__(
        self,
        *,
        terminate: bool,
        forward_reward_weight: float,
        ctrl_cost_weight: float,
        healthy_reward: float,
        healthy_state_range: Sequence[float],
        healthy_z_range: Sequence[float],
        healthy_angle_range: Sequence[float],
        reset_noise_scale: float,
        frame_skip: int,
    ):
        not_negative(reset_noise_scale=reset_noise_scale)
        self.frame_skip = frame_skip
        span(
            healthy_state_range=healthy_state_range,
            healthy_z_range=healthy_z_range,
            healthy_angle_range=healthy_angle_range,
        )
        self.terminate = terminate
        self.forward_reward_weight = forward_reward_weight
        self.ctrl_cost_weight = ctrl_cost_weight
        self.healthy_reward = healthy_reward
        self.healthy_state_range = healthy_state_range
        self.healthy_z_range = healthy_z_range
        self.healthy_angle_range = healthy_angle_range
        self.reset_noise_scale = reset_noise_scale

    def simulator(self, n: int) -> Physics:
        return Physics(
            xml="hopper.xml", frame_skip=self.frame_skip, fields={"qpos": ("qpos", None), "qvel": ("qvel", None)}, n=n
        )

    def parts(self) -> dict[str, Read]:
        return {
            "x": lambda now: now["qpos"][:, :1],
            "joints": lambda now: now["qpos"][:, 1:],  # height, pitch, three joints
            "velocities": lambda now: np.clip(now["qvel"], -10, 10),
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": along_x}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        scale = self.reset_noise_scale
        return {name: value + generator.uniform(-scale, scale, size=value.shape) for name, value in initial.items()}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        x_velocity = (now["qpos"][:, 0] - before["qpos"][:, 0]) / dt  # (n,)
        # In float32, as Gymnasium sums the squares of a float32 action.
        ctrl_cost = self.ctrl_cost_weight * np.sum(np.square(control), axis=1)
        return self.forward_reward_weight * x_velocity + self._healthy(now) * self.healthy_reward - ctrl_cost

    def terminated(self, now: Arrays) -> np.ndarray:
        return ~self._healthy(now) & self.terminate

    def picture(self) -> Picture:
        return MujocoPicture("hopper.xml", Shot(distance=2.6, elevation=-10, height=0.75, extent=2.0))

    def _healthy(self, now: Arrays) -> np.ndarray:
        state = np.concatenate([now["qpos"][:, 2:], now["qvel"]], axis=1)
        return (
            _within(state, self.healthy_state_range).all(axis=1)
            & _within(now["qpos"][:, 1], self.healthy_z_range)
            & _within(now["qpos"][:, 2], self.healthy_angle_range)
        )


def _within(values: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    return (limits[0] < values) & (values < limits[1])


class Hopper(BatchedEnv):
    """Hopper with x in the observation or not. `info["xy"]` is (x, 0).

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation (Gymnasium: 1000).
        observe: out of x (1), joints (5: height, pitch and three joints), velocities (6, clipped to +-10).
        terminate: whether an unhealthy body ends the episode.
        forward_reward_weight: Gymnasium v5's.
        ctrl_cost_weight: Gymnasium v5's.
        healthy_reward: a step's reward while healthy, Gymnasium v5's.
        healthy_state_range: what all but x and height must be within to be healthy, Gymnasium v5's.
        healthy_z_range: the same for the height.
        healthy_angle_range: the same for the pitch.
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
        terminate: bool = True,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 1e-3,
        healthy_reward: float = 1.0,
        healthy_state_range: Sequence[float] = STATE_RANGE,
        healthy_z_range: Sequence[float] = Z_RANGE,
        healthy_angle_range: Sequence[float] = ANGLE_RANGE,
        reset_noise_scale: float = 5e-3,
        frame_skip: int = 4,
    ):
        task = HopperTask(
            terminate=terminate,
            forward_reward_weight=forward_reward_weight,
            ctrl_cost_weight=ctrl_cost_weight,
            healthy_reward=healthy_reward,
            healthy_state_range=healthy_state_range,
            healthy_z_range=healthy_z_range,
            healthy_angle_range=healthy_angle_range,
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
