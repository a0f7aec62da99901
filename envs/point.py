"""A point in the plane: the action is a displacement. The smallest env in which skills can be seen."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.plane import PlanePicture
from envs.task import Picture, Read, Task, positive, whole
from envs.vector import BatchedEnv

OBSERVE = ["xy"]
VIEWS = {"xy": ["xy"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []


class PointSimulator:
    """n points: xy += radius * (action clipped to the unit disc)."""

    dt = 0.1  # nominal: it only sets the speed of videos
    action_dim = 2
    shapes = MappingProxyType({"xy": (2,)})
    initial = MappingProxyType({"xy": np.zeros(2)})

    def __init__(self, *, radius: float):
        self.radius = radius

    def bind(self, arrays: Arrays) -> None:
        self._xy = arrays["xy"]

    def control(self, action: np.ndarray) -> np.ndarray:
        action = action.astype(np.float64)
        length = np.sqrt(action[:, :1] ** 2 + action[:, 1:] ** 2)  # (n, 1)
        return self.radius * action / np.maximum(length, 1.0)

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        self._xy[rows] += control[rows]

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        self._xy[row] = start["xy"]

    def state(self) -> np.ndarray:
        return self._xy.copy()

    def load(self, state: np.ndarray) -> None:
        self._xy[:] = state


class PointTask(Task):
    """No reward, no end but the horizon; every episode starts at the origin."""

    def __init__(self, *, step_radius: float, horizon: int):
        positive(step_radius=step_radius)
        whole(1, horizon=horizon)
        self.step_radius = step_radius
        self.reach = step_radius * horizon  # how far an episode can go: the picture shows that much

    def simulator(self, n: int) -> PointSimulator:
        return PointSimulator(radius=self.step_radius)

    def parts(self) -> dict[str, Read]:
        return {"xy": lambda now: now["xy"], "x": lambda now: now["xy"][:, :1], "y": lambda now: now["xy"][:, 1:]}

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["xy"]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {"xy": initial["xy"]}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return np.zeros(len(control))

    def picture(self) -> Picture:
        return PlanePicture(extent=self.reach)


class Point(BatchedEnv):
    """The 2-D point env: deterministic, without walls, in this process.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: xy (2), or x (1) and y (1) by themselves.
        step_radius: the longest step. Actions are clipped to the unit disc (diagonals are not faster) and scaled by it.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 50,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = VIEWS,
        coverage: Mapping[str, Any] = COVERAGE,
        record: Sequence[str] = RECORD,
        step_radius: float = 0.2,
    ):
        super().__init__(
            PointTask(step_radius=step_radius, horizon=horizon),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
