"""Mazes of square cells: walls for a point and for MuJoCo bodies, and goals in the cells that can be reached."""

from collections.abc import Sequence

import numpy as np

from envs.physics import Block
from envs.task import Area, positive

# As seen from above, # a wall and S the start: D4RL's maps (Fu et al. 2020, "D4RL").
LAYOUTS = {
    "u": ["#####", "#S..#", "###.#", "#...#", "#####"],
    "medium": ["########", "#S.##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########"],
}
SPREAD = 0.25  # cells: how far a goal lies from the middle of its cell along each axis, at most (Gymnasium-Robotics)


class Maze:
    """A layout with the start's middle in the origin, as D4RL has it. It is the `Places` of its goals.

    Args:
        layout: a name in `LAYOUTS`.
        cell: side of a cell.
        radius: of goals.

    Raises:
        ValueError: another layout, or a radius so large that a goal could be reached round a corner.
    """

    def __init__(self, *, layout: str, cell: float, radius: float):
        if layout not in LAYOUTS:
            raise ValueError(f"layout={layout!r}: must be one of {', '.join(LAYOUTS)}")
        positive(cell=cell, radius=radius)
        limit = (0.5 - SPREAD) * 2**0.5 * cell  # from a goal to the nearest corner of its cell
        if radius > limit:
            raise ValueError(
                f"radius={radius!r}: must be at most {limit:.3g} with cell={cell!r}, or goals are reached round corners"
            )
        grid = np.array([list(line) for line in LAYOUTS[layout]])[::-1].T  # [x, y], both rising
        self.walls = grid == "#"
        ((x, y),) = np.argwhere(grid == "S").tolist()
        self.start: tuple[int, int] = (x, y)
        # Lines between cells, rising; a cell has its lower line and not its upper one.
        self.lines = [(np.arange(size + 1) - start - 0.5) * cell for size, start in zip(grid.shape, self.start)]
        self.cell = cell
        self.goals = np.array([self.middle(index) for index in self._reachable() if index != self.start])  # (k, 2)

    @property
    def area(self) -> Area:
        """All that can be walked to, and some of the wall around it."""
        (_, left, *_, right, _), (_, bottom, *_, top, _) = self.lines
        rim = 0.3 * self.cell
        return (float(left - rim), float(right + rim), float(bottom - rim), float(top + rim))

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """(2,): a place in a cell that can be reached and is not the start."""
        middle = self.goals[generator.integers(len(self.goals))]
        return middle + self.cell * generator.uniform(-SPREAD, SPREAD, size=2)

    def middle(self, index: tuple[int, int]) -> np.ndarray:
        return self.cell * (np.array(index) - self.start)

    def rectangles(self) -> list[Area]:
        """The walls, each row's neighbouring cells as one, so that nothing catches on a seam."""
        (across, along), found = self.lines, []
        for j in range(self.walls.shape[1]):
            column = np.concatenate([[False], self.walls[:, j], [False]])
            starts, stops = np.flatnonzero(~column[:-1] & column[1:]), np.flatnonzero(column[:-1] & ~column[1:])
            for first, stop in zip(starts, stops, strict=True):
                found.append((float(across[first]), float(across[stop]), float(along[j]), float(along[j + 1])))
        return found

    def blocks(self, height: float) -> list[Block]:
        """The walls as boxes that stand on the floor."""
        return [
            Block(
                centre=((left + right) / 2, (bottom + top) / 2, height / 2),
                half=((right - left) / 2, (top - bottom) / 2, height / 2),
            )
            for left, right, bottom, top in self.rectangles()
        ]

    def index(self, xy: np.ndarray) -> np.ndarray:
        """(n, 2) places to the (n, 2) cells that they lie in."""
        return np.stack([np.searchsorted(self.lines[k], xy[:, k], side="right") - 1 for k in (0, 1)], axis=1)

    def slide(self, xy: np.ndarray, move: np.ndarray) -> np.ndarray:
        """Where points end that set out from free places, (n, 2) and (n, 2) to (n, 2).

        Each goes straight from line to line, however many lines `move` crosses. At a wall the part of the move that
        goes into it is lost, also where the wall ends later on, and the rest goes on along the wall. Where a path runs
        into a corner exactly, x comes first.
        """
        place, move, cell = xy.copy(), move.copy(), self.index(xy)
        going = np.flatnonzero(move.any(axis=1))
        while len(going):
            done = self._to_the_next_line(place, move, cell, going)
            going = going[~done]
        return place

    def _to_the_next_line(self, place: np.ndarray, move: np.ndarray, cell: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """One stretch of each of `rows`, in place. (m,) bool: which of them have come to their end."""
        here, go, at = place[rows], move[rows], cell[rows]  # (m, 2) each
        low = np.stack([self.lines[k][at[:, k]] for k in (0, 1)], axis=1)
        end = np.stack([self.lines[k][at[:, k] + 1] for k in (0, 1)], axis=1)
        high = np.nextafter(end, -np.inf)  # the last place that is in the cell
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(go == 0, np.inf, (np.where(go > 0, end, low) - here) / go)  # of the move, to each line
        axis, m = share.argmin(axis=1), np.arange(len(rows))
        part = np.minimum(share[m, axis], 1.0)
        here = np.clip(here + part[:, None] * go, low, high)  # rounding must not carry it over the other line
        crosses = share[m, axis] <= 1.0
        up = go[m, axis] > 0
        after = at.copy()
        after[m, axis] += np.where(up, 1, -1)
        blocked = crosses & self.walls[after[:, 0], after[:, 1]]
        enters = crosses & ~blocked
        go = (1.0 - part)[:, None] * go
        go[blocked, axis[blocked]] = 0.0
        edge = np.where(up, high[m, axis], low[m, axis])
        over = np.where(up, end[m, axis], np.nextafter(low[m, axis], -np.inf))
        here[m, axis] = np.where(enters, over, np.where(blocked, edge, here[m, axis]))
        place[rows], move[rows], cell[rows] = here, go, np.where(enters[:, None], after, at)
        return ~crosses | ~go.any(axis=1)

    def _reachable(self) -> Sequence[tuple[int, int]]:
        """Cells, nearest first, that can be walked to from the start."""
        found, queue = {self.start}, [self.start]
        for i, j in queue:
            for nearby in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if not self.walls[nearby] and nearby not in found:
                    found.add(nearby)
                    queue.append(nearby)
        return queue
