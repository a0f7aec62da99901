"""The controller of parameterised skills: a hybrid choice's density, its critic's target by hand, how it is held."""

from typing import Any

import pytest
import torch
from torch import Tensor

from envs.point import Point
from skillrl.controllers.hybrid import SPREAD, Hybrid, HybridActor, HybridChoice
from skillrl.data.replay import Replay
from skillrl.distributions import Categorical, TanhNormal
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Gaussian
from skillrl.skill_spaces import Hybrid as HybridSpace
from skillrl.spec import Batch, Field, Spec
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
