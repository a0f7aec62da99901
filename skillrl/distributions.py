"""Distributions over actions and skills, batched; every method is differentiable where the maths is."""

import math
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.autograd import Function
from torch.nn import functional as F


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


class _Kept(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.range
        return grad * torch.where(grad < 0, high - x, x - low) / (high - low), None, None


def kept(x: Tensor, low: float, high: float) -> Tensor:
    """x within [low, high], where descent keeps it: its gradient is scaled by the share of the range that is left on
    the side to which descent goes, and beyond an edge it points back (the inverting gradients of Hausknecht and Stone
    2016, arXiv:1511.04143). What a squashing function was driven far into hardly moves again; this does."""
    inside: Tensor = _Kept.apply(x, low, high)
    return inside


class NoisyMode:
    """A mode in [-1, 1]^A with normal noise that is cut off at ±clip, and the sum at the box's edge, where the gradient
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

    def entropy(self) -> Tensor:
        """Of the normal, as if nothing were cut off, in nats, (...)."""
        return DiagonalNormal(self.mean, self.std.log().expand_as(self.mean)).entropy()


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
