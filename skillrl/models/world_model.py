"""A world model: an encoder, a recurrent state-space model, a decoder. It is learnt from sequences of a replay.

    max E[log p(obs_t | state_t)] − KL(q(stoch_t | deter_t, obs_t) ‖ p(stoch_t | deter_t))     (Hafner et al. 2021)

It has no optimiser: whoever learns it descends on ``loss``. Reward and other heads read ``feat`` and are their owner's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from skillrl.models.decoder import Decoder
from skillrl.models.encoder import Encoder, seen, shown
from skillrl.models.rssm import RSSM, Latent, balanced_divergence, masked_mean
from skillrl.models.timeline import Timeline
from skillrl.moments import Standardizer
from skillrl.skill_policy import standardizer
from skillrl.spec import Field, Metrics


class WorldModel(nn.Module):
    """See the module.

    Args:
        obs: a state, or a picture. action_dim: of a box action.
        hidden_dims: widths of encoder and decoder of states. depth: channels of those of pictures.
        deter, stoch, classes, hidden: the recurrent model's; see ``RSSM``.
        normalize: whether it sees a state in units of its spread, which ``units`` is to be shown.
    """

    def __init__(
        self,
        obs: Field,
        action_dim: int,
        *,
        hidden_dims: Sequence[int],
        depth: int,
        deter: int,
        stoch: int,
        classes: int,
        hidden: int,
        normalize: bool = False,
    ):
        super().__init__()
        self.units = standardizer(obs, normalize)
        self.encoder = Encoder(obs, hidden_dims, depth)
        self.rssm = RSSM(
            action_dim=action_dim,
            embed_dim=self.encoder.out_dim,
            deter=deter,
            stoch=stoch,
            classes=classes,
            hidden=hidden,
        )
        self.feat_dim = self.rssm.feat_dim
        self.decoder = Decoder(self.feat_dim, obs, hidden_dims, depth)

    def told(self, obs: Tensor) -> Tensor:
        """Observations (..., *obs.shape) as its encoder takes them and its losses measure them."""
        return self.units(seen(obs, self.encoder.picture))

    def shown(self, mean: Tensor) -> Tensor:
        """What the decoder says, as observations again: what ``told`` takes."""
        return shown(self.units.back(mean) if isinstance(self.units, Standardizer) else mean, self.encoder.picture)

    def embed(self, obs: Tensor) -> Tensor:
        """Observations (..., *obs.shape) → (..., embed_dim)."""
        return self.encoder(self.told(obs))

    def observe(self, line: Timeline, generator: Generator | None) -> Latent:
        """Posterior states (B, T, ...)."""
        return self.rssm.observe(self.embed(line.obs), line.action, line.first, generator)

    def loss(self, line: Timeline, states: Latent, *, balance: float, free: float) -> tuple[Tensor, Tensor, Metrics]:
        """Of ``states`` that it observed: the loss, (); KL(posterior ‖ prior) of each moment, (B, T); metrics."""
        prior = self.rssm.prior_logits(states.deter)
        pull, kl = balanced_divergence(states.logits, prior, line.mask, balance=balance, free=free)
        reconstruction = masked_mean(self.decoder.loss(states.feat(), self.told(line.obs)), line.mask)
        metrics = {"model/reconstruction": reconstruction.detach(), "model/kl": masked_mean(kl, line.mask)}
        return reconstruction + pull, kl, metrics

    def imagine(
        self, start: Latent, act: Callable[[Tensor], Tensor], horizon: int, generator: Generator | None
    ) -> Latent:
        """States (horizon + 1, N, ...) from ``start`` (N, ...) on, its own first.

        act: feat (N, feat_dim), without gradient → action (N, ...), whose gradient so is that of what it leads to.
        """
        noise = self.rssm.noise((horizon, len(start.deter)), generator)
        states = [start]
        for t in range(horizon):
            action = act(states[-1].feat().detach())
            states.append(self.rssm.imagine_step(states[-1], action, noise[t]))
        return Latent(*(torch.stack(parts) for parts in zip(*states, strict=True)))
