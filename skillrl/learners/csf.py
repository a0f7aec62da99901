"""CSF: contrastive successor features (Zheng et al. 2024, "Can a MISL Fly?", arXiv:2412.08021).

Objective: max I(Z; S, S'), by a contrastive bound with the critic (φ(s') − φ(s))·z:

    φ ascends  E[(φ(s') − φ(s))·z] − ξ E[log Σ_{z'} exp((φ(s') − φ(s))·z')],  256 z' from the prior

and the policy earns the first part alone, r = (φ(s') − φ(s))·z. It is learnt by successor features: the critic
ψ(s, a, z) sums φ(s') − φ(s), a vector, and the actor climbs ψ·z.

What differs from the paper or its code (Princeton-RL/contrastive-successor-features), and why:
- As in the code: ξ = 5; the negatives are fresh draws from the prior, the positive is not among them, and the sum is no
  mean. Entropy is in the actor's loss and not in the critic's target; of two critics the one of the lower ψ·z is taken.
- The code normalises observations by moments of 10,000 random rollouts of 50 steps, which it ships for each env; here
  they are those of what was collected before the first update.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from skillrl.agents.base import Agent, check, check_whole
from skillrl.agents.sac import SAC
from skillrl.estimators import contrastive_bound
from skillrl.learners.base import DirectedLearner
from skillrl.networks import SuccessorCritic
from skillrl.optim import descend
from skillrl.skill_spaces import Sphere
from skillrl.spec import Batch, Metrics, Spec

PAPER_AGENT = partial(SAC, lr=1e-4, alpha_init=0.01, target_entropy_multiplier=0.5, entropy_in_target=False)


class CSF(DirectedLearner):
    """Skills that go where their direction says, and can be told from others by it.

    Args:
        skill_space: directions in φ's space.
        encoder_view: what φ sees; None is all of the observation. encoder_lr: Adam's, of φ.
        contrast: ξ. negatives: how many z' there are. hidden_dims: widths of φ too.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Sphere = Sphere(2),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_lr: float = 1e-4,
        contrast: float = 5.0,
        negatives: int = 256,
        batch_size: int = 256,
        hold: int | None = None,
        normalize_obs: bool = True,
    ):
        check("learner", contrast=(contrast, "[0, inf)"))
        check_whole("learner", negatives=negatives)
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
            critic=SuccessorCritic,
        )
        if not isinstance(self.kept_critic(), SuccessorCritic):
            raise ValueError("learner csf needs an agent whose critic has an axis for each of φ's: take agent sac")
        self.contrast, self.negatives = contrast, negatives

    def fit(self, batch: Batch) -> Metrics:
        step = self.step_in_phi(batch)  # (B, dim)
        others = self.skill_space.direction(self.skill_space.sample(self.negatives, self.generator))
        own = self.along(step, batch["z"])
        loss = -contrastive_bound(own, step @ others.to(step.device).T, self.contrast)
        descend(self.encoder_optimizer, loss)
        return {
            "encoder/loss": loss.detach(),
            "encoder/squared_step": step.detach().square().sum(-1).mean(),
            "reward/along": own.detach().mean(),
        }

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """φ(s') − φ(s), (B, dim): what ψ sums. Along z it is the reward."""
        return self.step_in_phi(batch)
