"""A recurrent state-space model with categorical latents (DreamerV2, Hafner et al. 2021, arXiv:2010.02193).

    deter_t = GRU(deter_{t−1}, stoch_{t−1}, action_{t−1})        what follows for certain
    stoch_t ~ p(· | deter_t)            the prior, with which it imagines
    stoch_t ~ q(· | deter_t, obs_t)     the posterior, when it sees

stoch is ``stoch`` one-hot choices of ``classes`` each; gradients pass them straight through.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


class Latent(NamedTuple):
    """A state of the model: deter (..., deter), stoch (..., stoch, classes), and the logits it was drawn from."""

    deter: Tensor
    stoch: Tensor
    logits: Tensor

    def feat(self) -> Tensor:
        """Both parts side by side, (..., feat_dim): what every head reads."""
        return torch.cat([self.stoch.flatten(-2), self.deter], -1)

    def detach(self) -> "Latent":
        return Latent(*(part.detach() for part in self))

    def take(self, index: Tensor) -> "Latent":
        """Of states (B, T, ...) those at ``index`` (N,) into the B·T of them."""
        return Latent(*(part.flatten(0, 1)[index] for part in self))


class NormedGRU(nn.Module):
    """A GRU cell whose gates are normalised together and that rather keeps what it has, as DreamerV2's."""

    def __init__(self, in_dim: int, size: int):
        super().__init__()
        self.linear = nn.Linear(in_dim + size, 3 * size)
        self.norm = nn.LayerNorm(3 * size)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        reset, candidate, update = self.norm(self.linear(torch.cat([inputs, state], -1))).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(state, candidate, torch.sigmoid(update - 1))


class RSSM(nn.Module):
    """See the module. action_dim, embed_dim: widths of an action, and of an observation as the encoder gives it."""

    def __init__(self, *, action_dim: int, embed_dim: int, deter: int, stoch: int, classes: int, hidden: int):
        super().__init__()
        self.deter, self.stoch, self.classes = deter, stoch, classes
        self.feat_dim = deter + stoch * classes
        # a layer's inputs that are known beforehand have a matrix of their own, so that they run outside of the loop
        self.of_stoch = nn.Linear(stoch * classes, hidden, bias=False)
        self.of_action = nn.Linear(action_dim, hidden)
        self.cell = NormedGRU(hidden, deter)
        self.prior = nn.Sequential(nn.Linear(deter, hidden), nn.ELU(), nn.Linear(hidden, stoch * classes))
        self.of_deter = nn.Linear(deter, hidden, bias=False)
        self.of_embed = nn.Linear(embed_dim, hidden)
        self.posterior = nn.Linear(hidden, stoch * classes)

    def initial(self, n: int) -> Latent:
        """Before anything was seen."""
        like = self.of_action.weight
        choices = like.new_zeros(n, self.stoch, self.classes)
        return Latent(like.new_zeros(n, self.deter), choices, choices)

    def observe_step(
        self, deter: Tensor, stoch: Tensor, action: Tensor, embed: Tensor, first: Tensor, noise: Tensor | None = None
    ) -> Latent:
        """One step with an observation, each (N, ...). first (N,): an episode begins, and all before it is forgotten.

        noise: as ``draw`` takes it.
        """
        goes_on = 1.0 - first.float().unsqueeze(-1)  # (N, 1)
        return self._seen(deter, stoch, self.of_action(action * goes_on), self.of_embed(embed), goes_on, noise)

    def observe(self, embed: Tensor, action: Tensor, first: Tensor, generator: Generator | None) -> Latent:
        """Posterior states (B, T, ...) along sequences: embed of each observation, the action that led to it."""
        steps, n = first.shape[1], len(first)
        goes_on = 1.0 - first.float().unsqueeze(-1)  # (B, T, 1)
        actions, embeds = self.of_action(action * goes_on), self.of_embed(embed)
        noise = self.noise((steps, n), generator)
        state, states = self.initial(n), list[Latent]()
        for t in range(steps):
            state = self._seen(state.deter, state.stoch, actions[:, t], embeds[:, t], goes_on[:, t], noise[t])
            states.append(state)
        return Latent(*(torch.stack(parts, 1) for parts in zip(*states, strict=True)))

    def imagine_step(self, state: Latent, action: Tensor, noise: Tensor | None = None) -> Latent:
        """One step without an observation, (N, ...)."""
        deter = self._moved(state.deter, state.stoch, self.of_action(action))
        return self.expected(deter, noise)

    def expected(self, deter: Tensor, noise: Tensor | None = None) -> Latent:
        """What the prior says of deter (..., deter)."""
        logits = self.prior_logits(deter)
        return Latent(deter, draw(logits, noise), logits)

    def prior_logits(self, deter: Tensor) -> Tensor:
        """(..., stoch, classes)."""
        return self.prior(deter).unflatten(-1, (self.stoch, self.classes))

    def noise(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        """Standard Gumbel, (*shape, stoch, classes): what ``draw`` wants."""
        device = self.of_action.weight.device
        uniform = torch.rand(*shape, self.stoch, self.classes, generator=generator, device=device)
        return -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-7)))

    def _moved(self, deter: Tensor, stoch: Tensor, of_action: Tensor) -> Tensor:
        return self.cell(F.elu(self.of_stoch(stoch.flatten(-2)) + of_action), deter)

    def _seen(
        self, deter: Tensor, stoch: Tensor, of_action: Tensor, of_embed: Tensor, goes_on: Tensor, noise: Tensor | None
    ) -> Latent:
        moved = self._moved(deter * goes_on, stoch * goes_on.unsqueeze(-1), of_action)
        logits = self.posterior(F.elu(self.of_deter(moved) + of_embed)).unflatten(-1, (self.stoch, self.classes))
        return Latent(moved, draw(logits, noise), logits)


def draw(logits: Tensor, noise: Tensor | None) -> Tensor:
    """One-hot choices (..., stoch, classes), with their probabilities' gradient. noise: Gumbel; None: the mode."""
    number = (logits if noise is None else logits + noise).argmax(-1, keepdim=True)
    chosen = torch.zeros_like(logits).scatter_(-1, number, 1.0)
    probability = logits.softmax(-1)
    return chosen + probability - probability.detach()


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(logits ‖ other) in nats, summed over the choices: (..., stoch, classes) → (...)."""
    log_p, log_q = logits.log_softmax(-1), other.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def balanced_divergence(
    posterior: Tensor, prior: Tensor, mask: Tensor, *, balance: float, free: float
) -> tuple[Tensor, Tensor]:
    """The loss, (), and KL(posterior ‖ prior), (...), without gradient.

    balance: share of the pull on the prior towards the posterior; the rest pulls the posterior towards the prior.
    free: nats, on average over ``mask`` (...), below which nothing pulls.
    """
    to_prior = divergence(posterior.detach(), prior)
    to_posterior = divergence(posterior, prior.detach())
    parts = [masked_mean(value, mask).clamp(min=free) for value in (to_prior, to_posterior)]
    return balance * parts[0] + (1 - balance) * parts[1], to_prior.detach()


def masked_mean(value: Tensor, mask: Tensor) -> Tensor:
    """Of value where mask, both of one shape."""
    weight = mask.to(value.dtype)
    return (value * weight).sum() / weight.sum().clamp(min=1)
