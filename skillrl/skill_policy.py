"""Skill policies: (obs, z) → action. What is saved, loaded and used; it does not know who made it."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from skillrl.distributions import Distribution
from skillrl.layers import mlp
from skillrl.moments import Standardizer
from skillrl.networks import Actor, OnPolicyActor, ValueActor
from skillrl.skill_spaces import SkillSpace
from skillrl.spec import Carry, Discrete, Field


class SkillPolicy(nn.Module):
    """The contract. ``obs`` names the observation that it takes: whoever calls it hands over those columns alone.

    ``arguments`` are the constructor's, kept so that the skill library can write them down and build it again.
    """

    def __init__(self, *, obs: Field, action: Field | Discrete, space: SkillSpace, **arguments: Any):
        super().__init__()
        self.obs, self.action, self.space = obs, action, space
        self.arguments = {"obs": obs, "action": action, "space": space, **arguments}

    def initial(self, n: int) -> Carry:
        """The carry of ``n`` fresh episodes; () if feed-forward."""
        return ()

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        """Every row, every env step, before anything else reads the carry. ``first`` (N,) marks fresh episodes."""
        return carry

    def dist(self, obs: Tensor, z: Tensor, carry: Carry = ()) -> Distribution:
        """Differentiable in obs and z: frozen means ``requires_grad_(False)``, never ``no_grad``."""
        raise NotImplementedError(f"{type(self).__name__} gives no distribution")

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """obs (N, ...), z (N, ...) → action (N, ...) and extras (N, ...) that are stored with the transition.

        What changes it from call to call is a parameter, a buffer or ``generator``: without a carry it may be called
        once and then only done again (``skillrl.cpu_graph``).
        """
        dist = self.dist(obs, z, carry)
        return (dist.mode() if deterministic else dist.sample(generator)[0]), {}

    def remember(self, extras: dict[str, Tensor], carry: Carry) -> Carry:
        """After ``act``, of every row: what it drew beside the action, and must know at its next step."""
        return carry

    def stop(self, obs: Tensor, z: Tensor, skill_step: Tensor) -> Tensor | None:
        """The probability (N,) that the skill ends here; None: it has no say."""
        return None


class ActorPolicy(SkillPolicy):
    """One feed-forward actor, the form that most learners save.

    normalize: whether the actor sees observations in units of their spread, which ``normalizer`` is to be shown.
    actor: its class, called with (obs, action, space, hidden_dims). An ``OnPolicyActor`` is clipped to the box here,
    and what its agent must know of a draw is stored with it: ``raw_action`` before the clipping, and ``log_prob``.
    """

    def __init__(
        self,
        *,
        obs: Field,
        action: Field | Discrete,
        space: SkillSpace,
        hidden_dims: Sequence[int],
        actor: type[nn.Module] = Actor,
        normalize: bool = False,
        **arguments: Any,
    ):
        arguments |= {"hidden_dims": list(hidden_dims), "actor": actor, "normalize": normalize}
        super().__init__(obs=obs, action=action, space=space, **arguments)
        self.actor = actor(obs, action, space, hidden_dims)
        self.normalizer = standardizer(obs, normalize)

    def dist(self, obs: Tensor, z: Tensor, carry: Carry = ()) -> Distribution:
        return self.actor(self.normalizer(obs), z)

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not isinstance(self.actor, OnPolicyActor):
            return super().act(obs, z, carry, deterministic=deterministic, generator=generator)
        dist = self.dist(obs, z, carry)
        if deterministic:
            return self._in_box(dist.mode()), {}
        raw_action, log_prob = dist.sample(generator)
        return self._in_box(raw_action), {"raw_action": raw_action, "log_prob": log_prob}

    def _in_box(self, action: Tensor) -> Tensor:
        return action if isinstance(self.action, Discrete) else action.clamp(-1, 1)


class DirectedPolicy(ActorPolicy):
    """Skills that are directions in a latent space φ: ``ReachesGoals``, by going along φ(goal) − φ(obs).

    encoder_obs: what φ sees. encoder_dims: widths of φ, if they are others than the actor's.
    """

    def __init__(
        self,
        *,
        space: SkillSpace,
        hidden_dims: Sequence[int],
        encoder_obs: Field,
        encoder_dims: Sequence[int] | None = None,
        normalize: bool = False,
        **rest: Any,
    ):
        widths = list(hidden_dims if encoder_dims is None else encoder_dims)
        rest |= {"encoder_obs": encoder_obs, "encoder_dims": widths, "normalize": normalize}
        super().__init__(space=space, hidden_dims=hidden_dims, **rest)
        self.goal_obs = encoder_obs
        self.goal_normalizer = standardizer(encoder_obs, normalize)
        self.encoder = self.make_encoder(encoder_obs.dim, widths, space.direction_dim)

    def make_encoder(self, in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> nn.Module:
        return mlp(in_dim, hidden_dims, out_dim)

    def phi(self, obs: Tensor) -> Tensor:
        """(B, ...) of ``goal_obs`` → (B, direction_dim)."""
        return self.encoder(self.goal_normalizer(obs.float()))

    def goal_to_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        return self.space.toward(self.phi(goal) - self.phi(obs))


class ValuePolicy(ActorPolicy):
    """ε-greedy on a critic of its own: what a value-based agent (DQN) trains. Only for discrete actions."""

    def __init__(self, *, actor: type[nn.Module] = ValueActor, **rest: Any):
        super().__init__(actor=actor, **rest)


@runtime_checkable
class InfersSkills(Protocol):
    """A policy that can tell which skill an observation speaks of; ``posterior_obs`` names the columns it looks at."""

    posterior_obs: Field

    def log_posterior(self, obs: Tensor, z: Tensor | None = None) -> Tensor:
        """obs (B, ...) of ``posterior_obs``, z (B, ...) → log q(z | obs), (B,), a density where z is continuous.

        Without z, of every skill of a space that can be counted: (B, n). ValueError where it cannot.
        """
        ...


@runtime_checkable
class ReachesGoals(Protocol):
    """A policy that knows which skill leads to a goal; ``goal_obs`` names the columns that it compares."""

    goal_obs: Field

    def goal_to_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        """obs and goal (B, ...), both of ``goal_obs`` → z (B, ...). To be asked again as often as one likes."""
        ...


@runtime_checkable
class PredictsNext(Protocol):
    """A policy that knows where a skill leads in one env step; ``predict_obs`` names the columns that it speaks of."""

    predict_obs: Field

    def predict(self, obs: Tensor, z: Tensor) -> Tensor:
        """obs (B, ...) of ``predict_obs``, z (B, ...) → the same columns after one env step, in their own units."""
        ...


@runtime_checkable
class FitsRewards(Protocol):
    """A policy that knows which skill earns a reward best; ``reward_obs`` names the columns that it looks at."""

    reward_obs: Field

    def reward_to_skill(self, obs: Tensor, reward: Tensor) -> Tensor:
        """Samples of the reward: obs (n, ...) of ``reward_obs``, what steps led to, and reward (n,) → one z, (...).

        obs should be spread as the data that the skills were learnt from. ValueError if the reward is 0 throughout.
        """
        ...


@runtime_checkable
class Imagines(Protocol):
    """A recurrent policy whose carry is the state of a world model, in which it can be tried out without an env.

    world_model: ``observe`` and ``loss`` on sequences, ``imagine`` from a state, ``decoder`` of states back to
        observations (``skillrl.models.world_model``).
    """

    world_model: Any
    actor: nn.Module

    def latent(self, carry: Carry) -> Tensor:
        """The carry as the model's heads read it, (N, feat_dim)."""
        ...

    def imagined_dist(self, feat: Tensor, z: Tensor) -> Distribution:
        """What is done in states of the model: feat (..., feat_dim), z (..., ...). ``actor`` holds its weights."""
        ...


def standardizer(obs: Field, wanted: bool) -> nn.Module:
    """For the columns of ``obs``. Errors: ValueError where they are no vector of real numbers."""
    if not wanted:
        return nn.Identity()
    if len(obs.shape) != 1 or obs.dtype not in ("float32", "float64"):
        raise ValueError(f"learner.normalize_obs is true, but what is seen, {obs}, is no vector: set it to false")
    return Standardizer(obs.dim)


def freeze(policy: SkillPolicy) -> SkillPolicy:
    """For use and not for training: parameters take no gradient, modules are in evaluation mode."""
    policy.requires_grad_(False)
    return policy.eval()


def columns_on(columns: list[int] | None, device: torch.device) -> Tensor | slice:
    """An index for ``obs[..., index]``: a LongTensor, or the full slice where nothing is left out."""
    return slice(None) if columns is None else _index(tuple(columns), device)


@cache
def _index(columns: tuple[int, ...], device: torch.device) -> Tensor:
    """Copied to the device once: a captured update may not copy, any other should not wait."""
    return torch.tensor(columns, device=device)
