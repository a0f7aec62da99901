"""MASD: reward and bottleneck against closed forms, who sees what, and skills of two that neither tells alone."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from checks import Check
from torch import Tensor, nn

from envs.particles import Sides
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.evaluation import metrics
from skillrl.evaluation.rollouts import rollouts
from skillrl.learners.diayn import DIAYN
from skillrl.learners.masd import MASD
from skillrl.networks import TeamCritic
from skillrl.skill_library import load, save
from skillrl.skill_policy import InfersSkills, SkillPolicy
from skillrl.skill_spaces import Discrete, Gaussian
from skillrl.spec import Batch, Field, Spec
from skillrl.training import Schedule, train

SPEC = Spec(Field((2, 3), names={"xy": (0, 2), "others": (2, 3)}), Field((2, 2)), agents=2, horizon=20)
LOG2 = math.log(2)


def learner(**arguments: object) -> MASD:
    torch.manual_seed(0)
    chosen = {"skill_space": Discrete(2), "hidden_dims": [32], "discriminator_lr": 1e-2} | arguments
    return MASD(SPEC, **chosen)  # type: ignore[arg-type]


class Says(nn.Module):
    """A discriminator that gives skill 1 the probability ``share`` whatever it sees."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, seen: Tensor) -> Tensor:
        return torch.tensor([1 - self.share, self.share]).log().expand(len(seen), 2)


def told(sides: Tensor, z: Tensor, seed: int = 1) -> Batch:
    """Transitions to x = the side of each agent, (B, 2), and noise elsewhere."""
    obs = 0.1 * torch.randn(len(z), 2, 3, generator=torch.Generator().manual_seed(seed))
    obs[..., 0] = sides.float()
    return Batch(obs=obs, next_obs=obs, z=z, reward=torch.zeros(len(z), 2), discount=torch.ones(len(z), 2))


def sides(n: int = 512) -> Tensor:
    """Each agent left or right, −1 or 1, by chance."""
    return 2 * torch.randint(2, (n, 2), generator=torch.Generator().manual_seed(2)) - 1


def opposite(sides: Tensor) -> Tensor:
    return (sides[:, 0] != sides[:, 1]).long()


# ---- the reward


@pytest.mark.parametrize("bottleneck", [0.0, 0.25, 1.0, 2.0])
def test_the_reward_by_hand(bottleneck: float):
    made = learner(bottleneck=bottleneck)
    made.policy.discriminator, made.alone = Says(0.9), nn.ModuleList([Says(0.6), Says(0.3)])
    reward = made.intrinsic_reward(told(sides(2), torch.tensor([1, 0])))
    assert reward.shape == (2, 2)
    for row, (q, first, second) in enumerate([(0.9, 0.6, 0.3), (0.1, 0.4, 0.7)]):
        expected = math.log(q) - bottleneck * (math.log(first) + math.log(second)) / 2 + (1 - bottleneck) * LOG2
        assert reward[row].tolist() == pytest.approx([expected] * 2, abs=1e-6)  # shared by all


@pytest.mark.parametrize("bottleneck", [0.0, 0.5, 1.0])
def test_what_nobody_alone_tells_is_worth_log_k_and_what_each_tells_only_the_rest(bottleneck: float):
    made = learner(bottleneck=bottleneck)
    certain = 1 - 1e-9
    made.policy.discriminator = Says(certain)
    batch = told(sides(1), torch.tensor([1]))
    for share, worth in ((0.5, LOG2), (certain, (1 - bottleneck) * LOG2)):
        made.alone = nn.ModuleList([Says(share), Says(share)])
        assert made.intrinsic_reward(batch)[0].tolist() == pytest.approx([worth] * 2, abs=1e-5)


def fitted(made: MASD, batch: Batch) -> dict[str, float]:
    for _ in range(400):
        found = made.fit(batch)
    return {name: float(value) for name, value in found.items()}


def test_of_same_or_opposite_sides_the_joint_discriminator_alone_can_tell():
    """Both are fitted to their optima: what is paid for is exactly what takes two."""
    where = sides()
    z, made = opposite(where), learner()
    found = fitted(made, told(where, z))
    assert found["discriminator/accuracy"] == 1.0 and found["discriminator/loss"] < 0.05
    assert found["discriminator/accuracy_alone"] < 0.65  # some of the noise is learnt by heart
    assert made.intrinsic_reward(told(where, z, seed=5)).mean() > 0.9 * LOG2


def test_what_an_agent_tells_alone_is_taken_from_the_reward():
    where = sides()
    z, made = (where[:, 0] > 0).long(), learner()
    found = fitted(made, told(where, z))
    assert found["discriminator/loss"] < 0.05
    reward = made.intrinsic_reward(told(where, z)).mean().item()
    assert reward < 0.6 * LOG2  # the first agent's half is gone
    made.bottleneck = 0.0
    assert made.intrinsic_reward(told(where, z)).mean().item() > 0.95 * LOG2


# ---- who sees what


def test_each_discriminator_sees_its_own_agents_state_and_the_joint_one_sees_all():
    made, obs = learner(), torch.randn(4, 2, 3)
    other, hidden = obs.clone(), obs.clone()
    other[:, 1, 0] += 1
    hidden[..., 2] += 1  # what it sees of others
    alone, changed = made.log_q_alone(obs), made.log_q_alone(other)
    assert alone.shape == (4, 2, 2)
    assert torch.equal(alone[:, 0], changed[:, 0]) and not torch.allclose(alone[:, 1], changed[:, 1])
    joint = [made.policy.log_posterior(made.seen(seen)) for seen in (obs, other, hidden)]
    assert not torch.allclose(joint[0], joint[1]) and torch.equal(joint[0], joint[2])
    assert torch.equal(made.log_q_alone(hidden), alone)
    assert torch.allclose(made.policy.log_posterior(made.seen(obs), torch.tensor([0, 1, 0, 1])).exp(),
                          joint[0].exp()[torch.arange(4), torch.tensor([0, 1, 0, 1])])  # fmt: skip


def test_an_actor_sees_its_own_agent_and_agents_that_see_the_same_do_the_same():
    policy, obs, z = learner().policy, torch.randn(5, 2, 3), torch.tensor([0, 1, 0, 1, 1])
    mean = policy.dist(obs, z).mean
    assert torch.allclose(policy.dist(obs.flip(1), z).mean, mean.flip(1))  # they share their parameters
    other = obs.clone()
    other[:, 1] += 1
    assert torch.equal(policy.dist(other, z).mean[:, 0], mean[:, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_critic_sees_what_all_agents_see_and_do(channels: int):
    torch.manual_seed(0)
    critic = TeamCritic(SPEC.obs, SPEC.action, Gaussian(2), [16], channels=channels)
    obs, action, z = torch.randn(5, 2, 3), torch.randn(5, 2, 2), torch.randn(5, 2)
    q = critic(obs, z, action)
    assert q.shape == (2, 5, 2, channels) and critic.reduce(q, z).shape == (2, 5, 2)
    for agent in range(2):
        for changed in (obs, action):
            other = changed.clone()
            other[:, agent] += 1
            moved = critic(other, z, action) if changed is obs else critic(obs, z, other)
            assert ((moved - q).abs().amax((0, 1, 3)) > 1e-4).all()  # both agents' values
    assert not torch.allclose(critic(obs, z + 1, action), q)


def test_sac_teaches_each_agent_its_own_reward_by_what_all_do():
    torch.manual_seed(0)
    agent = learner(agent=partial(SAC, alpha=0.3)).agent
    batch = Batch(
        obs=torch.randn(6, 2, 3), next_obs=torch.randn(6, 2, 3), action=torch.rand(6, 2, 2), z=sides(6)[:, 0] > 0
    )
    batch = batch.replace(z=batch["z"].long(), reward=torch.randn(6, 2), discount=torch.rand(6, 2))
    generator = torch.Generator().manual_seed(3)
    target = agent.target(batch, torch.tensor(0.3), generator)
    action, log_prob = agent.actor(batch["next_obs"], batch["z"]).sample(generator.manual_seed(3))
    assert log_prob.shape == (6, 2)
    q = agent.target_critic(batch["next_obs"], batch["z"], action)[..., 0].amin(0)  # (6, 2)
    assert torch.allclose(target[..., 0], batch["reward"] + batch["discount"] * (q - 0.3 * log_prob), atol=1e-6)
    before = [p.clone() for p in agent.parameters()]
    found = agent.update(batch, generator)
    assert all(value.dim() == 0 for value in found.values())
    assert sum(bool((a != b).any()) for a, b in zip(before, agent.parameters())) > len(before) / 2


# ---- kept, and refused


def test_saved_skills_know_which_they_are(tmp_path: Path):
    made = learner()
    saved, obs, z = load(save(made.policy, tmp_path)), torch.randn(5, 2, 3), torch.tensor([0, 1, 0, 1, 1])
    assert isinstance(saved, InfersSkills) and saved.posterior_obs.shape == (2, 2)
    assert torch.equal(saved.log_posterior(made.seen(obs), z), made.policy.log_posterior(made.seen(obs), z))
    assert torch.equal(saved.dist(obs, z).mode(), made.policy.dist(obs, z).mode())


def test_one_agent_is_no_team_and_a_team_is_not_one_agent():
    alone = Spec(Field((3,)), Field((2,)))
    with pytest.raises(
        ValueError, match=r"^learner masd needs a team of at least 2 agents, this env has 1: take diayn$"
    ):
        MASD(alone, state_view=None)
    with pytest.raises(ValueError, match=r"^learner DIAYN needs an env of one agent, this has 2: take masd or flat$"):
        DIAYN(SPEC)
    with pytest.raises(ValueError, match=r"^learner\.bottleneck is -1"):
        learner(bottleneck=-1)
    with pytest.raises(ValueError, match=r"^learner\.skill_space is Gaussian"):
        learner(skill_space=Gaussian(2))
    with pytest.raises(ValueError, match=r"^view 'wings' is not known"):
        learner(state_view="wings")


# ---- same or opposite sides


def pretrained(seed: int, bottleneck: float) -> SkillPolicy:
    """Two skills of two particles on a line."""
    torch.manual_seed(seed)
    env = Sides(num_envs=16)
    made = MASD(
        Spec.from_env(env),
        skill_space=Discrete(2),
        agent=partial(SAC, lr=2e-3, alpha=0.1, gamma=0.9, tau=0.02),
        hidden_dims=[64, 64],
        discriminator_lr=2e-3,
        bottleneck=bottleneck,
    )
    made.generator.manual_seed(seed)
    data = Replay(16_000, env.num_envs, gamma=made.gamma, seed=seed)
    schedule = Schedule(total=64_000, warmup=1_000, collect=32, updates=1)
    train(env=env, learner=made, data=data, schedule=schedule, seed=seed)
    return made.policy


def recognised(policy: SkillPolicy, seed: int) -> tuple[float, list[float]]:
    """How often a fresh classifier names the skill of a fresh rollout: by where both are, and by each of them."""
    told = rollouts(Sides(num_envs=200), policy, torch.arange(1000) % 2, seed=seed)
    labels, cell = told.z[:, 0], 1.0  # which side

    def accuracy(coordinates: np.ndarray) -> float:
        return metrics.recognise(metrics.cell_table(coordinates, told.length, cell), labels, 2, seed=seed).accuracy

    return accuracy(told.coordinates), [accuracy(own) for own in metrics.of_each(told.coordinates, told.agents)]


@pytest.mark.learning("skillrl/learners/masd.py", "skillrl/agents/sac.py", "skillrl/networks.py", "envs/particles.py")
def test_masd_skills_take_two(seed: int, check: Check):
    """The bottleneck's twin is without it: then the skill shows in one agent alone, which is what the gate forbids."""
    both, alone = recognised(pretrained(seed, 2.0), seed)
    _, twins = recognised(pretrained(seed, 0.0), seed)
    check(
        {
            "both agents tell the skill": (both, ">= 0.9"),
            "the first alone": (alone[0], "<= 0.6"),
            "the second alone": (alone[1], "<= 0.6"),
            "one alone, of the twin without a bottleneck": (max(twins), "> 0.6"),
        }
    )
