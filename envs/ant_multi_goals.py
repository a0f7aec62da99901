"""AntMultiGoals (Park et al. 2024, METRA; Zheng et al. 2024, CSF): be in one goal after another, each for a while."""

from collections.abc import Mapping, Sequence
from typing import Any

from envs import ant
from envs.stay import StayTask
from envs.task import whole
from envs.vector import BatchedEnv

OBSERVE = [*ant.OBSERVE, "goal"]


class AntMultiGoals(BatchedEnv):
    """The Ant in goals that move on every 50 steps. Falling does not end an episode.

    The numbers are those of CSF's released code. There all goals but the first are drawn once for the life of an env,
    around a goal that no episode has, and a first step inside pays nothing; here all are drawn in each episode and
    every step pays.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the Ant's parts, goal (2, absolute x and y) and age (1: of the goal, 1 when it moves on).
        goal_range: the first goal is drawn uniformly from [-goal_range, goal_range] along each axis.
        radius: how far from the goal a step still pays.
        every: env steps until the next goal.
        around: what the next goal's square is around: "goal" is the goal before it (CSF's code), "body" is where the
            Ant is then (the line that CSF's code has commented out, from METRA's).
        reset_noise_scale, frame_skip: the Ant's.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        workers: int = 0,
        horizon: int = 200,
        dtype: str = "float32",
        observe: Sequence[str] = OBSERVE,
        views: Mapping[str, Sequence[str]] = ant.VIEWS,
        coverage: Mapping[str, Any] = ant.COVERAGE,
        record: Sequence[str] = ant.RECORD,
        goal_range: float = 7.5,
        radius: float = 3.0,
        every: int = 50,
        around: str = "goal",
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        whole(1, every=every)
        super().__init__(
            StayTask(
                ant.unrewarded(reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
                goal_range=goal_range,
                radius=radius,
                every=every,
                around=around,
                extent=5.0,
            ),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
