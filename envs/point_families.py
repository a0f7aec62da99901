"""Families of tasks for the point env, from which parameterised skills are learnt: what is asked for is not seen."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from envs import point
from envs.memory import Arrays
from envs.task import Read, positive
from envs.vector import BatchedEnv

FAMILIES = ("run", "reach")
OBSERVE = ["xy", "family", "paid"]


class FamiliesTask(point.PointTask):
    """Each episode draws a family, which is seen, and a task of it, a place w in the unit disc, which is not.

    run: move along w at |w| of the longest step. reach: be at ``distance`` · w. Reward |w|² − |x − w|², x being
    step / longest step or xy / distance: 1 at the most, and 0 for staying at the start, so that a reward tells of w by
    x · w alone. Every step's reward is seen in the next one (``paid``): it alone tells the task.
    """

    own = MappingProxyType({"family": (len(FAMILIES),), "task": (2,), "was": (2,), "paid": (1,)})

    def __init__(self, *, step_radius: float, horizon: int, distance: float):
        super().__init__(step_radius=step_radius, horizon=horizon)
        positive(distance=distance)
        self.distance = distance

    def parts(self) -> dict[str, Read]:
        return super().parts() | {
            "family": lambda now: now["family"],
            "paid": lambda now: now["paid"],
            "task": lambda now: now["task"],
        }

    def infos(self) -> dict[str, Read]:
        return super().infos() | {"task": lambda now: now["task"], "family": lambda now: now["family"]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        family = np.eye(len(FAMILIES))[generator.integers(len(FAMILIES))]
        angle, radius = 2 * np.pi * generator.random(), np.sqrt(generator.random())
        task = radius * np.array([np.cos(angle), np.sin(angle)])
        return {"xy": initial["xy"], "family": family, "task": task, "was": initial["xy"], "paid": np.zeros(1)}

    def pays(self, now: Arrays) -> np.ndarray:
        """(n,), for the step from ``was`` to ``xy``."""
        run = (now["xy"] - now["was"]) / self.step_radius - now["task"]
        reach = now["xy"] / self.distance - now["task"]
        missed = np.where(now["family"][:, :1] == 1, run, reach)
        return (np.square(now["task"]) - np.square(missed)).sum(axis=1)

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return self.pays(now)

    def advance(self, now: Arrays, rows: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        now["paid"][rows, 0] = self.pays(now)[rows]
        now["was"][rows] = now["xy"][rows]


class PointFamilies(BatchedEnv):
    """Two families of hidden tasks for a point in the plane: `run` at a velocity, `reach` a place.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of xy (2), family (2), one-hot; paid (1), the reward of the step before; task (2), what is hidden.
        step_radius: the point's longest step.
        distance: of the farthest place to be reached.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 20,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = point.VIEWS,
        coverage: Mapping[str, Any] = point.COVERAGE,
        record: Sequence[str] = point.RECORD,
        step_radius: float = 0.2,
        distance: float = 1.0,
    ):
        super().__init__(
            FamiliesTask(step_radius=step_radius, horizon=horizon, distance=distance),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
