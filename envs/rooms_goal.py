"""The task `goal` in four rooms: reach a state that moves now and then (Bacon et al. 2017, section on four rooms)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from envs import rooms
from envs.goal import inside
from envs.memory import Arrays
from envs.plane import PlanePicture
from envs.rooms import MOVES, PLANS, Plan, RoomsSimulator, RoomsTask
from envs.task import Picture, Read, whole
from envs.vector import BatchedEnv

OBSERVE = [*rooms.OBSERVE, "goal"]
GOALS = {
    "small": [[4, -5], [3, 0]],  # the far corner of the last room, then one in the room beside the start
    "large": [[8, -6], [10, -10]],  # the east door, then a corner of the lower right room
}
RADIUS = 0.4  # of the disc that is drawn: a goal is one state


class GoalSimulator(RoomsSimulator):
    """n walkers and their goals, which are chosen when an episode begins, by how long the row has lived.

    A move fails where the task has drawn a ``failure`` below ``slip``, and leads to any state beside this one instead.
    """

    shapes = MappingProxyType({"xy": (2,), "goal": (2,), "lived": (1,)})
    initial = MappingProxyType({"xy": np.zeros(2)})

    def __init__(self, plan: Plan, goals: np.ndarray, move_every: int, slip: float):
        super().__init__(plan)
        self.goals, self.move_every, self.slip = goals, move_every, slip
        self.beside = [
            np.array([to for move in MOVES[1:] if plan.index((to := xy + move)[None])[0] >= 0]) for xy in plan.states
        ]

    def bind(self, arrays: Arrays) -> None:
        super().bind(arrays)
        self._goal, self._lived, self._failure = arrays["goal"], arrays["lived"], arrays.get("failure")

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        if self._failure is not None:
            control = control.copy()
            for row in np.flatnonzero(self._failure[:, 0] < self.slip):
                beside = self.beside[self.plan.index(self._xy[row][None])[0]]
                control[row] = beside[int(self._failure[row, 0] / self.slip * len(beside))] - self._xy[row]
        super().step(control, rows)
        self._lived[rows] += 1

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        super().restart(row, start)
        moved = int(self._lived[row, 0]) // self.move_every
        self._goal[row] = self.goals[min(moved, len(self.goals) - 1)]

    def state(self) -> np.ndarray:
        return np.concatenate([self._xy, self._goal, self._lived], axis=1)

    def load(self, state: np.ndarray) -> None:
        self._xy[:], self._goal[:], self._lived[:] = state[:, :2], state[:, 2:4], state[:, 4:]


class RoomsGoalTask(RoomsTask):
    """Coming to the goal's state gives 1 and ends the episode; every other step gives 0."""

    facts = MappingProxyType({"goal_radius": RADIUS})

    def __init__(self, plan: Plan, *, goals: np.ndarray, move_every: int, random_start: bool, slip: float):
        super().__init__(plan)
        if not 0 <= slip <= 1:
            raise ValueError(f"slip={slip!r}: must be in [0, 1]")
        self.goals, self.move_every, self.random_start, self.slip = goals, move_every, random_start, slip
        self.own = {"failure": (1,)} if slip else {}
        self.starts = np.delete(plan.states, plan.index(goals), axis=0)

    def simulator(self, n: int) -> GoalSimulator:
        return GoalSimulator(self.plan, self.goals, self.move_every, self.slip)

    def parts(self) -> dict[str, Read]:
        return {**super().parts(), "goal": lambda now: now["goal"]}

    def infos(self) -> dict[str, Read]:
        return {**super().infos(), "success": self.terminated}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        start = super().start(generator, initial)
        if self.random_start:
            start = {"xy": self.starts[generator.integers(len(self.starts))]}
        return start | {name: generator.random(1) for name in self.own}

    def advance(self, now: Arrays, rows: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        """Draws whether the next move fails."""
        for name in self.own:
            now[name][rows] = [generators[row].random(1) for row in rows]

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return self.terminated(now).astype(np.float64)

    def terminated(self, now: Arrays) -> np.ndarray:
        return inside(now["xy"], now["goal"], RADIUS)

    def picture(self) -> Picture:
        picture = super().picture()
        assert isinstance(picture, PlanePicture)
        (left, bottom), (right, top) = self.plan.states.min(axis=0) - 1, self.plan.states.max(axis=0) + 1
        picture.show_goal(RADIUS, (float(left), float(right), float(bottom), float(top)))
        return picture


class RoomsGoal(BatchedEnv):
    """`goal` for four rooms, whose actions are 0 to 4: stay, up, down, left, right.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of xy (2), goal (2), and cell (24, or 104 in the large layout), one-hot.
        layout: "small", that of the env without a goal, or "large", the usual one of papers on options.
        goals: x and y of the states that are the goal, one after the other; the last one stays. None: two of the
            layout's.
        move_every: env steps of a row after which its next episode has the next goal.
        random_start: begin in any state that is no goal, instead of the upper left corner.
        slip: how often a move fails and leads to any of the states beside this one; 1/3 in Bacon et al. 2017.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 200,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = rooms.VIEWS,
        coverage: Mapping[str, Any] = rooms.COVERAGE,
        record: Sequence[str] = rooms.RECORD,
        layout: str = "small",
        goals: Sequence[Sequence[float]] | None = None,
        move_every: int = 10_000,
        random_start: bool = False,
        slip: float = 0.0,
    ):
        if layout not in PLANS:
            raise ValueError(f"layout={layout!r}: must be one of {', '.join(PLANS)}")
        whole(1, move_every=move_every)
        plan = PLANS[layout]
        places = checked(GOALS[layout] if goals is None else goals, plan)
        super().__init__(
            RoomsGoalTask(plan, goals=places, move_every=move_every, random_start=random_start, slip=slip),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )


def checked(goals: Sequence[Sequence[float]], plan: Plan) -> np.ndarray:
    """(k, 2). ValueError unless each is a state that is not the start."""
    wrong = f"goals={goals!r}: must be a list of [x, y], each a state in a room and not the start"
    try:
        places = np.asarray(goals, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ValueError(wrong) from None
    low, high = plan.states.min(axis=0), plan.states.max(axis=0)
    within = ((places >= low) & (places <= high) & (places == np.rint(places))).all()
    if not len(places) or not within or (plan.index(places) <= 0).any():
        raise ValueError(wrong)
    return places
