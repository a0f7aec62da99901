"""DIAYN: its reward against a hand-made discriminator, its views, and what it learns beside its twins."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.point import Point
from envs.swimmer import Swimmer
from skillrl.agents.sac import SAC
from skillrl.data.collector import Collector
from skillrl.data.replay import Replay
from skillrl.evaluation.metrics import cell_table, recognise
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.diayn import DIAYN
from skillrl.skill_policy import InfersSkills
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Spec
from skillrl.training import Schedule, train

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


def pretrained(kind: type[DIAYN], seed: int) -> tuple[float, float]:
    """Mean reward and discriminability over fresh stochastic rollouts."""
    torch.manual_seed(seed)
    env = Point(num_envs=8)
    agent = partial(SAC, tau=0.01, alpha=0.1)
    learner = kind(Spec.from_env(env), skill_space=Discrete(K), hidden_dims=(64, 64), agent=agent)
    learner.generator.manual_seed(seed)
    data = Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    train(env=env, learner=learner, data=data, schedule=Schedule(total=50_000, warmup=1_000), seed=seed)
    return mean_reward(learner, seed), discriminability(learner, seed)


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
def test_diayn_tells_its_skills_apart_and_its_twins_do_not(kind: type[DIAYN]):
    """Gates: 0.7 log K of a ceiling of log K, and 0.8 where chance is 1/8."""
    reward, told = pretrained(kind, seed=0)
    if kind is DIAYN:
        assert reward >= 0.7 * math.log(K) and told >= 0.8
    else:
        assert reward < 0.7 * math.log(K) and told < 0.8
