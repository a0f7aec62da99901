"""The contract of a use, with the usual answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from skillrl.learners.base import Learner
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec
from skillrl.training import Schedule

Measured = tuple[dict[str, Any], dict[str, np.ndarray]]
"""Scores for ``eval/metrics.json`` and arrays for ``eval/trajectories.npz``."""


class Use:
    """What skills are used for.

    name: of the phase, in metrics.csv and checkpoints. folder: in a run, where what was trained is kept.
    schedule: its budget. capacity: of its replay, in env steps.
    """

    name: str
    folder: str
    schedule: Schedule
    capacity: int

    def learner(
        self,
        spec: Spec,
        skills: SkillPolicy,
        controller: Callable[..., Learner] | None,
        critic: Callable[[], dict[str, Tensor]],
    ) -> Learner:
        """What is trained on the task of ``spec``; it acts by its ``behaviour()`` as its ``prior()`` tells it.

        Args:
            controller: of the config. critic: → the tensors of the critic that taught ``skills``; raises ValueError
                where there is none, and so is called only if it is wanted.
        """
        raise NotImplementedError

    def measure(self, learner: Any, env: Any, *, seed: int) -> Measured:
        """What an evaluation should know beyond success and return. env: the task's, with 48 rows."""
        return {}, {}
