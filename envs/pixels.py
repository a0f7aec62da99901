"""What an observation is made of: the parts that a config names, side by side, or a small picture of the row."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from envs.memory import Arrays
from envs.task import Picture, Task, team

PIXELS = "pixels"
"""The name in `observe`: a picture instead of parts of the state, drawn where the row is stepped."""
SIDE = 64  # of a picture


class Eye(Protocol):
    """Writes observations of named arrays `now` (n, ...) into `out`; rows that are not in `rows` are as in `before`."""

    def see(self, now: Arrays, out: np.ndarray, rows: Sequence[int], before: np.ndarray) -> None: ...

    def close(self) -> None: ...


def eye(task: Task, observe: Sequence[str]) -> Eye:
    return Pixels(task) if list(observe) == [PIXELS] else Parts(task, observe)


class Parts:
    """(n, d), or (n, agents, d): always all rows at once, which costs less than to choose."""

    def __init__(self, task: Task, observe: Sequence[str]):
        self._parts = [task.parts()[name] for name in observe]

    def see(self, now: Arrays, out: np.ndarray, rows: Sequence[int], before: np.ndarray) -> None:
        np.concatenate([read(now) for read in self._parts], axis=-1, out=out, casting="same_kind")

    def close(self) -> None:
        pass


class Pixels:
    """(n, 64, 64, 3) uint8. The first picture asks for off-screen OpenGL where the body is MuJoCo's."""

    def __init__(self, task: Task):
        self._task = task
        self._picture: Picture | None = None

    def see(self, now: Arrays, out: np.ndarray, rows: Sequence[int], before: np.ndarray) -> None:
        if self._picture is None:
            self._picture = self._task.picture()
        if out is not before and len(rows) < len(out):
            out[...] = before
        for row in rows:
            one = {name: array[row] for name, array in now.items()}
            out[row] = self._picture.frame(one, width=SIDE, height=SIDE, camera="track")

    def close(self) -> None:
        if self._picture is not None:
            self._picture.close()
            self._picture = None


def shape_of(task: Task, observe: Sequence[str]) -> tuple[tuple[int, ...], dict[str, int]]:
    """One row's observation, and the width of each part on its last axis.

    Raises:
        ValueError: a picture beside other parts, or of a team.
    """
    simulator = task.simulator(1)
    if PIXELS in observe:
        if len(observe) > 1:
            raise ValueError(f"observe={list(observe)!r}: {PIXELS} cannot stand beside other parts")
        if team(simulator):
            raise ValueError(f"observe={list(observe)!r}: there is one picture of a team, and none of each agent")
        return (SIDE, SIDE, 3), {PIXELS: 3}
    now = {name: np.zeros((1, *shape)) for name, shape in {**simulator.shapes, **task.own}.items()}
    widths = {name: task.parts()[name](now).shape[-1] for name in observe}
    return (*team(simulator), sum(widths.values())), widths
