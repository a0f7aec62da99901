"""LSD: Lipschitz-constrained Unsupervised Skill Discovery (Park et al. 2022, arXiv:2202.00914).

Objective: max E[(φ(s') − φ(s))·z]  so that  ‖φ(x) − φ(y)‖ ≤ ‖x − y‖ for all x, y: to go far in φ is to go far in the
state. The policy earns r = (φ(s') − φ(s))·z, φ ascends the same, and spectral normalisation keeps it 1-Lipschitz.

z is normal, or one of K: then it acts as the one-hot of K, centred.

What differs from the paper or its code (seohongpark/LSD), and why:
- The code trains on the newest 20 trajectories alone (Ant, HalfCheetah), with 4 batches of 2,048 and one update of the
  target network an epoch. Here the replay serves all learners alike, which takes fewer env steps.
- Distances are those of normalised observations, as the code's; but it ships moments of random rollouts for each env,
  and here they are those of what was collected before the first update.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from skillrl.agents.base import Agent
from skillrl.agents.sac import SAC
from skillrl.layers import mlp
from skillrl.learners.base import DirectedLearner
from skillrl.optim import descend
from skillrl.skill_policy import DirectedPolicy
from skillrl.skill_spaces import Discrete, Gaussian
from skillrl.spec import Batch, Metrics, Spec

PAPER_AGENT = partial(SAC, lr=1e-4, alpha=0.01)  # seohongpark/LSD, README: Ant


class LSDPolicy(DirectedPolicy):
    """φ is 1-Lipschitz: each of its layers is divided by its largest singular value."""

    def make_encoder(self, in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> nn.Module:
        net = mlp(in_dim, hidden_dims, out_dim)
        for layer in net:
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)
        return net


class LSD(DirectedLearner):
    """Skills that go far in the state.

    Args:
        skill_space: directions in φ's space, or as many axes as there are skills.
        encoder_view: what φ sees, and what "far" is measured in; None is all of the observation.
        encoder_lr: Adam's, of φ. hidden_dims: widths of φ too.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Gaussian | Discrete = Gaussian(2),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_lr: float = 3e-5,
        batch_size: int = 2048,
        hold: int | None = None,
        normalize_obs: bool = True,
    ):
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            encoder_view=encoder_view,
            encoder_lr=encoder_lr,
            batch_size=batch_size,
            hold=hold,
            normalize_obs=normalize_obs,
            policy_class=LSDPolicy,
        )

    def fit(self, batch: Batch) -> Metrics:
        step = self.step_in_phi(batch)
        loss = -self.along(step, batch["z"]).mean()
        descend(self.encoder_optimizer, loss)
        return {"encoder/loss": loss.detach(), "encoder/squared_step": step.detach().square().sum(-1).mean()}
