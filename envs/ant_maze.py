"""The task `goal` for the Ant in a maze (Fu et al. 2020, D4RL's AntMaze): sparse, and the way there is not straight."""

from collections.abc import Mapping, Sequence
from typing import Any

from envs import ant
from envs.goal import GoalTask
from envs.maze import Maze
from envs.task import positive
from envs.vector import BatchedEnv

OBSERVE = [*ant.OBSERVE, "goal"]


class AntMaze(BatchedEnv):
    """`goal` for the Ant among walls. The start is the origin; goals lie in all other cells, drawn each episode.

    Cells, walls and radius are D4RL's and Gymnasium-Robotics'. Their Ant starts in other cells too where a task says
    so, falls or turns over without an end as here, and goes on after a goal, where here the episode ends.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation (D4RL: 700 in u, 1000 in medium).
        observe: out of the Ant's parts and goal (2, absolute x and y).
        layout: "u" or "medium".
        cell: side of the maze's cells.
        wall_height: of its walls.
        radius: of a goal's disc.
        reset_noise_scale, frame_skip: the Ant's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 700,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = ant.VIEWS,
        coverage: Mapping[str, Any] = ant.COVERAGE,
        record: Sequence[str] = ant.RECORD,
        layout: str = "u",
        cell: float = 4.0,
        wall_height: float = 2.0,
        radius: float = 0.5,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        positive(wall_height=wall_height)
        maze = Maze(layout=layout, cell=cell, radius=radius)
        body = ant.unrewarded(
            reset_noise_scale=reset_noise_scale, frame_skip=frame_skip, blocks=maze.blocks(wall_height)
        )
        super().__init__(
            GoalTask(body, places=maze, radius=radius),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
