"""TD3: an update is Stable-Baselines3's, due or not; its target is right by hand; it solves a bandit."""

import pytest
import torch
from test_sac import SPEC, Env, random_batch, sb3_train
from torch import Generator

from skillrl.agents.base import build
from skillrl.agents.td3 import TD3
from skillrl.networks import Actor, Critic, NoisyActor
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Field, Spec
from skillrl.spec import Discrete as DiscreteAction

torch.set_num_threads(1)
ONE_SKILL = Discrete(1)


def make(spec: Spec = SPEC, **hyper) -> TD3:
    shapes = {"obs": spec.obs, "action": spec.action, "space": ONE_SKILL, "hidden_dims": [16, 16]}
    return TD3(spec, actor=NoisyActor(**shapes), critic=Critic(**shapes), **hyper)


def sb3():
    from stable_baselines3 import TD3 as Reference
    from stable_baselines3.common.logger import configure

    kwargs = {"net_arch": [16, 16]}
    model = Reference("MlpPolicy", Env(), gamma=0.97, seed=1, device="cpu", buffer_size=8, policy_kwargs=kwargs)
    model.set_logger(configure(format_strings=[]))
    with torch.no_grad():
        for parameter in [*model.critic_target.parameters(), *model.actor_target.parameters()]:  # fallen behind
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_update_is_stable_baselines3s():
    reference, agent = sb3(), make(gamma=0.97)
    names = {"actor": "actor", "target_actor": "actor_target", "critic": "critic", "target_critic": "critic_target"}

    def pairs():
        for ours, theirs in names.items():
            yield from zip(getattr(agent, ours).parameters(), getattr(reference, theirs).parameters(), strict=True)

    for mine, their in pairs():
        mine.data.copy_(their.data)
    for seed in range(5):
        batch = random_batch(seed=seed)
        before = [parameter.clone() for parameter in agent.actor.parameters()]
        theirs = sb3_train(reference, batch, seed)
        ours = agent.update(batch, Generator().manual_seed(seed))  # the same stream
        assert ours["critic/loss"].item() == pytest.approx(theirs["train/critic_loss"], abs=1e-5)
        for mine, their in pairs():
            assert torch.allclose(mine, their, rtol=0, atol=1e-5)
        moved = any((a != b).any() for a, b in zip(before, agent.actor.parameters(), strict=True))
        assert moved == (seed % 2 == 1), "the actor moves at every second update, and not a bit at the others"
        if moved:
            assert ours["actor/loss"].item() == pytest.approx(theirs["train/actor_loss"], abs=1e-5)


class Known(NoisyActor):
    """Plays 0.9."""

    def forward(self, obs, z):
        dist = super().forward(obs, z)
        dist.mean = torch.full_like(dist.mean, 0.9)
        return dist


def test_the_target_by_hand():
    """Q'_1 = a, Q'_2 = 2a: the lower one, of an action that noise moved by at most the clip, in the box."""
    spec = Spec(Field((1,)), Field((1,)))
    shapes = {"obs": spec.obs, "action": spec.action, "space": ONE_SKILL, "hidden_dims": [4]}
    agent = TD3(spec, actor=Known(**shapes), critic=Critic(**shapes), target_noise=1e6, target_noise_clip=0.3)
    agent.target_critic.forward = lambda obs, z, action: torch.stack([action, 2 * action])
    batch = Batch(obs=torch.zeros(500, 1), next_obs=torch.zeros(500, 1), z=torch.zeros(500, dtype=torch.int64))
    batch |= Batch(reward=torch.full((500,), 5.0), discount=torch.full((500,), 0.5))
    target = agent.target(batch, Generator().manual_seed(0))
    low, high = target < 5.4, target > 5.4
    assert torch.allclose(target[low], torch.tensor(5.3)) and torch.allclose(target[high], torch.tensor(5.5))
    assert 150 < low.sum() < 350


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_climbs_the_reward_of_a_bandit(sign: float):
    torch.manual_seed(0)
    spec, rng = Spec(Field((1,)), Field((1,))), Generator().manual_seed(0)
    agent = make(spec)
    for _ in range(300):
        action = 2 * torch.rand(64, 1, generator=rng) - 1
        obs = torch.ones(64, 1)
        batch = Batch(obs=obs, next_obs=obs, action=action, z=torch.zeros(64, dtype=torch.int64))
        agent.update(batch | Batch(reward=sign * action[:, 0], discount=torch.zeros(64)), rng)
    mode = agent.actor(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)).mode().item()
    assert sign * mode > 0.8


def test_exploration_has_the_noise_that_was_asked_for():
    policy, agent = build(TD3, SPEC, obs=SPEC.obs, action=SPEC.action, space=ONE_SKILL, hidden_dims=[8])
    obs, z = torch.zeros(4000, 3), torch.zeros(4000, dtype=torch.int64)
    action, _ = policy.act(obs, z, generator=Generator().manual_seed(0))
    assert (action - policy.dist(obs, z).mode()).std().item() == pytest.approx(0.1, rel=0.05)
    assert agent.gamma == 0.99


def test_what_it_cannot_train_is_refused_in_a_line():
    shapes = {"obs": SPEC.obs, "action": SPEC.action, "space": ONE_SKILL, "hidden_dims": [4]}
    with pytest.raises(ValueError, match="needs a box action"):
        TD3(Spec(SPEC.obs, DiscreteAction(2)), actor=NoisyActor(**shapes), critic=Critic(**shapes))
    with pytest.raises(ValueError, match="needs an actor with noise"):
        TD3(SPEC, actor=Actor(**shapes), critic=Critic(**shapes))
    with pytest.raises(ValueError, match="of one channel, this one has 2"):
        TD3(SPEC, actor=NoisyActor(**shapes), critic=Critic(**shapes, channels=2))
    with pytest.raises(ValueError, match=r"agent\.policy_delay is 0"):
        make(policy_delay=0)
