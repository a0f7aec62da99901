"""Networks and the distributions that they give. A network takes (obs, z): z as the space samples it, embedded here."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.skill_spaces import MultiDiscrete, SkillSpace
from skillrl.spec import Discrete, Field

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # SAC's usual range (Haarnoja 2018; Stable-Baselines3)


class Distribution(Protocol):
    """Over actions, batched; every method differentiable where the maths is."""

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]: ...
    def mode(self) -> Tensor: ...
    def log_prob(self, action: Tensor) -> Tensor: ...


class TanhNormal:
    """tanh of a diagonal normal, on (-1, 1)^A. mean, log_std: (..., A)."""

    def __init__(self, mean: Tensor, log_std: Tensor):
        self.mean, self.log_std = mean, log_std

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """A reparametrised action (..., A) and its log-density (...)."""
        shape, device = self.mean.shape, self.mean.device
        return self.from_noise(torch.randn(shape, generator=generator, device=device, dtype=self.mean.dtype))

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The action that standard normal ``noise`` (..., A) stands for, and its log-density."""
        raw = self.mean + self.log_std.exp() * noise
        normal = -0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return torch.tanh(raw), (normal - _log_tanh_slope(raw)).sum(-1)

    def mode(self) -> Tensor:
        return torch.tanh(self.mean)

    def log_prob(self, action: Tensor) -> Tensor:
        """Of an action strictly inside the box, (...)."""
        raw = torch.atanh(action.clamp(-1 + 1e-6, 1 - 1e-6))
        noise = (raw - self.mean) * torch.exp(-self.log_std)
        normal = -0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return (normal - _log_tanh_slope(raw)).sum(-1)


def _log_tanh_slope(raw: Tensor) -> Tensor:
    """log(1 − tanh²(raw)), exact also where tanh saturates."""
    return 2 * (math.log(2) - raw - F.softplus(-2 * raw))


class DiagonalNormal:
    """A normal with independent axes, over all of R^D. mean, log_std: (..., D)."""

    def __init__(self, mean: Tensor, log_std: Tensor):
        self.mean, self.log_std = mean, log_std

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """A reparametrised value (..., D) and its log-density (...)."""
        shape, device = self.mean.shape, self.mean.device
        noise = torch.randn(shape, generator=generator, device=device, dtype=self.mean.dtype)
        value = self.mean + self.log_std.exp() * noise
        return value, self.log_prob(value)

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        noise = (value - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """In nats, (...)."""
        return (0.5 + 0.5 * math.log(2 * math.pi) + self.log_std).sum(-1)


class NoisyMode:
    """A mode in (-1, 1)^A with normal noise that is cut off at ±clip, and the sum at the box's edge, where the gradient
    passes nevertheless (DrQ-v2's truncated normal). mean: (..., A)."""

    def __init__(self, mean: Tensor, std: Tensor, clip: Tensor):
        self.mean, self.std, self.clip = mean, std, clip

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """An action (..., A), and its log-density (...) as if nothing were cut off."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        free = self.mean + (self.std * noise).clamp(-self.clip, self.clip)
        action = free + (free.clamp(-1 + 1e-6, 1 - 1e-6) - free).detach()
        return action, self.log_prob(action)

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        return DiagonalNormal(self.mean, self.std.log().expand_as(self.mean)).log_prob(action)


class Categorical:
    """Over n actions; logits (..., n), an action is an int64 (...)."""

    def __init__(self, logits: Tensor):
        self.logits = logits.log_softmax(-1)

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """By the Gumbel trick: no host synchronisation, and one draw of noise per logit."""
        uniform = torch.rand(self.logits.shape, generator=generator, device=self.logits.device)
        action = (self.logits - torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-7)))).argmax(-1)
        return action, self.log_prob(action)

    def mode(self) -> Tensor:
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.logits.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """In nats, (...)."""
        return -(self.logits.exp() * self.logits).sum(-1)


relu = partial(nn.ReLU, inplace=True)  # a linear layer's output is needed by nobody else: a pass over memory less


def mlp(
    in_dim: int, hidden_dims: Sequence[int], out_dim: int, activation: Callable[[], nn.Module] = relu
) -> nn.Sequential:
    """Linear layers with ``activation`` between them, PyTorch's own initialisation (as Stable-Baselines3's)."""
    if any(width < 1 for width in hidden_dims):
        raise ValueError(f"hidden_dims is {list(hidden_dims)}: each width must be at least 1")
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers += [nn.Linear(in_dim, width), activation()]
        in_dim = width
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))


def feature_mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> nn.Sequential:
    """An ``mlp`` whose first layer is normalised and squashed, as DrQ-v2's and, after it, FB's and HILP's code have it:
    how large an observation is says little."""
    if len(hidden_dims) == 0:
        raise ValueError("the widths of a feature network are []: it needs at least one hidden layer")
    first, *others = hidden_dims
    return nn.Sequential(nn.Linear(in_dim, first), nn.LayerNorm(first), nn.Tanh(), *mlp(first, others, out_dim))


def tanh_mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int, gain: float) -> nn.Sequential:
    """With tanh, orthogonal weights scaled by √2 (in the last layer by ``gain``) and no biases at first: the form of
    on-policy agents since OpenAI's baselines, and Stable-Baselines3's."""
    net = mlp(in_dim, hidden_dims, out_dim, nn.Tanh)
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer in linear:
        nn.init.orthogonal_(layer.weight, gain if layer is linear[-1] else math.sqrt(2))
        nn.init.zeros_(layer.bias)
    return net


def _inputs(space: SkillSpace, obs: Tensor, z: Tensor, *others: Tensor) -> Tensor:
    """Everything side by side, (..., width). With an agents axis in obs, (B, A, ...), z may be one for all of them."""
    parts = [obs.float(), *others]
    if space.embed_dim > 0:
        skill = space.embed(z)
        skill = skill.unsqueeze(-2) if skill.dim() < obs.dim() else skill
        parts.append(skill.expand(*obs.shape[:-1], -1))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


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

    def __init__(self, obs: Field, action: Field, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__()
        self.space = space
        self.net = mlp(obs.dim + space.embed_dim, hidden_dims, action.dim)
        self.register_buffer("noise", torch.tensor([0.2, 0.3]))  # its deviation, and where it is cut off

    def set_noise(self, std: float, clip: float) -> None:
        self.noise.copy_(torch.tensor([std, clip]))

    def forward(self, obs: Tensor, z: Tensor) -> NoisyMode:
        """obs (..., obs_dim), z as the space samples it."""
        return NoisyMode(torch.tanh(self.net(_inputs(self.space, obs, z))), self.noise[0], self.noise[1])


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


class SuccessorCritic(Critic):
    """ψ(obs, a, z): the discounted sum of steps in a latent space, one channel an axis. The actor climbs ψ·z."""

    def __init__(self, obs: Field, action: Field, space: SkillSpace, hidden_dims: Sequence[int], *, ensemble: int = 2):
        super().__init__(obs, action, space, hidden_dims, ensemble=ensemble, channels=space.direction_dim)

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


class EpsilonGreedyChoice:
    """The best of n actions by value, or with probability ε any of them. values: (..., n)."""

    def __init__(self, values: Tensor, epsilon: Tensor):
        self.values, self.epsilon = values, epsilon

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        shape, device = self.values.shape, self.values.device
        explore = torch.rand(shape[:-1], generator=generator, device=device) < self.epsilon
        action = torch.where(
            explore, torch.randint(shape[-1], shape[:-1], generator=generator, device=device), self.mode()
        )
        return action, self.log_prob(action)

    def mode(self) -> Tensor:
        return self.values.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        any_of_them = self.epsilon / self.values.shape[-1]
        return torch.where(action == self.mode(), 1 - self.epsilon + any_of_them, any_of_them).log()


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
