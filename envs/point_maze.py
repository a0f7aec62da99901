"""The task `goal` for a point in a maze: sparse, and the way there is not straight."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs import point
from envs.goal import GoalTask
from envs.maze import Maze
from envs.plane import PlanePicture
from envs.task import Picture
from envs.vector import BatchedEnv

OBSERVE = [*point.OBSERVE, "goal"]


class MazePointSimulator(point.PointSimulator):
    """n points that walls stop."""

    def __init__(self, maze: Maze, *, radius: float):
        super().__init__(radius=radius)
        self.maze = maze

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        self._xy[rows] = self.maze.slide(self._xy[rows], control[rows])


class MazePointTask(point.PointTask):
    """A point among walls, without a goal."""

    def __init__(self, maze: Maze, *, step_radius: float, horizon: int):
        super().__init__(step_radius=step_radius, horizon=horizon)
        self.maze = maze

    def simulator(self, n: int) -> MazePointSimulator:
        return MazePointSimulator(self.maze, radius=self.step_radius)

    def picture(self) -> Picture:
        return PlanePicture(extent=self.reach, walls=self.maze.rectangles())


class PointMaze(BatchedEnv):
    """`goal` for the point env among walls. The start is the origin; goals lie in all other cells, drawn each episode.

    Walls stop the point exactly, at any step length, and let it slide along them.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of xy (2) and goal (2).
        layout: "u" or "medium".
        cell: side of the maze's cells.
        radius: of a goal's disc.
        step_radius: the point's longest step.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 100,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = point.VIEWS,
        coverage: Mapping[str, Any] = point.COVERAGE,
        record: Sequence[str] = point.RECORD,
        layout: str = "u",
        cell: float = 1.0,
        radius: float = 0.3,
        step_radius: float = 0.2,
    ):
        maze = Maze(layout=layout, cell=cell, radius=radius)
        super().__init__(
            GoalTask(
                MazePointTask(maze, step_radius=step_radius, horizon=horizon),
                places=maze,
                radius=radius,
            ),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
