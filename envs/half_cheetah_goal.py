"""HalfCheetahGoal (Park et al. 2024, METRA; Zheng et al. 2024, CSF): be near an x that is drawn each episode."""

from collections.abc import Mapping, Sequence
from typing import Any

from envs import half_cheetah
from envs.stay import StayTask
from envs.vector import BatchedEnv

OBSERVE = [*half_cheetah.OBSERVE, "goal"]


class HalfCheetahGoal(BatchedEnv):
    """The HalfCheetah in a goal on its line. `info["xy"]` is (x, 0).

    The numbers are those of CSF's released code. There a first step inside pays nothing; here every step does.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the HalfCheetah's parts and goal (1, absolute x).
        goal_range: goals are drawn uniformly from [-goal_range, goal_range].
        radius: how far from the goal a step still pays.
        reset_noise_scale, frame_skip: the HalfCheetah's.

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
        views: Mapping[str, Sequence[str]] = half_cheetah.VIEWS,
        coverage: Mapping[str, Any] = half_cheetah.COVERAGE,
        record: Sequence[str] = half_cheetah.RECORD,
        goal_range: float = 100.0,
        radius: float = 3.0,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        super().__init__(
            StayTask(
                half_cheetah.unrewarded(reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
                goal_range=goal_range,
                radius=radius,
                axes=1,
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
