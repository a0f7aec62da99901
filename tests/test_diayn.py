"""DIAYN: its reward against a hand-made discriminator, its views, and what it learns beside its twins."""

import functools
import math
from functools import partial

import numpy as np
import pytest
import torch
from checks import Check
from torch import Tensor, nn

from envs.goal import PointGoal
from envs.point import Point
from envs.swimmer import Swimmer
from skillrl.agents.sac import SAC
from skillrl.controllers.random import Random
from skillrl.controllers.rl import RL
from skillrl.data.collector import Collector
from skillrl.data.replay import Replay
from skillrl.evaluation.metrics import cell_table, recognise
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.base import Learner
from skillrl.learners.diayn import DIAYN
from skillrl.skill_policy import InfersSkills, freeze
from skillrl.skill_spaces import Discrete, Gaussian, Sphere
from skillrl.spec import Batch, Spec
from skillrl.training import Schedule, Updating, begin, one_by_one, train

K = 8


class Table(nn.Module):
    """q(z | s) ∝ exp(W s), with weights that a person can check."""

    def __init__(self, weights: list[list[float]]):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, obs: Tensor) -> Tensor:
        return obs @ self.weights.T


def batch_of(next_obs: Tensor, z: list[int]) -> Batch:
    return Batch(obs=torch.zeros_like(next_obs), next_obs=next_obs, z=torch.tensor(z))


def test_reward_against_a_hand_made_discriminator():
    learner = DIAYN(Spec.from_env(Point(num_envs=1)), skill_space=Discrete(3), hidden_dims=(4,))
    learner.policy.discriminator = Table([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    next_obs = torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 3.0]])
    reward = learner.intrinsic_reward(batch_of(next_obs, [0, 1, 2]))
    e = math.exp
    by_hand = [
        math.log(e(1) / (e(1) + 1 + 1)) + math.log(3),
        math.log(e(-2) / (e(0.5) + e(-2) + 1)) + math.log(3),
        math.log(1 / (1 + e(6) + 1)) + math.log(3),
    ]
    assert reward.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_reward_is_zero_where_nothing_is_known_and_log_k_where_all_is():
    learner = DIAYN(Spec.from_env(Point(num_envs=1)), skill_space=Discrete(K), hidden_dims=(4,))
    learner.policy.discriminator = Table([[0.0, 0.0]] * K)
    assert learner.intrinsic_reward(batch_of(torch.randn(5, 2), [0, 1, 2, 3, 4])).abs().max() < 1e-6
    learner.policy.discriminator = Table([[100.0, 0.0]] + [[0.0, 0.0]] * (K - 1))
    assert learner.intrinsic_reward(batch_of(torch.ones(1, 2), [0])).item() == pytest.approx(math.log(K), abs=1e-6)


class Line(nn.Module):
    """A posterior over z in R²: mean (x, 2 y), deviations 0.5 and e^y."""

    def forward(self, obs: Tensor) -> Tensor:
        x, y = obs.unbind(-1)
        return torch.stack([x, 2 * y, torch.full_like(x, math.log(0.5)), y], -1)


def test_reward_against_a_hand_made_posterior_of_a_continuous_z():
    learner = DIAYN(Spec.from_env(Point(num_envs=1)), skill_space=Gaussian(2), hidden_dims=(4,))
    learner.policy.discriminator = Line()
    next_obs = torch.tensor([[1.0, 0.0], [-0.5, 1.5]])
    z = torch.tensor([[1.2, -0.3], [0.5, 2.0]])
    reward = learner.intrinsic_reward(Batch(next_obs=next_obs, z=z))

    def log_normal(x: float, mean: float, std: float) -> float:
        return -0.5 * ((x - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)

    by_hand = [
        log_normal(1.2, 1, 0.5) + log_normal(-0.3, 0, 1) - log_normal(1.2, 0, 1) - log_normal(-0.3, 0, 1),
        log_normal(0.5, -0.5, 0.5) + log_normal(2, 3, math.exp(1.5)) - log_normal(0.5, 0, 1) - log_normal(2, 0, 1),
    ]
    assert reward.tolist() == pytest.approx(by_hand, abs=1e-6)
    loss = learner.policy.posterior(next_obs).log_prob(z).mean()
    assert learner.policy.log_posterior(next_obs, z).mean().item() == pytest.approx(loss.item())


def test_a_posterior_is_asked_alike_of_both_kinds_of_skills():
    spec = Spec.from_env(Point(num_envs=1))
    one, other = (DIAYN(spec, skill_space=s, hidden_dims=(4,)).policy for s in (Discrete(3), Gaussian(2)))
    obs, z = torch.randn(5, 2), torch.tensor([0, 2, 1, 1, 0])
    assert isinstance(one, InfersSkills) and isinstance(other, InfersSkills)
    assert one.log_posterior(obs).shape == (5, 3) and other.log_posterior(obs, torch.randn(5, 2)).shape == (5,)
    assert torch.equal(one.log_posterior(obs, z), one.log_posterior(obs)[torch.arange(5), z])
    assert torch.allclose(one.log_posterior(obs).exp().sum(-1), torch.ones(5))
    with pytest.raises(ValueError, match="cannot be counted: say of which z"):
        other.log_posterior(obs)


def test_the_continuous_discriminator_learns_mean_and_deviation():
    """z = 0.8 x + noise: of the second coordinate nothing is known."""
    torch.manual_seed(0)
    learner = DIAYN(Spec.from_env(Point(num_envs=1)), skill_space=Gaussian(2), hidden_dims=(32,), discriminator_lr=0.01)
    for _ in range(400):
        x = torch.randn(256)
        z = torch.stack([0.8 * x + 0.6 * torch.randn(256), torch.randn(256)], -1)
        metrics = learner.fit(Batch(next_obs=torch.stack([x, torch.zeros(256)], -1), z=z))
    posterior = learner.policy.posterior(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert torch.allclose(posterior.mean, torch.tensor([[0.8, 0.0], [-0.8, 0.0]]), atol=0.15)
    assert torch.allclose(posterior.log_std.exp(), torch.tensor([[0.6, 1.0]] * 2), atol=0.12)
    x, z = torch.randn(20_000), torch.randn(20_000, 2)
    z[:, 0] = 0.8 * x + 0.6 * z[:, 0]
    reward = learner.intrinsic_reward(Batch(next_obs=torch.stack([x, torch.zeros(20_000)], -1), z=z)).mean()
    assert reward.item() == pytest.approx(-math.log(0.6), abs=0.05)  # I(x; z), what the posterior can know
    assert metrics["discriminator/std"].item() == pytest.approx(0.8, abs=0.1)


def test_views_decide_what_is_seen():
    spec = Spec.from_env(Swimmer(num_envs=1))
    learner = DIAYN(spec, skill_space=Discrete(3), hidden_dims=(4,), policy_view="body", discriminator_view="xy")
    assert tuple(learner.policy.posterior_obs.names) == ("xy",)
    assert isinstance(learner.policy, InfersSkills) and "xy" not in learner.policy.obs.names
    obs = torch.randn(6, spec.obs.dim)
    moved = obs.clone()
    moved[:, slice(*spec.obs.names["joints"])] += 1.0
    moved[:, slice(*spec.obs.names["velocities"])] -= 1.0
    assert torch.equal(learner.log_q(obs), learner.log_q(moved))
    with pytest.raises(ValueError, match="view 'place' is not known"):
        DIAYN(spec, discriminator_view="place")
    with pytest.raises(ValueError, match="skill_space is Sphere: DIAYN's posterior is for Discrete or Gaussian"):
        DIAYN(spec, skill_space=Sphere(2))


def test_the_discriminator_learns_and_the_reward_follows_at_once():
    torch.manual_seed(0)
    learner = DIAYN(Spec.from_env(Point(num_envs=1)), skill_space=Discrete(2), hidden_dims=(16,), discriminator_lr=0.02)
    z = torch.arange(64) % 2
    next_obs = torch.stack([z.float() * 2 - 1, torch.zeros(64)], -1)
    batch = Batch(obs=next_obs, next_obs=next_obs, z=z, action=torch.zeros(64, 2), discount=torch.ones(64))
    before = learner.intrinsic_reward(batch).mean()
    for _ in range(100):
        learner.update({"batch": batch})
    assert before.abs() < 0.2 and learner.relabel(batch)["reward"].mean() > 0.9 * math.log(2)


def test_noise_blurs_what_the_discriminator_is_fitted_to_and_not_the_reward():
    """Two skills, one apart. The best q at a state x from them, under noise s, has the odds exp(x / s²)."""
    torch.manual_seed(0)
    learner = DIAYN(
        Spec.from_env(Point(num_envs=1)),
        skill_space=Discrete(2),
        hidden_dims=(16,),
        discriminator_lr=0.01,
        discriminator_noise=0.5,
    )
    z = torch.arange(1024) % 2
    batch = batch_of(torch.stack([z.float() - 0.5, torch.zeros(1024)], -1), z.tolist())
    for _ in range(500):
        learner.fit(batch)
    reward = learner.intrinsic_reward(batch)
    assert reward.std() < 0.2 and torch.equal(reward, learner.intrinsic_reward(batch)), "the reward is read exactly"
    assert reward.mean().item() == pytest.approx(math.log(2) - math.log(1 + math.exp(-0.5 / 0.5**2)), abs=0.03)
    with pytest.raises(ValueError, match="discriminator_noise is -1"):
        DIAYN(learner.spec, discriminator_noise=-1)


class Permuted(DIAYN):
    """Twin: z is shuffled within the batch, so that it says nothing of the states."""

    def update(self, batches):
        batch = batches["batch"]
        order = torch.randperm(len(batch["z"]), generator=self.generator)
        return super().update({"batch": batch.replace(z=batch["z"][order])})


class Unpaid(DIAYN):
    """Twin: the discriminator learns, its reward is off."""

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch["z"]))


def pretrained(kind: type[DIAYN], space: Discrete | Gaussian, seed: int, updating: Updating = one_by_one) -> DIAYN:
    torch.manual_seed(seed)
    env = Point(num_envs=8)
    agent = partial(SAC, tau=0.01, alpha=0.1)
    learner = kind(Spec.from_env(env), skill_space=space, hidden_dims=(64, 64), agent=agent)
    learner.generator.manual_seed(seed)
    data = Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    schedule = Schedule(total=50_000, warmup=1_000)
    state = begin(env=env, learner=learner, data=data, schedule=schedule, seed=seed)
    state.updating = updating
    train(env=env, learner=learner, data=data, schedule=schedule, state=state)
    return learner


def mean_reward(learner: DIAYN, seed: int) -> float:
    rows = Point(num_envs=96)
    collector = Collector(rows, learner.policy, learner.prior(), spec=learner.spec, seed=seed + 1)
    collector.reset(seed + 1)
    with torch.no_grad():
        return float(np.mean([learner_reward(learner, collector.tick()[0]) for _ in range(50)]))


def learner_reward(learner: DIAYN, step: Batch) -> float:
    """DIAYN's own, also where a twin pays something else."""
    return float(DIAYN.intrinsic_reward(learner, step).mean())


def discriminability(learner: DIAYN, seed: int) -> float:
    """Over sampled actions. The point env is deterministic and starts on the corner of four cells, so that mean actions
    repeat themselves exactly and any drift tells skills apart: there, the twin with permuted z has 0.75 to 1.0."""
    labels = np.arange(12 * K) % K
    rows = Point(num_envs=len(labels))
    told = rollout(rows, learner.policy, torch.as_tensor(labels), seed=seed, deterministic=False)
    return recognise(cell_table(told.coordinates, told.length, 1.0), labels, K, seed=seed).accuracy


@pytest.mark.learning("skillrl/learners/diayn.py", "skillrl/learners/base.py", "skillrl/agents/sac.py", "skillrl/data")
@pytest.mark.parametrize("kind", [DIAYN, Permuted, Unpaid])
def test_diayn_on_the_point(kind: type[DIAYN], seed: int, check: Check):
    """It tells its skills apart, and its twins do not. A reward of log K is the most; by chance 1/8 are told."""
    learner = pretrained(kind, Discrete(K), seed=seed)
    relation = ">=" if kind is DIAYN else "<"
    check(
        {
            "reward, of log K": (mean_reward(learner, seed) / math.log(K), f"{relation} 0.7"),
            "discriminability": (discriminability(learner, seed), f"{relation} 0.8"),
        }
    )


@functools.cache
def continuous(kind: type[DIAYN], seed: int) -> DIAYN:
    return pretrained(kind, Gaussian(2), seed=seed)


CONTINUOUS = pytest.mark.learning("skillrl/learners/diayn.py", "skillrl/learners/base.py", "skillrl/agents/sac.py")
KNOWN = 2 * math.log(2)  # nats that a posterior knows which is half as wide as the prior in both of z's coordinates


@CONTINUOUS
@pytest.mark.parametrize("kind", [DIAYN, Permuted])
def test_continuous_diayn_tells_its_skills_apart(kind: type[DIAYN], seed: int, check: Check):
    known = mean_reward(continuous(kind, seed), seed) / KNOWN
    check({"reward, of what half of the prior's width is": (known, "> 1" if kind is DIAYN else "< 0.1")})


def success(controller: Learner, seed: int) -> float:
    """In training, over the last sixth of the episodes."""
    told: list[float] = []
    controller.generator.manual_seed(seed)
    train(
        env=PointGoal(num_envs=8),
        learner=controller,
        data=Replay(100_000, 8, gamma=controller.gamma, seed=seed),
        schedule=Schedule(total=24_000, warmup=1_000),
        hooks=[lambda state: told.extend(episode["episode/success"] for episode in state.episodes)],
        seed=seed,
    )
    return float(np.mean(told[-len(told) // 6 :]))


@CONTINUOUS
@pytest.mark.learning("skillrl/controllers/rl.py")
def test_sac_over_continuous_skills_learns_where_each_leads(seed: int, check: Check):
    spec, skills = Spec.from_env(PointGoal(num_envs=1)), freeze(continuous(DIAYN, seed).policy)
    torch.manual_seed(seed)
    chosen = success(RL(spec, skills, agent=partial(SAC, alpha=0.02, lr=1e-3), hold=10, hidden_dims=(64, 64)), seed)
    by_chance = success(Random(spec, skills, hold=10), seed)
    gain = chosen / max(by_chance, 1e-9)
    check({"success by chance": (by_chance, "> 0"), "success, of that by chance": (gain, "> 2")})
