"""Rewards without learning: the skill that a regression of the task's reward says is the best one for it.

Objective: z ∝ argmin_w E[(w·φ(s') − r)²], or E[r B(s')], whichever the skills were made for (APS, Liu & Abbeel 2021,
arXiv:2108.13956; HILP, Park et al. 2024, arXiv:2402.15567; FB, Touati & Ollivier 2021, arXiv:2103.07945). Networks stay
as they are. (Goals without learning are ``controller=zero_shot``.)

What differs from the papers' code, and why:
- HILP's and FB's label states of the pretraining's dataset with the task's reward, at no env steps. That takes a reward
  that can be computed from what was stored, which few envs have. Here the samples are steps on the task, by skills that
  the prior draws, and every one of them counts.
- The regression is of r on φ. APS's code hands ``lstsq`` its arguments the wrong way round.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from skillrl.controllers.base import Controller
from skillrl.downstream.base import Measured, Use
from skillrl.errors import BadInput
from skillrl.learners.base import Batches, Learner
from skillrl.selector import Selector
from skillrl.skill_policy import FitsRewards, SkillPolicy, columns_on
from skillrl.spec import Batch, Carry, Metrics, Need, Selection, Spec
from skillrl.training import Schedule


class ZeroShot(Use):
    """Samples of the task's reward, then one regression.

    Args:
        env_steps: samples; env steps of the task. collect: env steps a round, over all envs.
        hold: env steps for which a draw from the prior is kept while sampling. capacity: of the replay, in env steps.
    """

    name, folder = "zero_shot", "zero_shot"

    def __init__(self, *, env_steps: int = 10_000, collect: int = 8, hold: int = 300, capacity: int = 1_000_000):
        if not isinstance(env_steps, int) or isinstance(env_steps, bool) or env_steps < 1:
            raise ValueError(f"downstream.env_steps is {env_steps!r}: a reward is fitted to at least 1 sample")
        self.schedule = Schedule(env_steps, warmup=env_steps, collect=collect)
        self.samples, self.hold, self.capacity = env_steps, hold, capacity

    def learner(
        self,
        spec: Spec,
        skills: SkillPolicy,
        controller: Callable[..., Learner] | None,
        critic: Callable[[], dict[str, Tensor]],
    ) -> "Fitted":
        """One of ``skills``, to be found."""
        if controller is not None:
            raise ValueError(
                "downstream=zero_shot fits the task's reward and has no use for a controller: leave controller out "
                "(goals are downstream=control controller=zero_shot)"
            )
        return Fitted(spec, skills, samples=self.samples, hold=self.hold)

    def measure(self, learner: "Fitted", env: Any, *, seed: int) -> Measured:
        """What there was to go by."""
        return {"fit_env_steps": int(learner.env_steps), "fit_rewarded": float(learner.rewarded)}, {}


class Fitted(Controller):
    """Explores by the skills' prior, acts by the one z that fits what was paid.

    Unlike other controllers it lets the skills act at random while it samples, as they did when they were learnt: that
    is what the samples should be like.
    """

    deterministic = False
    z: Tensor
    env_steps: Tensor
    rewarded: Tensor

    def __init__(self, spec: Spec, skills: SkillPolicy, *, samples: int, hold: int):
        super().__init__(spec, skills, hold=hold)
        self.columns = reward_columns(spec, skills, "downstream=zero_shot")
        self.samples = samples
        self.register_buffer("z", skills.space.enumerate()[0].clone())
        self.register_buffer("env_steps", torch.tensor(0))
        self.register_buffer("rewarded", torch.tensor(0.0))

    def prior(self) -> Selector:
        return Sampling(self)

    def needs(self) -> dict[str, Need]:
        return {"batch": Need("transitions", self.samples)}

    def update(self, batches: Batches) -> Metrics:
        """The regression, of samples drawn with replacement. Errors: BadInput where none of them pays."""
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        self.z.copy_(fitted(self.skills, self.columns, batch))
        self.rewarded.copy_((batch["reward"] != 0).float().mean())
        return {"reward/task": batch["reward"].mean(), "reward/share": self.rewarded.clone()}

    def maintain(self, env_steps: int) -> Metrics:
        self.env_steps.fill_(env_steps)
        return {}


class Sampling(Selector):
    """The learner's side of the option loop: draws from the prior while it explores."""

    def __init__(self, learner: Fitted):
        self.learner, self.hold = learner, learner.hold

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        learner = self.learner
        if not deterministic:
            return Selection(learner.skills.space.sample(len(first), generator))
        return Selection(learner.z.expand(len(first), *learner.z.shape))


def reward_columns(spec: Spec, skills: SkillPolicy, use: str) -> list[int] | None:
    """Columns of whole observations of which ``skills`` know what they are worth. Errors: ValueError where they do not,
    or where a reward is no single number."""
    if not isinstance(skills, FitsRewards):
        raise ValueError(f"{use} needs skills that fit rewards: aps, hilp, fb; these are {type(skills).__name__}")
    if spec.agents > 1:
        raise ValueError(f"{use} fits one reward a step, and a team of {spec.agents} has as many")
    return spec.obs.columns(skills.reward_obs)


@torch.no_grad()
def fitted(skills: SkillPolicy, columns: list[int] | None, batch: Batch) -> Tensor:
    """The z that earns what ``batch`` was paid for where its steps led. Errors: BadInput where nothing was."""
    assert isinstance(skills, FitsRewards)
    led = batch["next_obs"][..., columns_on(columns, batch["next_obs"].device)]
    try:
        return skills.reward_to_skill(led, batch["reward"])
    except ValueError as error:
        raise BadInput(f"downstream: {error}; more samples may find one that pays") from error
