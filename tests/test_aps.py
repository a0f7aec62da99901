"""APS: bonus, features and critic against cases made by hand, its regression, and where skills lead beside twins'."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from checks import Check
from directed_skills import ends, pretrained, radius
from torch import Tensor, nn

from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.learners.aps import APS, BonusCritic
from skillrl.optim import Adam
from skillrl.skill_library import load, save
from skillrl.skill_policy import FitsRewards, ReachesGoals
from skillrl.skill_spaces import Sphere
from skillrl.spec import Batch, Field, Spec

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def made_by_hand(**arguments: Any) -> APS:
    """φ(x, y) = (2x, y)."""
    learner = APS(SPEC, skill_space=Sphere(2), hidden_dims=(4,), **arguments)
    learner.policy.encoder = nn.Linear(2, 2, bias=False)
    learner.policy.encoder.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    learner.encoder_optimizer = Adam(learner.policy.encoder.parameters(), 1e-4)
    return learner


NEXT_OBS = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 3.0], [0.0, 4.0]])  # in φ (0, 0), (1, 0), (0, 3), (0, 4)
NEAREST = [[1.0, 3.0], [1.0, 10**0.5], [1.0, 3.0], [1.0, 4.0]]  # two others each, by hand


def batch(next_obs: Tensor = NEXT_OBS, **more: Tensor) -> Batch:
    n = len(next_obs)
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).repeat(n, 1)[:n]
    given = {"obs": torch.zeros(n, 2), "action": torch.zeros(n, 2), "discount": torch.full((n,), 0.99)}
    return Batch(next_obs=next_obs, z=z, **given | more)


def test_the_bonus_is_the_log_of_distances_by_their_running_mean():
    learner = made_by_hand(neighbours=2, distance_floor=0.5)
    assert learner.distances(NEXT_OBS).tolist() == [pytest.approx(row) for row in NEAREST]
    learner.distance.update(torch.tensor([1.0, 3.0]))  # a mean of 2
    wanted = [math.log1p(sum(max(far / 2 - 0.5, 0) for far in row) / 2) for row in NEAREST]
    assert learner.bonus(NEXT_OBS).tolist() == pytest.approx(wanted)


def test_the_reward_is_phi_at_length_1_and_the_bonus():
    learner = made_by_hand(neighbours=2)
    learner.distance.update(torch.ones(3))
    seen = batch(torch.tensor([[1.5, 4.0], [0.0, -2.0], [1.0, 0.0]]))
    reward = learner.intrinsic_reward(seen)
    torch.testing.assert_close(reward[:, :2], torch.tensor([[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]]))
    torch.testing.assert_close(reward[:, 2], learner.bonus(seen["next_obs"]))


def test_who_stands_apart_is_paid_more_for_it():
    crowd = 0.1 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    learner, paid = made_by_hand(neighbours=3), []
    learner.distance.update(learner.distances(crowd).flatten())
    for far in (0.5, 1.0, 2.0, 4.0):
        paid.append(learner.bonus(torch.cat([crowd, torch.tensor([[far, far]])]))[-1].item())
    assert paid == sorted(paid) and paid[0] > learner.bonus(crowd).mean()


def test_a_step_of_phi_turns_it_towards_z_and_takes_in_the_distances():
    learner, seen = made_by_hand(neighbours=2), batch(torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, 1.0]]))
    before = (learner.policy.features(seen["next_obs"]) * seen["z"]).sum(-1).mean()
    assert learner.fit(seen)["reward/along"].item() == pytest.approx(before.item())
    assert (learner.policy.features(seen["next_obs"]) * seen["z"]).sum(-1).mean() > before
    assert learner.distance.count == 6
    torch.testing.assert_close(learner.distance.mean, learner.distances(seen["next_obs"]).mean())


def test_the_actor_climbs_psi_along_z_and_the_bonus():
    critic = BonusCritic(SPEC.obs, SPEC.action, Sphere(2), (4,))
    assert critic(torch.zeros(5, 2), Sphere(2).sample(5), torch.zeros(5, 2)).shape == (2, 5, 3)
    q, z = torch.tensor([[[3.0, 4.0, 7.0]]]), torch.tensor([[0.6, 0.8]])
    assert critic.reduce(q, z).tolist() == [[pytest.approx(5.0 + 7.0)]]


def test_the_target_keeps_features_and_bonus_apart():
    """And is whole of the twin whose ψ·z and bonus are less together."""
    learner = made_by_hand(neighbours=1)
    learner.distance.update(torch.ones(3))
    relabelled = learner.relabel(batch(torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
    values = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 5.0, 0.0]], [[0.5, 9.0, 3.0], [1.0, 1.0, 0.0]]])
    learner.agent.target_critic.forward = lambda obs, z, action: values
    target = learner.agent.target(relabelled, torch.tensor(1e6))  # an alpha that would show
    bonus = relabelled["reward"][:, 2]
    lower = torch.stack([values[0, 0], values[1, 1]])  # ψ·z + bonus: 3 or 3.5; 4 or 1.4
    torch.testing.assert_close(
        target,
        0.99 * lower
        + torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        + torch.stack([torch.zeros(2), torch.zeros(2), bonus], -1),
    )


def test_a_rewards_task_is_its_regression_on_phi(tmp_path):
    """At length 1, and of features whose spread is unlike, where Σ r f would be another."""
    policy = made_by_hand().policy
    assert isinstance(policy, FitsRewards) and not isinstance(policy, ReachesGoals)
    obs = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    task = torch.tensor([0.28, 0.96])
    reward = policy.features(obs) @ (3 * task)
    torch.testing.assert_close(policy.reward_to_skill(obs, reward), task)
    wrong = (reward.unsqueeze(-1) * policy.features(obs)).sum(0)
    assert torch.cosine_similarity(wrong, task, 0) < 0.99
    with pytest.raises(ValueError, match="the reward is 0 in all samples"):
        policy.reward_to_skill(obs, torch.zeros(500))
    whole = APS(SPEC, hidden_dims=(4,)).policy
    save(whole, tmp_path)
    assert torch.equal(load(tmp_path).reward_to_skill(obs, reward), whole.reward_to_skill(obs, reward))


def test_what_cannot_be_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"^learner\.neighbours is 16: it must be below batch_size, 16"):
        APS(SPEC, hidden_dims=(4,), neighbours=16, batch_size=16)
    with pytest.raises(ValueError, match="needs an agent whose critic has an axis for each"):
        APS(SPEC, agent=PPO, hidden_dims=(4,))


# ---- on the point env


class Permuted(APS):
    """Twin: z is shuffled within the batch, so that it says nothing of where the step led."""

    def update(self, batches):
        batch = batches["batch"]
        order = torch.randperm(len(batch["z"]), generator=self.generator)
        return super().update({"batch": batch.replace(z=batch["z"][order])})


class WithoutBonus(APS):
    """Twin: being where few are pays nothing."""

    def bonus(self, next_obs):
        return torch.zeros(len(next_obs))


SMALL: dict[str, Any] = {
    "skill_space": Sphere(2),
    "agent": partial(SAC, tau=0.01, lr=1e-3, alpha_init=0.01, target_entropy_multiplier=0.19, entropy_in_target=False),
    "hidden_dims": (64, 64),
    "encoder_lr": 1e-3,
    "batch_size": 256,
    "hold": None,
}


def ends_along_z(policy: Any) -> float:
    """φ̂·z where each of 32 skills ends, on average: 1 if they end where they should, 0 if anywhere."""
    z = Sphere(2).enumerate(32)
    with torch.no_grad():
        features = policy.features(torch.as_tensor(ends(policy, z), dtype=torch.float32))
    return float((features * z).sum(-1).mean())


@pytest.mark.learning(
    "skillrl/learners/aps.py", "skillrl/estimators.py", "skillrl/learners/base.py", "skillrl/agents/sac.py"
)
@pytest.mark.parametrize("kind", [APS, Permuted, WithoutBonus])
def test_aps_on_the_point(kind: type[APS], seed: int, check: Check):
    """Skills end where φ̂ points along z, and far out; those of shuffled z do not the one, without a bonus the other."""
    policy = pretrained(partial(kind, **SMALL), seed, env_steps=20_000).learner.policy
    along, far = ends_along_z(policy), radius(policy, Sphere(2).enumerate(32))
    measured = {
        "φ̂ along z at the end": (along, ">= 0.6" if kind is APS else "< 0.6"),
        "final radius, of 10": (far, ">= 9" if kind is APS else "< 9"),
    }
    missed = {Permuted: ["φ̂ along z at the end"], WithoutBonus: ["final radius, of 10"]}
    check({name: measured[name] for name in missed.get(kind, measured)})
