"""Ordinary RL as a learner, so that baselines run through the same loop: one skill, and the env's own reward."""

from collections.abc import Callable, Sequence

from torch import Tensor

from skillrl.agents.base import Agent
from skillrl.agents.sac import SAC
from skillrl.learners.base import RewardLearner
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Spec


class Flat(RewardLearner):
    """r = r_env. The arguments are ``RewardLearner``'s."""

    teams = True

    def __init__(
        self,
        spec: Spec,
        *,
        agent: Callable[..., Agent] = SAC,
        hidden_dims: Sequence[int] = (256, 256),
        policy_view: str | None = None,
        batch_size: int = 256,
    ):
        super().__init__(
            spec,
            skill_space=Discrete(1),
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=None,
        )

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        return batch["reward"]
