"""A controller that is an RL agent over decisions, as RL is, among frozen skills and the env's own actions at once.

(Sutton, Precup & Singh 1999, section 3.) What an action is there, and how long it lasts: ``composition/mixed.py``.
"""

from collections.abc import Callable, Sequence

from skillrl.agents.base import Agent
from skillrl.agents.dqn import DQN
from skillrl.composition.mixed import Mixed as MixedPolicy
from skillrl.controllers.rl import RL
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec


class Mixed(RL):
    """Args:
    skills: frozen, and such that can be counted.
    hold: env steps of a skill; an action is one.
    agent, hidden_dims, obs_view, batch_size: those of ``RL``.
    """

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        agent: Callable[..., Agent] = DQN,
        hold: int = 10,
        hidden_dims: Sequence[int] = (256, 256),
        obs_view: str | None = None,
        batch_size: int = 128,
    ):
        mixed = MixedPolicy(skills)
        super().__init__(
            spec,
            mixed,
            agent=agent,
            hold=hold,
            hidden_dims=hidden_dims,
            obs_view=obs_view,
            batch_size=batch_size,
        )
