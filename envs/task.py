"""What a batched env is made of: a simulator of n rows and a task over the simulator's named arrays."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from envs.memory import Arrays

Read = Callable[[Arrays], np.ndarray]  # batched: named arrays (n, ...) -> (n, ...)
Area = tuple[float, float, float, float]  # lowest and highest x, lowest and highest y


class Simulator(Protocol):
    """n rows of physics. It writes what it computes into the arrays handed to `bind`."""

    dt: float  # seconds of one env step
    action_dim: int
    # num_actions: int, where an action is one of so many and not a point in a box
    # agents: int, where a row is a team: then actions, parts and rewards have an axis of so many after that of the rows

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...  # name -> shape of one row, all float64

    @property
    def initial(self) -> Mapping[str, np.ndarray]: ...  # the model's own start

    def bind(self, arrays: Arrays) -> None: ...

    # (n, action_dim) float32, (n, agents, action_dim) of a team, or (n,) int64 where there are num_actions
    # -> what the actuators get
    def control(self, action: np.ndarray) -> np.ndarray: ...

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None: ...

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None: ...

    def state(self) -> np.ndarray: ...  # (n, size) float64: all that the next step depends on

    def load(self, state: np.ndarray) -> None: ...


def num_actions(simulator: Simulator) -> int | None:
    """How many actions there are to choose from; None where they are a box."""
    return getattr(simulator, "num_actions", None)


def team(simulator: Simulator) -> tuple[int, ...]:
    """The agents axis: (agents,), or () where a row is one body."""
    agents = getattr(simulator, "agents", None)
    return () if agents is None else (int(agents),)


class Picture(Protocol):
    """Draws one row."""

    def show_goal(self, radius: float, area: Area) -> None: ...  # draw now["goal"], frame all of the area

    def follow_goal(self, radius: float, extent: float) -> None: ...  # draw now["goal"], frame the body's surroundings

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray: ...

    def close(self) -> None: ...


class Task(ABC):
    """Observation parts, reward, termination and start, as functions of named arrays with n rows.

    A task is a plain object that can be pickled: worker processes get a copy of it. All of its state is in the arrays.
    """

    own: Mapping[str, tuple[int, ...]] = {}  # arrays that `start` draws and only `advance` changes, e.g. a goal
    facts: Mapping[str, Any] = {}  # what `env.metadata` says of the task besides

    @abstractmethod
    def simulator(self, n: int) -> Simulator: ...

    @abstractmethod
    def parts(self) -> dict[str, Read]:
        """All parts that an observation can be made of, each (n, d); of a team (n, agents, d)."""

    @abstractmethod
    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        """One row's start: what the simulator's `restart` takes, and the task's `own` arrays."""

    @abstractmethod
    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        """(n,) float64, of a team (n, agents). Rows must not depend on each other, here or anywhere below."""

    def advance(self, now: Arrays, rows: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        """Changes `own` arrays of the rows that have moved, once they are rewarded: the next goal, a count.

        Nothing, unless a task says otherwise. `generators` has one for each of the n rows.
        """
        return None

    def terminated(self, now: Arrays) -> np.ndarray:
        """(n,) bool. Never, unless a task says otherwise."""
        return np.zeros(len(next(iter(now.values()))), dtype=bool)

    @abstractmethod
    def infos(self) -> dict[str, Read]:
        """What goes into `info`, each (n, ...)."""

    @abstractmethod
    def picture(self) -> Picture: ...


def along_x(now: Arrays) -> np.ndarray:
    """(x, 0): where a planar body is, for those who look for `xy`."""
    xy = np.zeros((len(now["qpos"]), 2))
    xy[:, 0] = now["qpos"][:, 0]
    return xy


def positive(**values: Any) -> None:
    """ValueError naming the first argument that is not a finite number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ValueError(f"{name}={value!r}: must be a number above 0")


def not_negative(**values: Any) -> None:
    """ValueError naming the first argument that is not a finite number of at least 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ValueError(f"{name}={value!r}: must be a number of at least 0")


def whole(minimum: int, **values: Any) -> None:
    """ValueError naming the first argument that is not an integer of at least `minimum`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
            raise ValueError(f"{name}={value!r}: must be an integer of at least {minimum}")


def span(**values: Sequence[float]) -> None:
    """ValueError naming the first argument that is not a pair [low, high] with low < high."""
    for name, value in values.items():
        pair = list(value) if isinstance(value, (list, tuple)) else []
        if len(pair) != 2 or not all(isinstance(end, (int, float)) for end in pair) or not pair[0] < pair[1]:
            raise ValueError(f"{name}={value!r}: must be [low, high] with low below high")


def increasing(**values: Sequence[float]) -> None:
    """ValueError naming the first argument that is not a list of finite numbers, each above the one before it."""
    for name, value in values.items():
        rising = isinstance(value, (list, tuple)) and len(value) > 0
        rising = rising and all(isinstance(x, (int, float)) and abs(x) < float("inf") for x in value)
        if not rising or any(a >= b for a, b in pairwise(value)):
            raise ValueError(f"{name}={value!r}: must be a list of numbers, each above the one before it")
