"""Humanoid: a torso on two legs, with two arms (Tassa et al. 2012), with Gymnasium's v5 physics and reward."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.physics import Physics, read_model
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, Task, not_negative, span
from envs.vector import BatchedEnv

OBSERVE = ["xy", "joints", "velocities"]
VIEWS = {"xy": ["xy"], "body": ["joints", "velocities"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []
Z_RANGE, COST_RANGE = [1.0, 2.0], [float("-inf"), 10.0]


class HumanoidTask(Task):
    """Gymnasium's v5 reward; an episode ends on falling where `terminate` is set."""

    def __init__(
        self,
        *,
        terminate: bool,
        forward_reward_weight: float,
        ctrl_cost_weight: float,
        contact_cost_weight: float,
        contact_cost_range: Sequence[float],
        healthy_reward: float,
        healthy_z_range: Sequence[float],
        reset_noise_scale: float,
        frame_skip: int,
    ):
        not_negative(reset_noise_scale=reset_noise_scale)
        span(healthy_z_range=healthy_z_range, contact_cost_range=contact_cost_range)
        self.frame_skip = frame_skip
        self.terminate = terminate
        self.forward_reward_weight = forward_reward_weight
        self.ctrl_cost_weight = ctrl_cost_weight
        self.contact_cost_weight = contact_cost_weight
        self.contact_cost_range = contact_cost_range
        self.healthy_reward = healthy_reward
        self.healthy_z_range = healthy_z_range
        self.reset_noise_scale = reset_noise_scale
        self._mass = read_model("humanoid.xml").compile().body_mass.copy()  # (14,)

    def simulator(self, n: int) -> Physics:
        # All but the first two are one physics step behind qpos.
        names = ("qpos", "qvel", "xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
        fields = {name: (name, None) for name in names}
        return Physics(xml="humanoid.xml", frame_skip=self.frame_skip, fields=fields, n=n)

    def parts(self) -> dict[str, Read]:
        return {
            "xy": lambda now: now["qpos"][:, :2],
            "joints": lambda now: now["qpos"][:, 2:],  # height, orientation, seventeen joints
            "velocities": lambda now: now["qvel"],
            # Of each body; the world's own come first, and of the actuators those that the root does not have.
            "inertias": lambda now: _flat(now["cinert"][:, 1:]),
            "body_velocities": lambda now: _flat(now["cvel"][:, 1:]),
            "actuators": lambda now: now["qfrc_actuator"][:, 6:],
            "contacts": lambda now: _flat(now["cfrc_ext"][:, 1:]),
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["qpos"][:, :2]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        scale = self.reset_noise_scale
        return {name: value + generator.uniform(-scale, scale, size=value.shape) for name, value in initial.items()}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        x_velocity = (self._mass_x(now) - self._mass_x(before)) / dt  # (n,)
        # In float64, as Gymnasium takes MuJoCo's copy of the action.
        ctrl_cost = self.ctrl_cost_weight * np.sum(np.square(control.astype(np.float64)), axis=1)
        contact_cost = self.contact_cost_weight * np.sum(np.square(_flat(now["cfrc_ext"])), axis=1)
        low, high = self.contact_cost_range
        gains = self.forward_reward_weight * x_velocity + self._healthy(now) * self.healthy_reward
        return gains - (ctrl_cost + np.clip(contact_cost, low, high))

    def terminated(self, now: Arrays) -> np.ndarray:
        return ~self._healthy(now) & self.terminate

    def picture(self) -> Picture:
        return MujocoPicture("humanoid.xml", Shot(distance=3.0, elevation=-15, azimuth=120, height=0.8, extent=2.5))

    def _mass_x(self, now: Arrays) -> np.ndarray:
        """(n,) x of the centre of mass, row by row: another order of the sum would give other last bits."""
        centres = [np.einsum("b,bj->j", self._mass, row)[0] for row in now["xipos"]]
        return np.array(centres) / self._mass.sum()

    def _healthy(self, now: Arrays) -> np.ndarray:
        low, high = self.healthy_z_range
        return (low < now["qpos"][:, 2]) & (now["qpos"][:, 2] < high)


def _flat(values: np.ndarray) -> np.ndarray:
    """(n, bodies, d) to (n, bodies * d)."""
    return values.reshape(len(values), -1)


def unrewarded(*, reset_noise_scale: float, frame_skip: int) -> HumanoidTask:
    """The body of a task with a reward of its own: falling ends nothing."""
    return HumanoidTask(
        terminate=False,
        forward_reward_weight=0.0,
        ctrl_cost_weight=0.0,
        contact_cost_weight=0.0,
        contact_cost_range=COST_RANGE,
        healthy_reward=0.0,
        healthy_z_range=Z_RANGE,
        reset_noise_scale=reset_noise_scale,
        frame_skip=frame_skip,
    )


class Humanoid(BatchedEnv):
    """Humanoid with x and y in the observation or not.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation (Gymnasium: 1000).
        observe: out of xy (2), joints (22: height, orientation, seventeen joints), velocities (23), inertias (130),
            body_velocities (78), actuators (17), contacts (78). Gymnasium's has all but xy.
        terminate: whether an unhealthy body ends the episode. Gymnasium ends it; work on skills (METRA) does not.
        forward_reward_weight: Gymnasium v5's.
        ctrl_cost_weight: Gymnasium v5's.
        contact_cost_weight: Gymnasium v5's.
        contact_cost_range: what the cost of contacts is clipped to, Gymnasium v5's.
        healthy_reward: a step's reward while healthy, Gymnasium v5's.
        healthy_z_range: heights that count as healthy, Gymnasium v5's.
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
        forward_reward_weight: float = 1.25,
        ctrl_cost_weight: float = 0.1,
        contact_cost_weight: float = 5e-7,
        contact_cost_range: Sequence[float] = COST_RANGE,
        healthy_reward: float = 5.0,
        healthy_z_range: Sequence[float] = Z_RANGE,
        reset_noise_scale: float = 1e-2,
        frame_skip: int = 5,
    ):
        task = HumanoidTask(
            terminate=terminate,
            forward_reward_weight=forward_reward_weight,
            ctrl_cost_weight=ctrl_cost_weight,
            contact_cost_weight=contact_cost_weight,
            contact_cost_range=contact_cost_range,
            healthy_reward=healthy_reward,
            healthy_z_range=healthy_z_range,
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
