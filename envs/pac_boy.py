"""Pac-Boy: fruits to be eaten in a small maze in which ghosts walk about, with what each of them pays told apart."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from envs.board import BLUE, ORANGE, VIOLET, BoardPicture, Piece
from envs.memory import Arrays
from envs.task import Picture, Read, Task, not_negative, whole
from envs.vector import BatchedEnv

# As seen from above: # a wall, o a place where a fruit may lie, S the start.
LAYOUT = [
    "#########",
    "#o  #  o#",
    "# # o # #",
    "# # # # #",
    "#o  S  o#",
    "# # # # #",
    "#o# o #o#",
    "#  o#o  #",
    "#########",
]
MOVES = np.array([[0, 1], [0, -1], [-1, 0], [1, 0]], dtype=np.float64)  # up, down, left, right
AWAY = 3  # cells, along both axes together, between the start and where a ghost begins
VIEWS: dict[str, list[str]] = {}
COVERAGE = {"key": "xy", "cell": 1.0}
RECORD = ["concerns"]

_GRID = np.array([list(line) for line in LAYOUT])[::-1].T  # [x, y], both rising
WALLS = _GRID == "#"
CELLS = np.argwhere(~WALLS).astype(np.float64)
"""xy of each cell that can be walked on, (37, 2)."""
FRUITS = np.argwhere(_GRID == "o").astype(np.float64)
"""xy of each place of a fruit, (10, 2)."""
START = np.argwhere(_GRID == "S")[0].astype(np.float64)
OBSERVE = ["boy", *(f"fruit_{i}" for i in range(len(FRUITS))), "ghost_0", "ghost_1"]

_NUMBER = np.full(WALLS.shape, -1)
_NUMBER[~WALLS] = np.arange(len(CELLS))


def one_hot(xy: np.ndarray) -> np.ndarray:
    """(n, 2) places to (n, cells)."""
    return np.eye(len(CELLS))[_NUMBER[tuple(xy.astype(int).T)]]


def moved(xy: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Where a move leads to, both (n, 2): nowhere if a wall is in its way."""
    there = xy + move
    return np.where(WALLS[tuple(there.astype(int).T)][:, None], xy, there)


class PacBoySimulator:
    """n boys."""

    dt = 0.1  # nominal: it only sets the speed of videos
    action_dim = 1
    num_actions = len(MOVES)
    shapes = MappingProxyType({"xy": (2,)})
    initial = MappingProxyType({"xy": START})

    def bind(self, arrays: Arrays) -> None:
        self._xy = arrays["xy"]

    def control(self, action: np.ndarray) -> np.ndarray:
        return MOVES[action]

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        self._xy[rows] = moved(self._xy[rows], control[rows])

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        self._xy[row] = start["xy"]

    def state(self) -> np.ndarray:
        return self._xy.copy()

    def load(self, state: np.ndarray) -> None:
        self._xy[:] = state


class PacBoyTask(Task):
    """1 for a fruit, −``bump`` for each ghost whose cell the boy moves into or stays in; then the ghosts move.

    ``concerns`` (fruits + ghosts,) is what each of them paid in the newest step: the reward is its sum.
    """

    def __init__(self, *, ghosts: int, bump: float, share: float):
        whole(0, ghosts=ghosts)
        not_negative(bump=bump)
        if not 0 < share <= 1:
            raise ValueError(f"share={share!r}: must be a number in (0, 1]")
        self.ghosts, self.bump, self.share = ghosts, bump, share
        self.own = {"fruits": (len(FRUITS),), "ghosts": (ghosts, 2), "concerns": (len(FRUITS) + ghosts,)}

    def simulator(self, n: int) -> PacBoySimulator:
        return PacBoySimulator()

    def parts(self) -> dict[str, Read]:
        parts: dict[str, Read] = {"boy": lambda now: one_hot(now["xy"])}
        parts |= {f"fruit_{i}": partial(_fruit, i) for i in range(len(FRUITS))}
        return parts | {f"ghost_{i}": partial(_ghost, i) for i in range(self.ghosts)}

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["xy"] - START, "concerns": lambda now: now["concerns"], "success": eaten}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        fruits = generator.random(len(FRUITS)) < self.share
        fruits[generator.integers(len(FRUITS))] = True  # at least one
        far = CELLS[np.abs(CELLS - START).sum(axis=1) >= AWAY]
        ghosts = far[generator.integers(len(far), size=self.ghosts)]
        nothing = np.zeros(len(FRUITS) + self.ghosts)
        return {"xy": initial["xy"], "fruits": fruits.astype(np.float64), "ghosts": ghosts, "concerns": nothing}

    def paid(self, now: Arrays) -> np.ndarray:
        """(n, fruits + ghosts), for where the boy has moved to, before anything else moves."""
        here = (now["xy"][:, None] == FRUITS).all(axis=2)
        bumps = (now["xy"][:, None] == now["ghosts"]).all(axis=2)
        return np.concatenate([now["fruits"] * here, -self.bump * bumps], axis=1)

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return self.paid(now).sum(axis=1)

    def advance(self, now: Arrays, rows: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        """The fruit that the boy is at goes; each ghost makes a move that a wall may stop."""
        now["concerns"][rows] = self.paid(now)[rows]
        now["fruits"][rows] *= (now["xy"][rows, None] != FRUITS).any(axis=2)
        for row in rows:
            move = MOVES[generators[row].integers(len(MOVES), size=self.ghosts)]
            now["ghosts"][row] = moved(now["ghosts"][row], move)

    def terminated(self, now: Arrays) -> np.ndarray:
        return eaten(now)

    def picture(self) -> Picture:
        columns, rows = WALLS.shape
        return BoardPicture(columns, rows, self.pieces, WALLS)

    def pieces(self, now: Arrays) -> list[Piece]:
        """Of one row."""
        fruits = [Piece(x, y, 0.45, 0.45, VIOLET) for (x, y), there in zip(FRUITS, now["fruits"], strict=True) if there]
        ghosts = [Piece(x, y, 0.7, 0.7, BLUE, round=False) for x, y in now["ghosts"]]
        x, y = now["xy"]
        return [*fruits, Piece(x, y, 0.8, 0.8, ORANGE), *ghosts]


def eaten(now: Arrays) -> np.ndarray:
    """(n,): whether no fruit is left."""
    return now["fruits"].sum(axis=1) == 0


def _fruit(i: int, now: Arrays) -> np.ndarray:
    return now["fruits"][:, i : i + 1]


def _ghost(i: int, now: Arrays) -> np.ndarray:
    return one_hot(now["ghosts"][:, i])


class PacBoy(BatchedEnv):
    """A maze of 37 cells with 10 places for fruits: 0 to 3 are up, down, left, right.

    The start is the middle; an episode ends by termination when all fruits are eaten.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of boy (37), one-hot; fruit_0 to fruit_9 (1), whether it is there; ghost_0 … (37), one-hot.
        ghosts: how many. Each makes a random move a step.
        bump: what running into one costs.
        share: of the places that have a fruit at the start, on average.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 100,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = VIEWS,
        coverage: Mapping[str, Any] = COVERAGE,
        record: Sequence[str] = RECORD,
        ghosts: int = 2,
        bump: float = 1.0,
        share: float = 0.5,
    ):
        super().__init__(
            PacBoyTask(ghosts=ghosts, bump=bump, share=share),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
