"""Skill spaces: a prior over z. Each samples, scores, embeds and enumerates; none knows a network.

A space is a frozen dataclass, so that it can be written to a config and to a saved skill's ``config.json`` as it is.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from skillrl.spec import Discrete as DiscreteAction
from skillrl.spec import Field


class SkillSpace(Protocol):
    """The face of every space. Discrete z is an int64 (B,), or (B, factors); continuous z a float32 (B, dim).

    ``direction`` is what z stands for in a latent space of ``direction_dim`` axes: (B, direction_dim). ``toward`` is
    the z that goes along a direction best, whatever its length.
    """

    @property
    def embed_dim(self) -> int: ...
    @property
    def count(self) -> int | None: ...
    def sample(self, n: int, generator: Generator | None = None) -> Tensor: ...
    def log_prob(self, z: Tensor) -> Tensor: ...
    def embed(self, z: Tensor) -> Tensor: ...
    def enumerate(self, n: int | None = None) -> Tensor: ...
    def action(self) -> Field | DiscreteAction: ...
    def project(self, action: Tensor) -> Tensor: ...
    def direction(self, z: Tensor) -> Tensor: ...
    def toward(self, direction: Tensor) -> Tensor: ...
    @property
    def direction_dim(self) -> int: ...


COUNTABLE = 1000
"""Combinations of a ``MultiDiscrete`` that can be tried one by one."""


NO_DIRECTIONS = "skill_space Hybrid has no directions: its families differ in kind, take Sphere or Gaussian"


def _device(generator: Generator | None) -> torch.device:
    return generator.device if generator is not None else torch.device("cpu")


def _check_dim(space: str, name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"skill_space.{name} of {space} is {value!r}: it must be a whole number of at least 1")


@dataclass(frozen=True)
class Discrete:
    """``n`` skills, uniformly. z is an int64 (B,). One skill says nothing, so it embeds to nothing (width 0)."""

    n: int

    def __post_init__(self) -> None:
        _check_dim("Discrete", "n", self.n)

    @property
    def embed_dim(self) -> int:
        return self.n if self.n > 1 else 0

    @property
    def count(self) -> int | None:
        """How many skills there are; None where they are uncountable."""
        return self.n

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randint(self.n, (n,), generator=generator, device=_device(generator))

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.full(z.shape, -math.log(self.n), device=z.device)

    def embed(self, z: Tensor) -> Tensor:
        """One-hot, (..., n)."""
        if self.n == 1:
            return torch.zeros(*z.shape, 0, device=z.device)
        return one_hot(z, self.n)

    def enumerate(self, n: int | None = None) -> Tensor:
        """All skills in order, dealt round until there are ``n``."""
        return torch.arange(n if n is not None else self.n) % self.n

    def action(self) -> Field | DiscreteAction:
        """What a controller must give, for ``project`` to make it a skill."""
        return DiscreteAction(self.n)

    def project(self, action: Tensor) -> Tensor:
        return action

    @property
    def direction_dim(self) -> int:
        return self.n

    def direction(self, z: Tensor) -> Tensor:
        """One-hot, centred, so that the skills' mean is no direction (LSD and METRA; Park et al. 2022, 2024)."""
        if self.n == 1:
            raise ValueError("skill_space.n is 1: one skill has no direction, take at least 2")
        return (one_hot(z, self.n) - 1 / self.n) * (self.n / (self.n - 1))

    def toward(self, direction: Tensor) -> Tensor:
        return direction.argmax(-1)


@dataclass(frozen=True)
class Codebook(Discrete):
    """``n`` codes in a space of ``dim`` axes, uniformly. z is a code's number; where it lies is learnt, and
    its policy's to know."""

    n: int
    dim: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dim("Codebook", "dim", self.dim)


@dataclass(frozen=True)
class MultiDiscrete:
    """``factors`` choices at once, each one of ``n``, uniformly. z is an int64 (B, factors).

    Its n^factors combinations are counted while there are at most ``COUNTABLE``, the last factor running fastest.
    Beyond, nobody could try them one by one: it then shows draws, and takes a box action, as continuous spaces do.
    """

    n: int
    factors: int

    def __post_init__(self) -> None:
        _check_dim("MultiDiscrete", "n", self.n)
        _check_dim("MultiDiscrete", "factors", self.factors)
        if self.n < 2:
            raise ValueError("skill_space.n of MultiDiscrete is 1: one choice says nothing, take at least 2")

    @property
    def embed_dim(self) -> int:
        return self.factors * self.n

    @property
    def count(self) -> int | None:
        """How many combinations there are; None beyond ``COUNTABLE``."""
        count = self.n**self.factors
        return count if count <= COUNTABLE else None

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randint(self.n, (n, self.factors), generator=generator, device=_device(generator))

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= 0) & (z < self.n)).all(-1)
        return torch.where(inside, -self.factors * math.log(self.n), -torch.inf)

    def embed(self, z: Tensor) -> Tensor:
        """One-hots side by side, (..., factors · n)."""
        return one_hot(z, self.n).flatten(-2)

    def enumerate(self, n: int | None = None) -> Tensor:
        """All combinations in order, dealt round until there are ``n``; uncounted, ``n`` (16) fixed draws."""
        if self.count is None:
            return self.sample(16 if n is None else n, Generator().manual_seed(0))
        return self._combination(torch.arange(n if n is not None else self.count) % self.count)

    def _combination(self, number: Tensor) -> Tensor:
        """The digits of ``number`` (...) to the base n, (..., factors)."""
        place = self.n ** torch.arange(self.factors - 1, -1, -1, device=number.device)
        return number.unsqueeze(-1) // place % self.n

    def action(self) -> Field | DiscreteAction:
        """The number of a combination; uncounted, a box with an axis a choice, of which each factor's highest is it."""
        return Field((self.embed_dim,)) if self.count is None else DiscreteAction(self.count)

    def project(self, action: Tensor) -> Tensor:
        return self._combination(action) if self.count is not None else self.toward(action)

    @property
    def direction_dim(self) -> int:
        return self.embed_dim

    def direction(self, z: Tensor) -> Tensor:
        """Each factor's one-hot, centred as that of ``Discrete``."""
        return ((one_hot(z, self.n) - 1 / self.n) * (self.n / (self.n - 1))).flatten(-2)

    def toward(self, direction: Tensor) -> Tensor:
        return direction.unflatten(-1, (self.factors, self.n)).argmax(-1)


@dataclass(frozen=True)
class Continuous:
    """What spaces of ``dim`` real numbers have in common: z is embedded, and stands for a direction, as it is."""

    dim: int

    def __post_init__(self) -> None:
        _check_dim(type(self).__name__, "dim", self.dim)

    @property
    def embed_dim(self) -> int:
        return self.dim

    @property
    def count(self) -> int | None:
        return None

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        raise NotImplementedError

    def embed(self, z: Tensor) -> Tensor:
        return z

    def enumerate(self, n: int | None = None) -> Tensor:
        """``n`` (16) fixed draws, the same every time."""
        return self.sample(16 if n is None else n, Generator().manual_seed(0))

    def action(self) -> Field | DiscreteAction:
        return Field((self.dim,))

    @property
    def direction_dim(self) -> int:
        return self.dim

    def direction(self, z: Tensor) -> Tensor:
        return z


@dataclass(frozen=True)
class Gaussian(Continuous):
    """N(0, I). A controller's box action a becomes z = 1.5 a, as in the CSF code's hierarchy."""

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, self.dim, generator=generator, device=_device(generator))

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def project(self, action: Tensor) -> Tensor:
        return 1.5 * action

    def toward(self, direction: Tensor) -> Tensor:
        """Of length √dim, as most z are."""
        return F.normalize(direction, dim=-1) * math.sqrt(self.dim)


@dataclass(frozen=True)
class Sphere(Continuous):
    """Uniform on the unit sphere S^{dim−1}; a box action is projected by its direction, zero onto the first axis."""

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return self.project(torch.randn(n, self.dim, generator=generator, device=_device(generator)))

    def log_prob(self, z: Tensor) -> Tensor:
        """Against the surface measure: minus the log of the sphere's area."""
        area = math.log(2) + 0.5 * self.dim * math.log(math.pi) - math.lgamma(0.5 * self.dim)
        return torch.full(z.shape[:-1], -area, device=z.device)

    def enumerate(self, n: int | None = None) -> Tensor:
        """``n`` (16) points: evenly round the circle in two dimensions, else fixed draws."""
        n = 16 if n is None else n
        if self.dim != 2:
            return super().enumerate(n)
        angle = torch.arange(n) * (2 * math.pi / n)
        return torch.stack([angle.cos(), angle.sin()], -1)

    def project(self, action: Tensor) -> Tensor:
        norm = action.norm(dim=-1, keepdim=True)
        axis = one_hot(torch.zeros(action.shape[:-1], dtype=torch.int64, device=action.device), self.dim)
        return torch.where(norm > 0, action / norm.clamp(min=1e-12), axis)

    def toward(self, direction: Tensor) -> Tensor:
        return self.project(direction)


@dataclass(frozen=True)
class WideSphere(Sphere):
    """Uniform on the sphere of radius √dim, where an axis of z is about as long as a standard normal's, whatever dim
    (FB, Touati & Ollivier 2021; HILP)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z) - (self.dim - 1) * 0.5 * math.log(self.dim)

    def enumerate(self, n: int | None = None) -> Tensor:
        points = super().enumerate(n)
        return points if self.dim != 2 else math.sqrt(self.dim) * points  # others are drawn, on this sphere already

    def project(self, action: Tensor) -> Tensor:
        return math.sqrt(self.dim) * super().project(action)


@dataclass(frozen=True)
class Box(Continuous):
    """Uniform on [low, high]^dim; a box action in [-1, 1] is stretched onto it."""

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low < self.high:
            raise ValueError(f"skill_space.low of Box is {self.low}: it must lie below high, which is {self.high}")

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        unit = torch.rand(n, self.dim, generator=generator, device=_device(generator))
        return self.low + (self.high - self.low) * unit

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).all(-1)
        density = torch.full(z.shape[:-1], -self.dim * math.log(self.high - self.low), device=z.device)
        return torch.where(inside, density, -torch.inf)

    def project(self, action: Tensor) -> Tensor:
        if (self.low, self.high) == (-1.0, 1.0):
            return action
        return self.low + (self.high - self.low) * 0.5 * (action + 1)

    def toward(self, direction: Tensor) -> Tensor:
        """To the box's edge."""
        return self.project(direction / direction.abs().amax(-1, keepdim=True).clamp(min=1e-12))


@dataclass(frozen=True)
class Hybrid:
    """One of ``n`` families, uniformly, and the parameter of its skill, N(0, I): the actions of a parameterised-action
    MDP (Masson, Ranchod & Konidaris 2016). z is a float32 (B, 1 + dim), the family's number first.

    A controller's box action has an axis a family, of which the highest is it, and after them those of ``Gaussian``.
    """

    n: int
    dim: int

    def __post_init__(self) -> None:
        _check_dim("Hybrid", "n", self.n)
        _check_dim("Hybrid", "dim", self.dim)

    @property
    def embed_dim(self) -> int:
        return self.n + self.dim

    @property
    def count(self) -> int | None:
        return None

    def pair(self, family: Tensor, parameter: Tensor) -> Tensor:
        """family (...) and parameter (..., dim) → z (..., 1 + dim)."""
        return torch.cat([family.unsqueeze(-1).float(), parameter], -1)

    def family(self, z: Tensor) -> Tensor:
        """(...), int64."""
        return z[..., 0].detach().round().long()

    def parameter(self, z: Tensor) -> Tensor:
        """(..., dim)."""
        return z[..., 1:]

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        device = _device(generator)
        family = torch.randint(self.n, (n,), generator=generator, device=device)
        return self.pair(family, torch.randn(n, self.dim, generator=generator, device=device))

    def log_prob(self, z: Tensor) -> Tensor:
        return Gaussian(self.dim).log_prob(self.parameter(z)) - math.log(self.n)

    def embed(self, z: Tensor) -> Tensor:
        """The family one-hot and the parameter, (..., n + dim)."""
        return torch.cat([one_hot(self.family(z), self.n), self.parameter(z)], -1)

    def enumerate(self, n: int | None = None) -> Tensor:
        """``n`` (16) fixed draws, the families dealt round."""
        n = 16 if n is None else n
        parameter = torch.randn(n, self.dim, generator=Generator().manual_seed(0))
        return self.pair(torch.arange(n) % self.n, parameter)

    def action(self) -> Field | DiscreteAction:
        return Field((self.embed_dim,))

    def project(self, action: Tensor) -> Tensor:
        return self.pair(action[..., : self.n].argmax(-1), Gaussian(self.dim).project(action[..., self.n :]))

    @property
    def direction_dim(self) -> int:
        raise ValueError(NO_DIRECTIONS)

    def direction(self, z: Tensor) -> Tensor:
        raise ValueError(NO_DIRECTIONS)

    def toward(self, direction: Tensor) -> Tensor:
        raise ValueError(NO_DIRECTIONS)


def one_hot(z: Tensor, n: int) -> Tensor:
    """(...) whole numbers below ``n`` → (..., n) float32. torch's own reads all values on the CPU first, to check them;
    here too one out of range is an error.

    Errors: RuntimeError.
    """
    return torch.zeros(*z.shape, n, device=z.device).scatter_(-1, z.unsqueeze(-1), 1.0)
