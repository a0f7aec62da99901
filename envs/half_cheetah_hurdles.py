"""HalfCheetahHurdle (Park et al. 2024, METRA; Zheng et al. 2024, CSF): run over as many hurdles as time allows.

Hurdles, friction and reward are those of CSF's released code. A hurdle is a bar 0.23 high with 0.17 of air below it.
The reward is the change in the number of hurdles behind the back foot, of those ahead of the start: +1 for each that is
passed, -1 for each that is passed back, so that going to and fro earns nothing.

Wrong in that code, and right here: beyond the last hurdle the observation names the one at 15, which is far behind, as
the next. Odd there and the same here: the front foot's distance is computed but only the back foot's is observed, and
hurdles behind the start stand in the way without counting.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs import half_cheetah
from envs.memory import Arrays
from envs.physics import Block, Physics
from envs.render import MujocoPicture, Shot
from envs.task import Picture, Read, increasing
from envs.vector import BatchedEnv

OBSERVE = [*half_cheetah.OBSERVE, "hurdle"]
HURDLES = [-15.0, -13.0, -9.0, -5.0, -1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 23.0, 27.0]
_HALF, _HEIGHT = (0.05, 1.0, 0.03), 0.2  # of the bar, and of its centre
_BACK_FOOT = 4


class HurdlesTask(half_cheetah.HalfCheetahTask):
    """The HalfCheetah's body and start, with hurdles in its way."""

    def __init__(self, *, hurdles: Sequence[float], reset_noise_scale: float, frame_skip: int):
        super().__init__(
            forward_reward_weight=0.0, ctrl_cost_weight=0.0, reset_noise_scale=reset_noise_scale, frame_skip=frame_skip
        )
        increasing(hurdles=hurdles)
        self.hurdles = np.array(hurdles, dtype=np.float64)
        self.ahead = self.hurdles[self.hurdles >= 0]  # of the start: what is counted
        if not len(self.ahead):
            raise ValueError(f"hurdles={list(hurdles)!r}: at least one must be ahead of the start, at 0 or more")
        self.blocks = [Block(centre=(x, 0.0, _HEIGHT), half=_HALF) for x in self.hurdles.tolist()]

    def simulator(self, n: int) -> Physics:
        # The foot is one physics step behind qpos.
        fields = {"qpos": ("qpos", None), "qvel": ("qvel", None), "foot": ("xpos", _BACK_FOOT)}
        return Physics(xml="half_cheetah.xml", frame_skip=self.frame_skip, fields=fields, n=n, blocks=self.blocks)

    def parts(self) -> dict[str, Read]:
        return {**super().parts(), "hurdle": self._next}

    def infos(self) -> dict[str, Read]:
        return {**super().infos(), "success": lambda now: self._passed(now) == len(self.ahead)}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return (self._passed(now) - self._passed(before)).astype(np.float64)

    def picture(self) -> Picture:
        shot = Shot(distance=5.0, elevation=-18, azimuth=75, height=0.4, extent=4.0)
        return MujocoPicture("half_cheetah.xml", shot, self.blocks)

    def _passed(self, now: Arrays) -> np.ndarray:
        """(n,) hurdles ahead of the start and behind the back foot."""
        return np.searchsorted(self.ahead, now["foot"][:, 0], side="left")

    def _next(self, now: Arrays) -> np.ndarray:
        """(n, 2): x of the next hurdle, and how far the back foot has to go; beyond the last hurdle, that one's."""
        foot = now["foot"][:, 0]
        number = np.searchsorted(self.hurdles, foot, side="left")
        x = self.hurdles[np.minimum(number, len(self.hurdles) - 1)]
        return np.stack([x, x - foot], axis=1)


class HalfCheetahHurdles(BatchedEnv):
    """The HalfCheetah with hurdles in its way. `info["xy"]` is (x, 0); `info["success"]` is: all are behind it.

    Args:
        num_envs: rows.
        workers: processes that step them, this one included.
        horizon: env steps until truncation.
        observe: out of the HalfCheetah's parts and hurdle (2: x of the next one, and how far the back foot has to go).
        hurdles: where they stand, rising. Those below 0 are in the way and do not count.
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
        hurdles: Sequence[float] = HURDLES,
        reset_noise_scale: float = 0.1,
        frame_skip: int = 5,
    ):
        super().__init__(
            HurdlesTask(hurdles=hurdles, reset_noise_scale=reset_noise_scale, frame_skip=frame_skip),
            num_envs=num_envs,
            workers=workers,
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
