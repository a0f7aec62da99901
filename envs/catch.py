"""Catch: a ball falls down a board and a paddle at its bottom must be under it, one episode a ball."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from envs.board import BLUE, ORANGE, BoardPicture, Piece
from envs.memory import Arrays
from envs.task import Picture, Read, Task, whole
from envs.vector import BatchedEnv

MOVES = np.array([0.0, -1.0, 1.0])  # stay, left, right
OBSERVE = ["ball", "paddle", "near"]
VIEWS = {"all": ["ball", "paddle"], "near": ["near"]}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD: list[str] = []


class CatchSimulator:
    """n boards: the paddle moves, the ball falls by one row."""

    dt = 0.1  # nominal: it only sets the speed of videos
    action_dim = 1
    num_actions = len(MOVES)
    shapes = MappingProxyType({"xy": (2,), "ball": (2,)})

    def __init__(self, *, size: int):
        self.size = size
        self.initial = MappingProxyType({"xy": np.array([size // 2, 0.0]), "ball": np.array([0.0, size - 1])})

    def bind(self, arrays: Arrays) -> None:
        self._xy, self._ball = arrays["xy"], arrays["ball"]

    def control(self, action: np.ndarray) -> np.ndarray:
        return MOVES[action]

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        self._xy[rows, 0] = np.clip(self._xy[rows, 0] + control[rows], 0, self.size - 1)
        self._ball[rows, 1] -= 1

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        self._xy[row], self._ball[row] = start["xy"], start["ball"]

    def state(self) -> np.ndarray:
        return np.concatenate([self._xy, self._ball], axis=1)

    def load(self, state: np.ndarray) -> None:
        self._xy[:], self._ball[:] = state[:, :2], state[:, 2:]


class CatchTask(Task):
    """1 for a ball that is caught and −1 for one that is not, when it is down; nothing before."""

    def __init__(self, *, size: int, paddle: int, sight: int):
        whole(3, size=size)
        whole(1, paddle=paddle, sight=sight)
        if paddle % 2 == 0 or paddle > size:
            raise ValueError(f"paddle={paddle!r}: must be odd and at most size, which is {size}")
        self.size, self.half, self.sight = size, paddle // 2, sight

    def simulator(self, n: int) -> CatchSimulator:
        return CatchSimulator(size=self.size)

    def parts(self) -> dict[str, Read]:
        return {
            "ball": lambda now: self._scaled(now["ball"]),
            "paddle": lambda now: self._scaled(now["xy"][:, :1]),
            "near": self.near,
            "screen": self.screen,
        }

    def _scaled(self, place: np.ndarray) -> np.ndarray:
        """Columns and rows from 0 on, to [-1, 1]."""
        return 2 * place / (self.size - 1) - 1

    def near(self, now: Arrays) -> np.ndarray:
        """(n, 3): where the ball is from the paddle, and 1, if it is at most ``sight`` away along both axes; else 0."""
        offset = (now["ball"] - now["xy"]) / self.sight
        seen = (np.abs(offset) <= 1).all(axis=1, keepdims=True)
        return np.where(seen, np.concatenate([offset, np.ones_like(seen)], axis=1), 0.0)

    def screen(self, now: Arrays) -> np.ndarray:
        """(n, size²): 1 where ball or paddle are, row by row from below."""
        rows, cells = np.arange(len(now["xy"])), np.zeros((len(now["xy"]), self.size, self.size))
        for part in range(-self.half, self.half + 1):
            column = now["xy"][:, 0].astype(int) + part
            inside = (column >= 0) & (column < self.size)
            cells[rows[inside], 0, column[inside]] = 1
        ball = now["ball"].astype(int)
        cells[rows, ball[:, 1], ball[:, 0]] = 1
        return cells.reshape(len(rows), -1)

    def caught(self, now: Arrays) -> np.ndarray:
        return (now["ball"][:, 1] <= 0) & (np.abs(now["ball"][:, 0] - now["xy"][:, 0]) <= self.half)

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["xy"] - [self.size // 2, 0.0], "success": self.caught}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {"xy": initial["xy"], "ball": np.array([generator.integers(self.size), self.size - 1.0])}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return np.where(self.terminated(now), np.where(self.caught(now), 1.0, -1.0), 0.0)

    def terminated(self, now: Arrays) -> np.ndarray:
        return now["ball"][:, 1] <= 0

    def picture(self) -> Picture:
        return BoardPicture(self.size, self.size, self.pieces)

    def pieces(self, now: Arrays) -> list[Piece]:
        """Of one row."""
        (x, y), (ball_x, ball_y) = now["xy"], now["ball"]
        return [Piece(x, y, 2 * self.half + 1, 0.8, ORANGE, round=False), Piece(ball_x, ball_y, 0.9, 0.9, BLUE)]


class Catch(BatchedEnv):
    """A ball from a random column, a paddle that starts in the middle: 0 to 2 are stay, left, right.

    An episode ends by termination when the ball is down, after size − 1 steps.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of ball (2) and paddle (1), places in [-1, 1]; near (3), what can be seen from the paddle; and
            screen (size²).
        size: columns, and rows.
        paddle: columns that it covers, odd.
        sight: how far ``near`` sees.

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
        size: int = 24,
        paddle: int = 3,
        sight: int = 5,
    ):
        super().__init__(
            CatchTask(size=size, paddle=paddle, sight=sight),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
