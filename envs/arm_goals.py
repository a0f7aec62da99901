"""Goals of the mobile arm: two primitive tasks, to drive there and to reach there, and one that needs both.

After SkillBlender (Kuang et al. 2025, arXiv:2506.09366), whose humanoid walks and reaches before it reaches far: a
primitive is paid densely for its own goal and for keeping the rest of the body still. A goal is drawn in each episode,
stays where it is in the world and is seen from the base.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from envs import mobile_arm
from envs.goal import inside
from envs.memory import Arrays
from envs.mobile_arm import LENGTH, MobileArmTask, seen_from_base
from envs.physics import Block
from envs.task import Area, Picture, Read, not_negative, positive, span
from envs.vector import BatchedEnv

OBSERVE = [*mobile_arm.OBSERVE, "goal"]
# what skills see that are used elsewhere: nothing of where in the world the base is
FROM_BASE = ["joints", "hand", "velocities", "goal"]
BASE_RADIUS = 0.22  # of the model
FASTEST = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])  # of the model, a second
WALL, WALL_HEIGHT = 0.04, 0.1  # thickness and height, in metres


class ArmGoalTask(MobileArmTask):
    """The goal's part and success; subclasses say what shall be in the goal, and what a step pays.

    Args:
        radius: of the goal's disc. area: that a picture shows. rest: the body's.
    """

    own = MappingProxyType({"goal": (2,)})

    def __init__(self, *, radius: float, area: Area, **rest: Any):
        positive(radius=radius)
        super().__init__(**rest)
        self.radius, self.area = radius, area
        self.facts = {"goal_radius": float(radius)}

    def place(self, now: Arrays) -> np.ndarray:
        """(n, 2): what shall be in the goal."""
        return now["hand"][:, :2]

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """(2,)"""
        raise NotImplementedError

    def parts(self) -> dict[str, Read]:
        return {**super().parts(), "goal": lambda now: seen_from_base(now, now["goal"])}

    def infos(self) -> dict[str, Read]:
        return {**super().infos(), "success": lambda now: inside(self.place(now), now["goal"], self.radius)}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {**super().start(generator, initial), "goal": self.draw(generator)}

    def distance(self, now: Arrays) -> np.ndarray:
        """(n,), in metres."""
        offset = self.place(now) - now["goal"]
        return np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2)

    def picture(self) -> Picture:
        picture = super().picture()
        picture.show_goal(self.radius, self.area)
        return picture


class DriveTask(ArmGoalTask):
    """Pays −(metres from the base to the goal) − fold · (mean of the joints' distance from the folded arm, radians)
    − effort · (mean of the squared actions)."""

    def __init__(self, *, goal_range: float, fold: float, effort: float, radius: float, **rest: Any):
        positive(goal_range=goal_range)
        not_negative(fold=fold, effort=effort)
        reach = goal_range + radius
        super().__init__(radius=radius, area=(-reach, reach, -reach, reach), **rest)
        self.goal_range, self.fold, self.effort = goal_range, fold, effort

    def place(self, now: Arrays) -> np.ndarray:
        return now["qpos"][:, :2]

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        return in_ring(generator, 0.0, self.goal_range)

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        folded = np.abs(now["qpos"][:, 3:]).mean(axis=1)
        return -self.distance(now) - self.fold * folded - self.effort * spent(control)


class ReachTask(ArmGoalTask):
    """Pays −(metres from the hand to the goal) − still · (the base's speed in metres a second) − effort · (mean of the
    squared actions)."""

    def __init__(self, *, goal_range: Sequence[float], still: float, effort: float, radius: float, **rest: Any):
        span(goal_range=goal_range)
        not_negative(still=still, effort=effort)
        low, high = goal_range
        if low < 0 or high > LENGTH:
            raise ValueError(f"goal_range={list(goal_range)!r}: must be within [0, {LENGTH}], the arm's length")
        super().__init__(radius=radius, area=(-LENGTH, LENGTH, -LENGTH, LENGTH), **rest)
        self.goal_range, self.still, self.effort = (float(low), float(high)), still, effort

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        return in_ring(generator, *self.goal_range)

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        speed = np.sqrt(now["qvel"][:, 0] ** 2 + now["qvel"][:, 1] ** 2)
        return -self.distance(now) - self.still * speed - self.effort * spent(control)


class FarReachTask(ArmGoalTask):
    """Goals outside a square of low walls, which stop the base and which the arm reaches over.

    Pays −(metres from the hand to the goal), and 1 more inside it.
    """

    def __init__(self, *, room: float, beyond: Sequence[float], radius: float, **rest: Any):
        positive(room=room)
        span(beyond=beyond)
        low, high = beyond
        if not radius <= low or high + WALL + BASE_RADIUS > LENGTH:
            most = LENGTH - WALL - BASE_RADIUS
            raise ValueError(f"beyond={list(beyond)!r}: must be within [{radius}, {most:.2f}], or no arm can reach")
        reach = room + WALL + high + radius
        super().__init__(radius=radius, area=(-reach, reach, -reach, reach), blocks=walls(room), **rest)
        self.room, self.beyond = float(room), (float(low), float(high))

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Beyond one of the four walls, where the base can stand opposite."""
        out = self.room + WALL + generator.uniform(*self.beyond)
        along = generator.uniform(-1, 1) * max(self.room - BASE_RADIUS, 0.0)
        turns = generator.integers(4)
        quarter = np.array([[0, -1], [1, 0]])
        return np.linalg.matrix_power(quarter, int(turns)) @ np.array([out, along])

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        distance = self.distance(now)
        return -distance + (distance <= self.radius)


def spent(control: np.ndarray) -> np.ndarray:
    """(n,): the mean of the squared speeds that were asked for, each as a part of its greatest."""
    return np.square(control / FASTEST).mean(axis=1)


def in_ring(generator: np.random.Generator, low: float, high: float) -> np.ndarray:
    """(2,), evenly from what lies between two circles around the origin."""
    angle, radius = generator.uniform(-np.pi, np.pi), np.sqrt(generator.uniform(low**2, high**2))
    return radius * np.array([np.cos(angle), np.sin(angle)])


def walls(room: float) -> list[Block]:
    """A square whose inner sides are ``room`` from the origin."""
    middle, long = room + WALL / 2, room + WALL
    sides = [((sign * middle, 0.0), (WALL / 2, long)) for sign in (-1, 1)]
    sides += [((0.0, sign * middle), (long, WALL / 2)) for sign in (-1, 1)]
    return [Block((x, y, WALL_HEIGHT / 2), (dx, dy, WALL_HEIGHT / 2)) for (x, y), (dx, dy) in sides]


class ArmDrive(BatchedEnv):
    """Drive the base to a goal, with the arm folded. A primitive.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the body's parts and goal (2, from the base).
        goal_range: how far from the origin goals lie, at most.
        fold: what a radian of the joints costs, a step. effort: what actions of 1 cost, a step.
        radius: of the goal's disc.
        reset_noise_scale, frame_skip: the body's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 60,
        dtype: str = "float32",
        observe: Sequence[str] = FROM_BASE,
        views: Mapping[str, Sequence[str]] = mobile_arm.VIEWS,
        coverage: Mapping[str, Any] = mobile_arm.COVERAGE,
        record: Sequence[str] = mobile_arm.RECORD,
        goal_range: float = 2.0,
        fold: float = 0.5,
        effort: float = 0.2,
        radius: float = 0.1,
        reset_noise_scale: float = 0.05,
        frame_skip: int = 2,
    ):
        super().__init__(
            DriveTask(
                goal_range=goal_range,
                fold=fold,
                effort=effort,
                radius=radius,
                reset_noise_scale=reset_noise_scale,
                frame_skip=frame_skip,
            ),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )


class ArmReach(BatchedEnv):
    """Reach a goal with the hand, with the base standing still, though it may turn. A primitive.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the body's parts and goal (2, from the base).
        goal_range: [low, high], how far from the origin goals lie.
        still: what a metre a second of the base costs, a step. effort: what actions of 1 cost, a step.
        radius: of the goal's disc.
        reset_noise_scale, frame_skip: the body's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 60,
        dtype: str = "float32",
        observe: Sequence[str] = FROM_BASE,
        views: Mapping[str, Sequence[str]] = mobile_arm.VIEWS,
        coverage: Mapping[str, Any] = mobile_arm.COVERAGE,
        record: Sequence[str] = mobile_arm.RECORD,
        goal_range: Sequence[float] = (0.3, 0.65),
        still: float = 1.0,
        effort: float = 0.2,
        radius: float = 0.1,
        reset_noise_scale: float = 0.05,
        frame_skip: int = 2,
    ):
        super().__init__(
            ReachTask(
                goal_range=goal_range,
                still=still,
                effort=effort,
                radius=radius,
                reset_noise_scale=reset_noise_scale,
                frame_skip=frame_skip,
            ),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )


class ArmFarReach(BatchedEnv):
    """Reach with the hand over a wall that stands farther than the arm is long: drive there, then reach.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the body's parts and goal (2, from the base).
        room: from the origin to the walls.
        beyond: [low, high], how far behind a wall goals lie.
        radius: of the goal's disc.
        reset_noise_scale, frame_skip: the body's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 60,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = mobile_arm.VIEWS,
        coverage: Mapping[str, Any] = mobile_arm.COVERAGE,
        record: Sequence[str] = mobile_arm.RECORD,
        room: float = 1.0,
        beyond: Sequence[float] = (0.2, 0.35),
        radius: float = 0.1,
        reset_noise_scale: float = 0.05,
        frame_skip: int = 2,
    ):
        super().__init__(
            FarReachTask(
                room=room, beyond=beyond, radius=radius, reset_noise_scale=reset_noise_scale, frame_skip=frame_skip
            ),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
