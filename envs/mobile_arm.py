"""A mobile arm in the plane, of our own: a base that drives in any direction and turns, and an arm of three links.

Each action is a speed: of the base ahead and to its left, of its turn, of the shoulder, the elbow and the wrist. All
but ``xy`` and ``heading`` is seen from the base, so that what is learnt at one place is known at every other.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.physics import Block, Physics
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, Task, not_negative
from envs.vector import BatchedEnv

MODEL = str(Path(__file__).parent / "assets" / "mobile_arm.xml")
OBSERVE = ["xy", "heading", "joints", "hand", "velocities"]
VIEWS = {"xy": ["xy"], "body": ["joints", "hand", "velocities"]}
COVERAGE = {"key": "xy", "cell": 0.5}
RECORD: list[str] = []
LENGTH = 0.7  # from the shoulder, in the base's middle, to the hand of the outstretched arm
_HAND = 1  # the hand's site, after the base's


class MobileArmTask(Task):
    """No reward, no end but the horizon. An episode starts at the origin, with the arm folded, facing anywhere.

    Args:
        reset_noise_scale: of the start's place (metres) and joints (radians), at most.
        frame_skip: physics steps of 0.025 s in one env step.
        blocks: walls, which stop the base and not the arm above them.
    """

    def __init__(self, *, reset_noise_scale: float, frame_skip: int, blocks: Sequence[Block] = ()):
        not_negative(reset_noise_scale=reset_noise_scale)
        self.reset_noise_scale, self.frame_skip, self.blocks = reset_noise_scale, frame_skip, tuple(blocks)

    def simulator(self, n: int) -> Physics:
        # The hand's place is one physics step behind qpos.
        fields = {"qpos": ("qpos", None), "qvel": ("qvel", None), "hand": ("site_xpos", _HAND)}
        return Physics(xml=MODEL, frame_skip=self.frame_skip, fields=fields, n=n, blocks=self.blocks)

    def parts(self) -> dict[str, Read]:
        return {
            "xy": lambda now: now["qpos"][:, :2],
            "heading": heading,
            "joints": lambda now: now["qpos"][:, 3:],  # shoulder, elbow, wrist: 0 is folded
            "hand": lambda now: seen_from_base(now, now["hand"][:, :2]),
            "velocities": lambda now: np.concatenate([turned(now, now["qvel"][:, :2]), now["qvel"][:, 2:]], axis=1),
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["qpos"][:, :2]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        scale = self.reset_noise_scale
        qpos = initial["qpos"] + generator.uniform(-scale, scale, size=initial["qpos"].shape)
        qpos[2] = generator.uniform(-np.pi, np.pi)
        return {"qpos": qpos, "qvel": initial["qvel"]}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return np.zeros(len(control))

    def picture(self) -> Picture:
        shot = Shot(distance=2.0, elevation=-40, height=0.2, extent=1.0, tile=0.5)
        return MujocoPicture(MODEL, shot, self.blocks)


def heading(now: Arrays) -> np.ndarray:
    """(n, 2): the unit vector that the base faces."""
    yaw = now["qpos"][:, 2]
    return np.stack([np.cos(yaw), np.sin(yaw)], axis=1)


def turned(now: Arrays, vector: np.ndarray) -> np.ndarray:
    """(n, 2) in the world's axes to (n, 2) ahead and to the left of the base."""
    cos, sin = heading(now).T
    x, y = vector[:, 0], vector[:, 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)


def seen_from_base(now: Arrays, place: np.ndarray) -> np.ndarray:
    """(n, 2), a place in the world, to (n, 2): how far ahead and to the left of the base's middle it lies."""
    return turned(now, place - now["qpos"][:, :2])


class MobileArm(BatchedEnv):
    """The body alone, without reward.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of xy (2), heading (2), joints (3), hand (2, from the base), velocities (6: of the base ahead and
            to the left, of its turn, of the joints).
        reset_noise_scale: of the start's place and joints, at most.
        frame_skip: physics steps of 0.025 s in one env step.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 100,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = VIEWS,
        coverage: Mapping[str, Any] = COVERAGE,
        record: Sequence[str] = RECORD,
        reset_noise_scale: float = 0.05,
        frame_skip: int = 2,
    ):
        super().__init__(
            MobileArmTask(reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
