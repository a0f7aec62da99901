"""Four rooms: a gridworld of 24 states and 5 actions, small enough that distances and successors can be counted."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.plane import PlanePicture
from envs.task import Area, Picture, Read, Task
from envs.vector import BatchedEnv

# As seen from above, # a wall; the first state is the start.
LAYOUTS = {
    # google-deepmind/disdain (Strouse et al. 2022)
    "small": ["#######", "#  #  #", "#     #", "## #  #", "#  # ##", "#  #  #", "#     #", "#######"],
    # Sutton, Precup & Singh 1999, figure 2
    "large": [
        *["#############", "#     #     #", "#     #     #", "#           #", "#     #     #", "#     #     #"],
        *["## ####     #", "#     ### ###", "#     #     #", "#     #     #", "#           #", "#     #     #"],
        "#############",
    ],
}
MOVES = np.array([[0, 0], [0, 1], [0, -1], [-1, 0], [1, 0]], dtype=np.float64)  # stay, up, down, left, right
OBSERVE = ["xy"]
VIEWS = {"xy": ["xy"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []


class Plan:
    """States that can be walked to, and walls.

    states: xy of each, (n, 2), row by row from above: whole numbers, with the first one in the origin.
    """

    def __init__(self, lines: Sequence[str]):
        self.free = np.array([[char != "#" for char in line] for line in lines])  # [row from above, column]
        row, column = np.nonzero(self.free)
        self.row, self.column = int(row[0]), int(column[0])  # of the start
        self.states = np.stack([column - self.column, self.row - row], axis=1).astype(np.float64)
        self.number = np.full(self.free.shape, -1)
        self.number[row, column] = np.arange(len(self.states))

    def index(self, xy: np.ndarray) -> np.ndarray:
        """(n, 2) places to their states' numbers, (n,); −1 where a wall is."""
        column, row = np.rint(xy).astype(np.int64).T
        return self.number[self.row - row, column + self.column]

    def moved(self, xy: np.ndarray, move: np.ndarray) -> np.ndarray:
        """Where a move leads to, both (n, 2): nowhere if a wall is in its way."""
        return np.where(self.index(xy + move)[:, None] >= 0, xy + move, xy)

    def walls(self) -> list[Area]:
        """A square for each piece of wall."""
        rows, columns = np.nonzero(~self.free)
        middles = np.stack([columns - self.column, self.row - rows], axis=1)
        return [(float(x - 0.5), float(x + 0.5), float(y - 0.5), float(y + 0.5)) for x, y in middles]


PLANS = {name: Plan(lines) for name, lines in LAYOUTS.items()}
SMALL = PLANS["small"]
STATES, index, moved = SMALL.states, SMALL.index, SMALL.moved


class RoomsSimulator:
    """n walkers."""

    dt = 0.1  # nominal: it only sets the speed of videos
    action_dim = 1
    num_actions = len(MOVES)
    shapes = MappingProxyType({"xy": (2,)})
    initial = MappingProxyType({"xy": np.zeros(2)})

    def __init__(self, plan: Plan):
        self.plan = plan

    def bind(self, arrays: Arrays) -> None:
        self._xy = arrays["xy"]

    def control(self, action: np.ndarray) -> np.ndarray:
        return MOVES[action]

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        self._xy[rows] = self.plan.moved(self._xy[rows], control[rows])

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        self._xy[row] = start["xy"]

    def state(self) -> np.ndarray:
        return self._xy.copy()

    def load(self, state: np.ndarray) -> None:
        self._xy[:] = state


class RoomsTask(Task):
    """No reward, no end but the horizon; every episode starts in the upper left corner."""

    def __init__(self, plan: Plan = SMALL):
        self.plan = plan

    def simulator(self, n: int) -> RoomsSimulator:
        return RoomsSimulator(self.plan)

    def parts(self) -> dict[str, Read]:
        plan = self.plan
        return {"xy": lambda now: now["xy"], "cell": lambda now: np.eye(len(plan.states))[plan.index(now["xy"])]}

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["xy"]}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {"xy": initial["xy"]}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return np.zeros(len(control))

    def picture(self) -> Picture:
        low, high = self.plan.states.min(axis=0) - 0.5, self.plan.states.max(axis=0) + 0.5
        centre, extent = (low + high) / 2, (high - low).max() / 2 + 1
        return PlanePicture(extent=float(extent), centre=centre, walls=self.plan.walls(), corner=0.5)


class Rooms(BatchedEnv):
    """Four rooms: deterministic, in this process. Actions are 0 to 4: stay, up, down, left, right.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of xy (2), whole numbers, and cell (24), one-hot.

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
    ):
        super().__init__(
            RoomsTask(),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
