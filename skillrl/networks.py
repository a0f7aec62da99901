"""Networks that give distributions and values. One takes (obs, z): z as the space samples it, embedded here."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skillrl.distributions import (
    Categorical,
    DiagonalNormal,
    Distribution,
    EpsilonGreedyChoice,
    NoisyMode,
    TanhNormal,
    kept,
)
from skillrl.layers import mlp, tanh_mlp
from skillrl.skill_spaces import MultiDiscrete, SkillSpace
from skillrl.spec import Discrete, Field

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # SAC's usual range (Haarnoja 2018; Stable-Baselines3)


def _inputs(space: SkillSpace, obs: Tensor, z: Tensor, *others: Tensor) -> Tensor:
    """Everything side by side, (..., width). With an agents axis in obs, (B, A, ...), z may be one for all of them."""
    parts = [obs.float(), *others]
    if space.embed_dim > 0:
        skill = space.embed(z)
        skill = skill.unsqueeze(-2) if skill.dim() < obs.dim() else skill
        parts.append(skill.expand(*obs.shape[:-1], -1))
    if len(parts) == 1:
        return parts[0]
    if obs.dim() == 2 and any(part.requires_grad for part in others):
        return torch.cat([part.t() for part in parts]).t()  # then the gradient's product is as wide as the batch
    return torch.cat(parts, -1)


class Actor(nn.Module):
    """π(a | obs, z): a tanh-normal over a box, or a categorical.

    Its last layer starts at a hundredth of PyTorch's scale, as Andrychowicz et al. 2021 (arXiv:2006.05990, section 3.2)
    recommend for on-policy learners and rlkit's SAC does: before training every skill does the same, nothing, and
    explores evenly around it.
    """

    def __init__(self, obs: Field, action: Field | Discrete, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__()
        self.space = space
        self.discrete = isinstance(action, Discrete)
        out = action.n if isinstance(action, Discrete) else 2 * action.dim
        self.net = mlp(obs.dim + space.embed_dim, hidden_dims, out)
        with torch.no_grad():
            for parameter in self.net[-1].parameters():
                parameter.mul_(0.01)

    def forward(self, obs: Tensor, z: Tensor) -> Distribution:
        """obs (..., obs_dim), z as the space samples it."""
        out = self.net(_inputs(self.space, obs, z))
        if self.discrete:
            return Categorical(out)
        mean, log_std = out.chunk(2, -1)
        return TanhNormal(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))


class NoisyActor(nn.Module):
    """μ(obs, z) in a box, with noise of one size: the actor of DDPG and its kin. Its noise is its owner's to set."""

    noise: Tensor

    def __init__(self, obs: Field, action: Field | Discrete, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__()
        if isinstance(action, Discrete):
            raise ValueError("noise around a mode needs a box action, this one is discrete: take agent dqn or ppo")
        self.space = space
        self.net = mlp(obs.dim + space.embed_dim, hidden_dims, action.dim)
        self.register_buffer("noise", torch.tensor([0.2, 0.3]))  # its deviation, and where it is cut off

    def set_noise(self, std: float, clip: float) -> None:
        self.noise.copy_(torch.tensor([std, clip]))

    def forward(self, obs: Tensor, z: Tensor) -> NoisyMode:
        """obs (..., obs_dim), z as the space samples it."""
        return NoisyMode(torch.tanh(self.net(_inputs(self.space, obs, z))), self.noise[0], self.noise[1])


class WideActor(nn.Module):
    """A normal around μ(obs, z) in a box, cut off at the box's edge, where the gradient passes: the actor of DreamerV2.
    Its deviation is learnt, starts at about 1.1 and stays above 0.1. Not ``squash``ed by a tanh, μ is ``kept``."""

    def __init__(
        self, obs: Field, action: Field, space: SkillSpace, hidden_dims: Sequence[int], *, squash: bool = True
    ):
        super().__init__()
        self.space, self.squash = space, squash
        self.net = mlp(obs.dim + space.embed_dim, hidden_dims, 2 * action.dim, nn.ELU)

    def forward(self, obs: Tensor, z: Tensor) -> NoisyMode:
        """obs (..., obs_dim), z as the space samples it."""
        mean, std = self.net(_inputs(self.space, obs, z)).chunk(2, -1)
        std = 2 * torch.sigmoid(std / 2) + 0.1
        mode = torch.tanh(mean) if self.squash else kept(mean, -1.0, 1.0)
        return NoisyMode(mode, std, torch.full_like(std, math.inf))


class OnPolicyActor(nn.Module):
    """π(a | obs, z) as Stable-Baselines3's PPO has it: a normal whose deviation does not depend on the state, and
    whose draws are clipped to the box by whoever acts; or a categorical."""

    def __init__(self, obs: Field, action: Field | Discrete, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__()
        self.space = space
        out = action.n if isinstance(action, Discrete) else action.dim
        self.net = tanh_mlp(obs.dim + space.embed_dim, hidden_dims, out, gain=0.01)
        self.log_std = None if isinstance(action, Discrete) else nn.Parameter(torch.zeros(out))

    def forward(self, obs: Tensor, z: Tensor) -> DiagonalNormal | Categorical:
        """obs (..., obs_dim), z as the space samples it."""
        out = self.net(_inputs(self.space, obs, z))
        return Categorical(out) if self.log_std is None else DiagonalNormal(out, self.log_std.expand_as(out))


class Value(nn.Module):
    """V(obs, z): (...), the critic of an on-policy agent."""

    def __init__(self, obs: Field, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__()
        self.space = space
        self.net = tanh_mlp(obs.dim + space.embed_dim, hidden_dims, 1, gain=1.0)

    def forward(self, obs: Tensor, z: Tensor) -> Tensor:
        return self.net(_inputs(self.space, obs, z)).squeeze(-1)


class Critic(nn.Module):
    """An ensemble of Q(obs, a, z), each with C channels: (ensemble, B, C).

    ``reduce`` says what the actor climbs: here the sum of the channels; a successor-feature critic takes ψ·z instead.
    ``entropy_channel``: the last channel is of no reward, but of the entropy that the agent is paid for.
    """

    entropy_channel: bool = False

    def __init__(
        self,
        obs: Field,
        action: Field,
        space: SkillSpace,
        hidden_dims: Sequence[int],
        *,
        ensemble: int = 2,
        channels: int = 1,
    ):
        super().__init__()
        self.space, self.channels = space, channels
        in_dim = obs.dim + action.dim + space.embed_dim
        self.nets = nn.ModuleList(self.make_net(in_dim, hidden_dims, channels) for _ in range(ensemble))

    def make_net(self, in_dim: int, hidden_dims: Sequence[int], channels: int) -> nn.Module:
        """(B, in_dim) → (B, channels)."""
        return mlp(in_dim, hidden_dims, channels)

    def forward(self, obs: Tensor, z: Tensor, action: Tensor) -> Tensor:
        inputs = _inputs(self.space, obs, z, action)
        return torch.stack([net(inputs) for net in self.nets])  # (ensemble, B, C)

    def reduce(self, q: Tensor, z: Tensor) -> Tensor:
        """(ensemble, B, C) → (ensemble, B)."""
        return q.sum(-1)


class TeamCritic(Critic):
    """A centralised critic: for each agent of a team the Q of what all of them see and do, (ensemble, B, agents, C).

    obs is (B, agents, D), action (B, agents, A), and z one for the team, (B, ...).
    """

    def __init__(
        self,
        obs: Field,
        action: Field,
        space: SkillSpace,
        hidden_dims: Sequence[int],
        *,
        ensemble: int = 2,
        channels: int = 1,
    ):
        agents = obs.shape[0]
        super().__init__(
            obs.as_one(), action.as_one(), space, hidden_dims, ensemble=ensemble, channels=agents * channels
        )
        self.agents, self.channels = agents, channels

    def forward(self, obs: Tensor, z: Tensor, action: Tensor) -> Tensor:
        q = super().forward(obs.flatten(-2), z, action.flatten(-2))  # (ensemble, B, agents · C)
        return q.unflatten(-1, (self.agents, self.channels))


def along_axes(space: SkillSpace, channels: int) -> Tensor:
    """What ``reduce`` does, for those who have a critic's tensors alone: channels weigh (C, direction_dim + 1) @
    (direction(z), 1). Here one channel an axis, and the last, if it is one more than these, for itself."""
    return torch.eye(channels, space.direction_dim + 1)


class SuccessorCritic(Critic):
    """ψ(obs, a, z): the discounted sum of steps in a latent space, one channel an axis. The actor climbs ψ·z."""

    def __init__(self, obs: Field, action: Field, space: SkillSpace, hidden_dims: Sequence[int], *, ensemble: int = 2):
        super().__init__(obs, action, space, hidden_dims, ensemble=ensemble, channels=space.direction_dim)
        self.register_buffer("along", along_axes(space, self.channels))

    def reduce(self, q: Tensor, z: Tensor) -> Tensor:
        return (q * self.space.direction(z)).sum(-1)


class SideBySide(nn.Module):
    """Networks that share nothing but their input; each gives a column."""

    def __init__(self, in_dim: int, hidden_dims: Sequence[int], columns: int):
        super().__init__()
        self.nets = nn.ModuleList(mlp(in_dim, hidden_dims, 1) for _ in range(columns))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([net(inputs) for net in self.nets], -1)


class FactoredCritic(Critic):
    """One channel a factor of z, each with a network of its own, and one for the entropy. Their sum is Q."""

    entropy_channel = True

    def __init__(
        self, obs: Field, action: Field, space: MultiDiscrete, hidden_dims: Sequence[int], *, ensemble: int = 2
    ):
        super().__init__(obs, action, space, hidden_dims, ensemble=ensemble, channels=space.factors + 1)

    def make_net(self, in_dim: int, hidden_dims: Sequence[int], channels: int) -> nn.Module:
        return SideBySide(in_dim, hidden_dims, channels)


class SuccessorValues(nn.Module):
    """ψ(obs, ·, z) over n actions: (ensemble, B, n, direction_dim), and their values ψ·z, (ensemble, B, n)."""

    def __init__(
        self, obs: Field, action: Discrete, space: SkillSpace, hidden_dims: Sequence[int], *, ensemble: int = 2
    ):
        super().__init__()
        self.space, self.shape = space, (action.n, space.direction_dim)
        in_dim = obs.dim + space.embed_dim
        self.nets = nn.ModuleList(mlp(in_dim, hidden_dims, action.n * space.direction_dim) for _ in range(ensemble))

    def successors(self, obs: Tensor, z: Tensor) -> Tensor:
        inputs = _inputs(self.space, obs, z)
        return torch.stack([net(inputs) for net in self.nets]).unflatten(-1, self.shape)

    def chosen(self, obs: Tensor, z: Tensor, action: Tensor) -> Tensor:
        """Of the actions (B,): (ensemble, B, direction_dim)."""
        index = action[None, :, None, None]
        return torch.take_along_dim(self.successors(obs, z), index, -2).squeeze(-2)

    def forward(self, obs: Tensor, z: Tensor) -> Tensor:
        return (self.successors(obs, z) * self.space.direction(z).unsqueeze(-2)).sum(-1)


class DiscreteCritic(nn.Module):
    """An ensemble of Q(obs, ·, z) over n actions: (ensemble, B, n)."""

    def __init__(
        self, obs: Field, action: Discrete, space: SkillSpace, hidden_dims: Sequence[int], *, ensemble: int = 1
    ):
        super().__init__()
        self.space = space
        in_dim = obs.dim + space.embed_dim
        self.nets = nn.ModuleList(mlp(in_dim, hidden_dims, action.n) for _ in range(ensemble))

    def forward(self, obs: Tensor, z: Tensor) -> Tensor:
        inputs = _inputs(self.space, obs, z)
        return torch.stack([net(inputs) for net in self.nets])


class EpsilonGreedy(nn.Module):
    """The actor of a value-based agent: it owns the critic that it reads and the ε that its agent anneals."""

    epsilon: Tensor

    def __init__(self, critic: nn.Module, epsilon: float = 1.0):
        super().__init__()
        self.critic = critic
        self.register_buffer("epsilon", torch.tensor(epsilon))

    def forward(self, obs: Tensor, z: Tensor) -> Distribution:
        return EpsilonGreedyChoice(self.critic(obs, z).amin(0), self.epsilon)


class ValueActor(EpsilonGreedy):
    """As policies make their actors: with a critic of its own."""

    def __init__(self, obs: Field, action: Field | Discrete, space: SkillSpace, hidden_dims: Sequence[int]):
        if not isinstance(action, Discrete):
            raise ValueError("agent dqn needs a discrete action, this one is a box: take agent sac")
        super().__init__(DiscreteCritic(obs, action, space, hidden_dims))
