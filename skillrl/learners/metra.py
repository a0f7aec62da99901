"""METRA: Scalable Unsupervised RL with Metric-Aware Abstraction (Park et al. 2024, arXiv:2310.08887).

Objective: max E[(φ(s') − φ(s))·z]  so that  ‖φ(s') − φ(s)‖² ≤ 1 for neighbouring s, s' (eq. 8): skills go as far as
they can in a latent space where a step is never longer than 1. The policy earns r = (φ(s') − φ(s))·z; φ ascends that
plus λ·min(ε, 1 − ‖φ(s') − φ(s)‖²); λ descends on the same (algorithm 1).

z is a direction on the unit sphere, or one of K: then it acts as the one-hot of K, centred.

What differs from the paper or its code (seohongpark/METRA), and why:
- The code averages ‖·‖² over the axes of φ instead of summing it, which allows steps of length √dim: all published
  numbers were made so. ``mean_constraint`` is that; off, it is the paper's.
- The agent is the code's, which is not Haarnoja's: target entropy −|A|/2, α from 0.01, learning rates 1e-4.
- The code normalises observations by moments of 10,000 random rollouts of 50 steps, which it ships for each env; here
  they are those of what was collected before the first update.
"""

from collections.abc import Callable, Sequence
from functools import partial

from skillrl.agents.base import Agent, check
from skillrl.agents.sac import SAC
from skillrl.estimators import DualVariable
from skillrl.learners.base import DirectedLearner
from skillrl.optim import descend
from skillrl.skill_spaces import Discrete, Sphere
from skillrl.spec import Batch, Metrics, Spec

PAPER_AGENT = partial(SAC, lr=1e-4, alpha_init=0.01, target_entropy_multiplier=0.5)  # seohongpark/METRA, tests/main.py


class METRA(DirectedLearner):
    """Skills that go far along every direction of a learned metric space.

    Args:
        skill_space: directions in φ's space, or as many axes as there are skills.
        encoder_view: what φ sees; None is all of the observation.
        encoder_lr: Adam's, of φ. dual_lr: of log λ. dual_init: λ at the start. dual_slack: ε.
        mean_constraint: average ‖·‖² over φ's axes, as the released code does, instead of the sum.
        hidden_dims: widths of φ too.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Sphere | Discrete = Sphere(2),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_lr: float = 1e-4,
        dual_lr: float = 1e-4,
        dual_init: float = 30.0,
        dual_slack: float = 1e-3,
        mean_constraint: bool = False,
        batch_size: int = 256,
        hold: int | None = None,
        normalize_obs: bool = True,
    ):
        check("learner", dual_lr=(dual_lr, "(0, inf)"), dual_init=(dual_init, "(0, inf)"))
        check("learner", dual_slack=(dual_slack, "(0, inf)"))
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
        )
        self.mean_constraint = mean_constraint
        self.dual = DualVariable(init=dual_init, lr=dual_lr, tolerance=dual_slack)

    def fit(self, batch: Batch) -> Metrics:
        """φ up its objective, then λ down the constraint's slack."""
        step = self.step_in_phi(batch)
        square = step.square()
        length = square.mean(-1) if self.mean_constraint else square.sum(-1)  # (B,), squared
        penalty = self.dual.penalty(1 - length)
        loss = -(self.along(step, batch["z"]) + self.dual.value() * penalty).mean()
        descend(self.encoder_optimizer, loss)
        self.dual.update(penalty)
        return {
            "encoder/loss": loss.detach(),
            "encoder/squared_step": square.detach().sum(-1).mean(),
            "dual/value": self.dual.value(),
            "dual/penalty": penalty.detach().mean(),
        }
