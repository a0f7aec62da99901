"""What every RL backbone shares. Networks are handed to it; z is a conditioning input that it never looks into."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from torch import Generator, nn

from skillrl.networks import Critic, TeamCritic
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import SkillSpace
from skillrl.spec import Batch, Discrete, Field, Metrics, Need, Spec


class Agent(nn.Module):
    """``gamma`` is what the replay and the collector discount with: the batch arrives with ``discount`` in it.

    policy_class, policy_arguments: the policy that it trains, if its learner has no class of its own, and what that
    class is called with in either case.
    """

    gamma: float
    policy_class: type[SkillPolicy] = ActorPolicy
    policy_arguments: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec

    @classmethod
    def critic_of(cls, policy: SkillPolicy, make: Callable[..., Critic], hidden_dims: Sequence[int]) -> nn.Module:
        """The critic beside ``policy``: here ``make(obs, action, space, hidden_dims)``, of a box action."""
        if isinstance(policy.action, Discrete):
            raise ValueError(f"agent {cls.__name__} needs a box action, this one is discrete: take agent dqn or ppo")
        return make(policy.obs, policy.action, policy.space, hidden_dims)

    def need(self, of: Literal["transitions", "decisions"], batch_size: int) -> Need:
        """The data of one update: that many of these, drawn from all that there are."""
        return Need(of, batch_size)

    def update(self, batch: Batch, generator: Generator | None = None) -> Metrics:
        """One gradient step of everything, on obs, action, reward, next_obs, discount, z, next_z."""
        raise NotImplementedError


def check(where: str, **values: tuple[float, str]) -> None:
    """Each value comes with its interval, "[0, 1]" or "(0, inf)"; outside, ValueError names ``where.name``."""
    for name, (value, interval) in values.items():
        low, high = (float(end) for end in interval[1:-1].split(","))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        above = number and (value > low if interval[0] == "(" else value >= low)
        below = number and (value < high if interval[-1] == ")" else value <= high)
        if not (above and below):
            raise ValueError(f"{where}.{name} is {value!r}: it must be a number in {interval}")


def check_whole(where: str, **values: int) -> None:
    """Each value must be a whole number of at least 1; otherwise ValueError names ``where.name``."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{where}.{name} is {value!r}: it must be a whole number of at least 1")


def build(
    agent: Callable[..., Agent],
    spec: Spec,
    *,
    obs: Field,
    action: Field | Discrete,
    space: SkillSpace,
    hidden_dims: Sequence[int],
    critic: Callable[..., Critic] | None = None,
    policy_class: type[SkillPolicy] | None = None,
    **arguments: Any,
) -> tuple[SkillPolicy, Agent]:
    """A policy and the agent that trains it, with networks of ``hidden_dims``.

    agent: the class, or a partial of it. critic: likewise, of agents with a Q of box actions; with channels for a
        vector reward. None: ``usual_critic``.
    policy_class: instead of the agent's own, called with ``arguments`` too.
    """
    if len(obs.shape) > 2:
        raise ValueError(f"an observation {obs.shape} of {obs.dtype}: this learner takes states, (n,), and no pictures")
    agent_class: Any = getattr(agent, "func", agent)
    policy_class, arguments = policy_class or agent_class.policy_class, {**agent_class.policy_arguments, **arguments}
    policy: Any = policy_class(obs=obs, action=action, space=space, hidden_dims=hidden_dims, **arguments)
    made = agent_class.critic_of(policy, critic or usual_critic(spec), hidden_dims)
    return policy, agent(spec, actor=policy.actor, critic=made)


def usual_critic(spec: Spec) -> type[Critic]:
    """Of one body; of a team, one that sees all of it, though each agent acts by what it sees itself."""
    return Critic if spec.agents == 1 else TeamCritic
