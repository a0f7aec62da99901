"""The controller of parameterised skills: a hybrid choice's density, its critic's target by hand, what it learns."""

import functools
from functools import partial
from typing import Any

import pytest
import torch
from checks import Check
from test_mlps import pretrained
from torch import Generator, Tensor

from envs.point import Point
from envs.point_maze import PointMaze
from skillrl.agents.sac import SAC
from skillrl.controllers.base import Controller
from skillrl.controllers.hybrid import SPREAD, Choosing, Hybrid, HybridActor, HybridChoice
from skillrl.controllers.rl import RL
from skillrl.data.replay import Replay
from skillrl.distributions import Categorical, TanhNormal
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.primitive import Primitive
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Gaussian
from skillrl.skill_spaces import Hybrid as HybridSpace
from skillrl.spec import Batch, Carry, Field, Selection, Spec
from skillrl.training import Schedule, train

torch.set_num_threads(1)


def choices(n: int = 6) -> tuple[HybridChoice, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, mean = torch.randn(n, 3, generator=generator), torch.randn(n, 3, 2, generator=generator)
    log_std = 0.3 * torch.randn(n, 3, 2, generator=generator)
    for value in (logits, mean, log_std):
        value.requires_grad_()
    return HybridChoice(logits, mean, log_std), logits, mean, log_std


def test_a_hybrid_log_prob_is_the_familys_and_its_parameters():
    dist, logits, mean, log_std = choices()
    choice, log_prob = dist.sample(torch.Generator().manual_seed(1))
    assert choice.shape == (6, 3) and torch.allclose(log_prob, dist.log_prob(choice), atol=1e-4)
    for i in range(6):
        k = int(choice[i, 0])
        own = TanhNormal(mean[i, k], log_std[i, k]).log_prob(choice[i, 1:])
        assert log_prob[i].item() == pytest.approx((logits[i].log_softmax(-1)[k] + own).item(), abs=1e-4)
    assert dist.mode()[:, 0].tolist() == logits.argmax(-1).tolist()
    best = torch.tanh(mean[torch.arange(6), logits.argmax(-1)])
    assert torch.equal(dist.mode()[:, 1:], best)


def test_only_the_chosen_familys_parameter_gets_a_gradient():
    dist, logits, mean, log_std = choices()
    choice = dist.sample(torch.Generator().manual_seed(1))[0].detach()
    dist.log_prob(choice).sum().backward()
    chosen = torch.nn.functional.one_hot(choice[:, 0].long(), 3).bool()
    for value in (mean, log_std):
        assert value.grad is not None and (value.grad[~chosen] == 0).all() and (value.grad[chosen] != 0).all()
    assert logits.grad is not None and (logits.grad != 0).all()


def hybrid(**arguments: Any) -> Hybrid:
    torch.manual_seed(0)
    spec = Spec(Field((2,), names={"xy": (0, 2)}), Field((2,)), horizon=50)
    skills = ActorPolicy(obs=spec.obs, action=spec.action, space=HybridSpace(3, 2), hidden_dims=[8])
    return Hybrid(spec, skills, hidden_dims=[16], **arguments)


def test_the_critics_target_sums_over_families_by_hand():
    controller = hybrid(alpha=0.3, gamma=0.9)
    batch = Batch(
        obs=torch.rand(5, 2),
        next_obs=torch.rand(5, 2),
        reward=torch.rand(5),
        discount=torch.tensor([0.9, 0.0, 0.5, 0.9, 0.9]),
        choice=torch.cat([torch.tensor([[0.0], [1], [2], [1], [0]]), torch.rand(5, 2)], -1),
    )
    controller.generator.manual_seed(3)
    loss, q = controller.critic_loss(batch)
    controller.generator.manual_seed(3)
    with torch.no_grad():
        choice = controller.actor(batch["next_obs"])
        assert isinstance(choice.family, Categorical) and isinstance(controller.actor, HybridActor)
        parameters, densities = choice.parameters.sample(controller.generator)
        following = torch.zeros(5)
        for k in range(3):
            inputs = torch.cat([batch["next_obs"], torch.eye(3)[k].expand(5, 3), parameters[:, k]], -1)
            value = torch.stack([net(inputs)[:, 0] for net in controller.target_critic.nets]).amin(0)
            log_k = choice.family.logits[:, k]
            following += log_k.exp() * (value - 0.3 * densities[:, k] - 0.3 * log_k)
        target = batch["reward"] + batch["discount"] * following
        each = torch.eye(3)[batch["choice"][:, 0].long()]
        inputs = torch.cat([batch["obs"], each, batch["choice"][:, 1:]], -1)
        wanted = torch.stack([net(inputs)[:, 0] for net in controller.critic.nets])
    assert torch.allclose(q, wanted) and loss.item() == pytest.approx(
        (wanted - target).square().sum(0).mean().item() / 2
    )


def test_a_hybrid_choice_is_held_and_stored_as_it_was_drawn():
    env = Point(num_envs=3, horizon=9)
    controller = hybrid(hold=4, batch_size=16)
    data = Replay(100_000, env.num_envs, gamma=controller.gamma)
    state = train(env=env, learner=controller, data=data, schedule=Schedule(total=600, warmup=60, collect=3))
    batch = state.data.sample_one(controller.needs()["decisions"])
    assert state.grad_steps > 100 and set(batch["duration"].tolist()) == {4, 1}
    assert torch.equal(batch["z"][:, 0], batch["choice"][:, 0])
    assert torch.allclose(batch["z"][:, 1:], SPREAD * batch["choice"][:, 1:])
    assert set(batch["z"][:, 0].tolist()) == {0.0, 1.0, 2.0} and batch["choice"][:, 1:].abs().max() < 1


def test_skills_without_families_are_refused():
    spec = Spec(Field((2,)), Field((2,)))
    skills = ActorPolicy(obs=spec.obs, action=spec.action, space=Gaussian(2), hidden_dims=[8])
    with pytest.raises(ValueError, match=r"^controller hybrid needs skills of several families"):
        Hybrid(spec, skills)


# ---- learning


class ByChance(Choosing):
    """Twin: the family is chosen, its parameter is drawn evenly; while learning, and afterwards."""

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        chosen = super().select(obs, carry, policy_carry, first, generator, deterministic).extras["choice"].clone()
        chosen[:, 1:] = 2 * torch.rand(chosen[:, 1:].shape, generator=generator) - 1
        return Selection(self.controller.space.pair(chosen[:, 0], SPREAD * chosen[:, 1:]), extras={"choice": chosen})


class Drawing(Hybrid):
    def prior(self) -> ByChance:
        return ByChance(self)


def course(num_envs: int) -> PointMaze:
    """A maze of the size in which the skills were learnt, walked through in steps of a quarter of theirs."""
    return PointMaze(num_envs=num_envs, layout="u", cell=0.5, radius=0.15, step_radius=0.05, horizon=300)


@functools.cache
def skills(seed: int, env_steps: int) -> SkillPolicy:
    return pretrained(seed, smoothness=0.0, total=env_steps).policy


def controller(arm: str, seed: int) -> Controller:
    spec, settings = Spec.from_env(course(1)), {"hidden_dims": [64, 64], "batch_size": 128}
    if arm == "flat SAC":
        agent = partial(SAC, lr=1e-3, gamma=0.98, alpha=0.005)
        return RL(spec, Primitive(spec).policy, agent=agent, hold=1, **settings)
    learnt = skills(seed, 960 if arm == "untrained skills" else 14_000)  # 960: the first update comes after 1000
    make = Drawing if arm == "parameters drawn" else Hybrid
    return make(spec, learnt, hold=20, gamma=0.98, lr=1e-3, alpha=0.02, **settings)


def success(arm: str, seed: int) -> float:
    """In 96 fresh episodes, by the mode, after 20,000 env steps of the maze."""
    torch.manual_seed(seed)
    env = course(8)
    made = controller(arm, seed)
    made.generator.manual_seed(seed)
    data = Replay(100_000, env.num_envs, gamma=made.gamma, seed=seed)
    schedule = Schedule(20_000, warmup=1000, collect=8, updates=1)
    train(env=env, learner=made, data=data, schedule=schedule, seed=seed)
    told = rollout(course(96), made.behaviour(), made.prior(), seed=1000 + seed).success
    assert told is not None
    return float(told.mean())


@pytest.mark.learning("skillrl/controllers/hybrid.py", "skillrl/learners/mlps.py", "envs/maze.py", "envs/point_maze.py")
def test_families_and_parameters_lead_through_a_maze(seed: int, check: Check):
    ours, drawn = success("hybrid", seed), success("parameters drawn", seed)
    check(
        {
            "success": (ours, ">= 0.3"),
            "success, parameters drawn": (drawn, "< 0.5"),
            "what choosing them adds": (ours - drawn, ">= 0.1"),
            "success, untrained skills": (success("untrained skills", seed), "<= 0.1"),
            "success, flat SAC": (success("flat SAC", seed), "< 0.6"),
        }
    )
