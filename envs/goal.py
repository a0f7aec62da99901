"""The sparse task `goal`, for every env whose infos have `xy`: reach a disc that is drawn anew each episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from envs import ant, point, swimmer
from envs.memory import Arrays
from envs.task import Area, Picture, Read, Simulator, Task, positive, whole
from envs.vector import BatchedEnv


class Places(Protocol):
    """Where goals lie."""

    @property
    def area(self) -> Area: ...  # that contains the start, and every goal with its disc

    def draw(self, generator: np.random.Generator) -> np.ndarray: ...  # (2,)


@dataclass(frozen=True)
class Ring:
    """Goals `distance` from the origin in one of `goals` evenly spaced directions."""

    goals: int
    distance: float
    radius: float

    def __post_init__(self) -> None:
        whole(4, goals=self.goals)
        positive(distance=self.distance, radius=self.radius)
        if self.radius >= self.distance:
            raise ValueError(
                f"radius={self.radius!r}: must be below distance={self.distance!r}, or the start is inside the goal"
            )

    @property
    def area(self) -> Area:
        reach = self.distance + self.radius
        return (-reach, reach, -reach, reach)

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        angle = 2 * np.pi * generator.integers(self.goals) / self.goals
        return self.distance * np.array([np.cos(angle), np.sin(angle)])


class GoalTask(Task):
    """Another task's body, start and parts, with a goal for a reward.

    The goal is drawn from the row's generator at each start. Entering its disc gives 1 and ends the episode; every
    other step gives 0.
    """

    own = MappingProxyType({"goal": (2,)})

    def __init__(self, body: Task, *, places: Places, radius: float):
        self.body, self.places, self.radius = body, places, radius
        self.facts = {"goal_radius": float(radius)}

    def simulator(self, n: int) -> Simulator:
        return self.body.simulator(n)

    def parts(self) -> dict[str, Read]:
        return {**self.body.parts(), "goal": lambda now: now["goal"]}

    def infos(self) -> dict[str, Read]:
        return {**self.body.infos(), "success": self._success}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {**self.body.start(generator, initial), "goal": self.places.draw(generator)}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return self._success(now).astype(np.float64)

    def terminated(self, now: Arrays) -> np.ndarray:
        return self._success(now) | self.body.terminated(now)

    def picture(self) -> Picture:
        picture = self.body.picture()
        picture.show_goal(self.radius, self.places.area)
        return picture

    def _success(self, now: Arrays) -> np.ndarray:
        return inside(self.body.infos()["xy"](now), now["goal"], self.radius)


def inside(xy: np.ndarray, goal: np.ndarray, radius: float) -> np.ndarray:
    """(n, 2) and (n, 2) to (n,) bool: whether a place is in the goal's disc."""
    offset = xy - goal
    return np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2) <= radius


SWIMMER_OBSERVE = [*swimmer.OBSERVE, "goal"]
ANT_OBSERVE = [*ant.OBSERVE, "goal"]
POINT_OBSERVE = [*point.OBSERVE, "goal"]


class SwimmerGoal(BatchedEnv):
    """`goal` for the Swimmer.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the Swimmer's parts and goal (2, absolute x and y).
        goals: number of directions.
        distance: of a goal from the origin.
        radius: of its disc.
        reset_noise_scale, frame_skip: the Swimmer's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 200,
        dtype: str = "float32",
        observe: Sequence[str] = SWIMMER_OBSERVE,
        views: Mapping[str, Sequence[str]] = swimmer.VIEWS,
        coverage: Mapping[str, Any] = swimmer.COVERAGE,
        record: Sequence[str] = point.RECORD,
        goals: int = 8,
        distance: float = 1.0,
        radius: float = 0.4,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 4,
    ):
        # The body's own reward is not used.
        body = swimmer.SwimmerTask(
            forward_reward_weight=0.0,
            ctrl_cost_weight=0.0,
            reset_noise_scale=reset_noise_scale,
            frame_skip=frame_skip,
        )
        super().__init__(
            GoalTask(body, places=Ring(goals, distance, radius), radius=radius),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )


class AntGoal(BatchedEnv):
    """`goal` for the Ant. Falling does not end an episode.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the Ant's parts and goal (2, absolute x and y).
        goals: number of directions.
        distance: of a goal from the origin.
        radius: of its disc.
        reset_noise_scale, frame_skip: the Ant's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 200,
        dtype: str = "float32",
        observe: Sequence[str] = ANT_OBSERVE,
        views: Mapping[str, Sequence[str]] = ant.VIEWS,
        coverage: Mapping[str, Any] = ant.COVERAGE,
        record: Sequence[str] = point.RECORD,
        goals: int = 8,
        distance: float = 3.0,
        radius: float = 1.0,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        super().__init__(
            GoalTask(
                ant.unrewarded(reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
                places=Ring(goals, distance, radius),
                radius=radius,
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


class PointGoal(BatchedEnv):
    """`goal` for the point env.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of xy (2) and goal (2).
        goals: number of directions.
        distance: of a goal from the origin.
        radius: of its disc.
        step_radius: the point's longest step.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 50,
        dtype: str = "float32",
        observe: Sequence[str] = POINT_OBSERVE,
        views: Mapping[str, Sequence[str]] = point.VIEWS,
        coverage: Mapping[str, Any] = point.COVERAGE,
        record: Sequence[str] = point.RECORD,
        goals: int = 8,
        distance: float = 4.0,
        radius: float = 1.0,
        step_radius: float = 0.2,
    ):
        super().__init__(
            GoalTask(
                point.PointTask(step_radius=step_radius, horizon=horizon),
                places=Ring(goals, distance, radius),
                radius=radius,
            ),
            num_envs=num_envs,
            workers=0,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
