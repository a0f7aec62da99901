"""Waypoints for the Ant, after the navigation task of DIAYN (Eysenbach et al. 2019): reach them in their order.

The paper's task has five waypoints and a sparse reward for each. Its code is not released: places and radius are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs import ant
from envs.goal import inside
from envs.memory import Arrays
from envs.task import Picture, Read, Simulator, Task, positive, whole
from envs.vector import BatchedEnv

OBSERVE = [*ant.OBSERVE, "goal", "reached"]


class WaypointsTask(Task):
    """Another task's body, start and parts; entering the current waypoint's disc gives 1, and the last one ends all.

    The first lies `distance` from the origin in any direction, each of the others `distance` from the one before it and
    at most a right angle off the way that led there: a course that does not turn back. All are drawn at each start.
    """

    def __init__(self, body: Task, *, waypoints: int, distance: float, radius: float):
        whole(1, waypoints=waypoints)
        positive(distance=distance, radius=radius)
        if radius >= distance:
            raise ValueError(f"radius={radius!r}: must be below distance={distance!r}, or the start is inside the goal")
        self.body, self.waypoints, self.distance, self.radius = body, waypoints, distance, radius
        self.own = {"goals": (waypoints, 2), "goal": (2,), "reached": ()}
        self.facts = {"goal_radius": float(radius)}

    def simulator(self, n: int) -> Simulator:
        return self.body.simulator(n)

    def parts(self) -> dict[str, Read]:
        return {
            **self.body.parts(),
            "goal": lambda now: now["goal"],
            "reached": lambda now: now["reached"][:, None] / self.waypoints,
        }

    def infos(self) -> dict[str, Read]:
        return {**self.body.infos(), "success": self.terminated}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        start = self.body.start(generator, initial)
        turns = generator.uniform(-0.5 * np.pi, 0.5 * np.pi, size=self.waypoints)
        turns[0] *= 2  # any direction
        heading = np.cumsum(turns)
        goals = np.cumsum(self.distance * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
        return {**start, "goals": goals, "goal": goals[0], "reached": np.zeros(())}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return self._inside(now).astype(np.float64)

    def advance(self, now: Arrays, rows: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        there = self._inside(now)
        for row in rows:
            if there[row]:
                now["reached"][row] += 1
                now["goal"][row] = now["goals"][row, min(int(now["reached"][row]), self.waypoints - 1)]

    def terminated(self, now: Arrays) -> np.ndarray:
        return now["reached"] >= self.waypoints

    def picture(self) -> Picture:
        picture = self.body.picture()
        picture.follow_goal(self.radius, 1.6 * self.distance)
        return picture

    def _inside(self, now: Arrays) -> np.ndarray:
        return inside(self.body.infos()["xy"](now), now["goal"], self.radius)


class AntWaypoints(BatchedEnv):
    """The Ant on a course of waypoints. Falling does not end an episode.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the Ant's parts, goal (2: the current waypoint's absolute x and y) and reached (1: the share of
            waypoints that are behind).
        waypoints: how many.
        distance: from one to the next, and from the origin to the first.
        radius: of their discs.
        reset_noise_scale, frame_skip: the Ant's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 500,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = ant.VIEWS,
        coverage: Mapping[str, Any] = ant.COVERAGE,
        record: Sequence[str] = ant.RECORD,
        waypoints: int = 5,
        distance: float = 3.0,
        radius: float = 1.0,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        super().__init__(
            WaypointsTask(
                ant.unrewarded(reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
                waypoints=waypoints,
                distance=distance,
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
