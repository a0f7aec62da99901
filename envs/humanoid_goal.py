"""HumanoidGoal (Park et al. 2024, METRA; Zheng et al. 2024, CSF): be in a disc that is drawn each episode."""

from collections.abc import Mapping, Sequence
from typing import Any

from envs import humanoid
from envs.stay import StayTask
from envs.vector import BatchedEnv

OBSERVE = [*humanoid.OBSERVE, "goal"]


class HumanoidGoal(BatchedEnv):
    """The Humanoid in a goal. Falling does not end an episode.

    The numbers are those of CSF's released code, which has dm_control's humanoid, seen in pictures, where this is
    Gymnasium's. There a first step inside pays nothing; here every step does.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the Humanoid's parts and goal (2, absolute x and y).
        goal_range: goals are drawn uniformly from [-goal_range, goal_range] along each axis.
        radius: how far from the goal a step still pays.
        reset_noise_scale, frame_skip: the Humanoid's.

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
        views: Mapping[str, Sequence[str]] = humanoid.VIEWS,
        coverage: Mapping[str, Any] = humanoid.COVERAGE,
        record: Sequence[str] = humanoid.RECORD,
        goal_range: float = 5.0,
        radius: float = 1.5,
        reset_noise_scale: float = 1e-2,
        frame_skip: int = 5,
    ):
        super().__init__(
            StayTask(
                humanoid.unrewarded(reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
                goal_range=goal_range,
                radius=radius,
                extent=3.0,
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
