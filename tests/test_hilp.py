"""HILP: its loss, reward and skills against cases made by hand; its distances against shortest ways; and its twin's."""

from functools import partial
from typing import Any

import pytest
import torch
from checks import Check
from four_rooms import CELLS, agreement, cells_reached, learnt_offline, rooms_kept_to
from torch import Tensor, nn

from envs.rooms import Rooms
from skillrl.agents.dqn import DQN
from skillrl.agents.ppo import PPO
from skillrl.learners.hilp import HILP, HILPPolicy, whitened
from skillrl.optim import frozen_copy
from skillrl.skill_policy import FitsRewards, ReachesGoals
from skillrl.skill_spaces import WideSphere
from skillrl.spec import Batch, Discrete, Field, Spec

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def made_by_hand(**arguments: Any) -> HILP:
    """φ₁(x, y) = (2x, y), φ₂(x, y) = (x, 0), and slow copies that are theirs halved."""
    arguments = {"goal_gamma": 0.9, "expectile": 0.7} | arguments
    learner = HILP(SPEC, skill_space=WideSphere(2), hidden_dims=(4,), encoder_dims=(4,), **arguments)
    learner.phis[0] = learner.policy.encoder = linear([2.0, 0.0], [0.0, 1.0])
    learner.phis[1] = linear([1.0, 0.0], [0.0, 0.0])
    learner.slow_phis = frozen_copy(learner.phis)
    for phi in learner.slow_phis:
        phi.weight.data *= 0.5
    return learner


def test_the_loss_is_an_expectile_of_each_v_to_its_slow_copys_target():
    """One step from (0, 0) to (1, 0), for a goal in (4, 0): V₁ = −8, V₂ = −4; slowly −4, −2; next −3, −1.5."""
    obs, next_obs, goal = torch.tensor([[0.0, 0]]), torch.tensor([[1.0, 0]]), torch.tensor([[4.0, 0]])
    loss, metrics = made_by_hand().value_loss(obs, next_obs, goal)
    first, second = -1 + 0.9 * -3, -1 + 0.9 * -1.5
    advantage = min(first, second) - (-4 - 2) / 2
    assert metrics["encoder/advantage"].item() == pytest.approx(advantage) and advantage < 0
    assert loss.item() == pytest.approx(0.3 * ((first + 8) ** 2 + (second + 4) ** 2))
    loss, _ = made_by_hand(expectile=0.5, goal_gamma=0.0).value_loss(obs, next_obs, goal)
    assert loss.item() == pytest.approx(0.5 * ((-1 + 8) ** 2 + (-1 + 4) ** 2))


def test_an_advantage_weighs_by_the_expectile():
    """Nearer than the slow V thinks: from (0, 3), which φ₂ does not see, straight to the goal's neighbour."""
    obs, next_obs, goal = torch.tensor([[9.0, 0]]), torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 0]])
    loss, metrics = made_by_hand().value_loss(obs, next_obs, goal)
    first, second = -1 + 0.9 * -1, -1 + 0.9 * -0.5
    assert metrics["encoder/advantage"].item() > 0
    assert loss.item() == pytest.approx(0.7 * ((first + 18) ** 2 + (second + 9) ** 2))


def test_at_the_goal_nothing_is_paid_and_nothing_follows():
    """The target is 0, wherever the step goes."""
    here = torch.tensor([[3.0, 1.0]])
    loss, metrics = made_by_hand().value_loss(here, here + 5, here)
    assert loss.item() == pytest.approx(2 * 1e-6 * 0.7, rel=1e-3)  # V itself is 0 but for its least size
    assert metrics["encoder/value"].item() == pytest.approx(-1e-3)


def test_goals_are_those_of_the_episode_but_for_a_share():
    batch = Batch(obs=torch.arange(4000.0).reshape(2000, 2), goal=-torch.ones(2000, 2))
    learner = made_by_hand(random_goals=0.25)
    goals = learner.draw_goals(batch)
    anywhere = goals[:, 0] >= 0
    assert anywhere.float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert (goals[~anywhere] == -1).all() and len(goals[anywhere].unique(dim=0)) == anywhere.sum()
    assert learner.needs()["batch"].future == 0.99


def test_reward_is_phi_of_where_it_led_without_the_mean():
    learner = made_by_hand()
    learner.policy.phi_mean.copy_(torch.tensor([1.0, -1.0]))
    batch = Batch(obs=torch.zeros(1, 2), next_obs=torch.tensor([[3.0, 2.0]]), z=torch.tensor([[0.6, 0.8]]))
    assert learner.intrinsic_reward(batch).tolist() == [[5.0, 3.0]]
    q = torch.tensor([[[2.0, 1.0]]])
    assert learner.agent.critic.reduce(q, batch["z"]).item() == pytest.approx(0.6 * 2 + 0.8 * 1)


def test_of_a_critic_of_one_value_the_reward_is_a_number():
    learner = HILP(Spec(Field((2,)), Discrete(3)), skill_space=WideSphere(2), hidden_dims=(4,), agent=DQN)
    assert isinstance(learner.policy, HILPPolicy)
    learner.policy.encoder = learner.phis[0] = linear([2.0, 0.0], [0.0, 1.0])
    batch = Batch(obs=torch.zeros(1, 2), next_obs=torch.tensor([[3.0, 2.0]]), z=torch.tensor([[0.6, 0.8]]))
    assert learner.intrinsic_reward(batch).tolist() == [pytest.approx(0.6 * 6 + 0.8 * 2)]


def test_the_mean_of_phi_runs_after_it():
    learner = made_by_hand(encoder_lr=1e-12)
    obs = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    learner.fit(Batch(obs=obs, next_obs=obs, goal=obs))
    assert learner.policy.phi_mean.tolist() == pytest.approx([0.005 * 4, 0.005 * 1], rel=1e-4)


def test_skills_are_half_the_spheres_and_half_whitened_states():
    features = torch.randn(500, 2) @ torch.tensor([[3.0, 0.0], [1.0, 0.5]])
    square = features.T @ features / 500
    torch.testing.assert_close(whitened(features), features @ torch.linalg.inv(square), rtol=1e-3, atol=1e-4)
    learner = made_by_hand(data_skills=1.0)
    line = torch.tensor([[1.0, 1.0], [2.0, -1.0]]).repeat(50, 1)  # two states: whitened, they are at right angles
    z = learner.draw_skills(Batch(obs=line, next_obs=line))
    assert torch.allclose(z.norm(dim=-1), torch.full((100,), 2**0.5)) and len(z.round(decimals=3).unique(dim=0)) == 2
    mixed = made_by_hand(data_skills=0.5).draw_skills(Batch(obs=line, next_obs=line))
    assert 35 <= len(mixed.round(decimals=3).unique(dim=0)) <= 67


def test_a_goal_is_aimed_at_along_phi_and_a_reward_by_its_regression():
    policy = made_by_hand().policy
    assert isinstance(policy, ReachesGoals) and isinstance(policy, FitsRewards)
    z = policy.goal_to_skill(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.5, -3.0]]))  # Δφ = (3, −4)
    torch.testing.assert_close(z, 2**0.5 * torch.tensor([[0.6, -0.8]]))
    policy.phi_mean.copy_(torch.tensor([2.0, 2.0]))
    obs = torch.randn(100, 2)
    reward = (policy.phi(obs) - policy.phi_mean) @ torch.tensor([-3.0, 4.0])
    torch.testing.assert_close(policy.reward_to_skill(obs, reward), 2**0.5 * torch.tensor([-0.6, 0.8]))
    with pytest.raises(ValueError, match="the reward is 0 in all samples"):
        policy.reward_to_skill(obs, torch.zeros(100))


def test_skills_of_the_data_are_not_read_and_on_policy_agents_refused():
    learner = made_by_hand(batch_size=8)
    names = ("obs", "next_obs", "goal", "action")
    batch = Batch({name: torch.randn(8, 2).clamp(-0.9, 0.9) for name in names}, discount=torch.full((8,), 0.98))
    assert learner.update({"batch": batch})["critic/loss"].isfinite()
    with pytest.raises(ValueError, match="take agent sac or dqn"):
        HILP(SPEC, agent=PPO, hidden_dims=(4,))


# ---- on four rooms, from a random walk's data


class Permuted(HILP):
    """Twin: what steps led to is shuffled within the batch, against states and goals. (Goals alone may be shuffled: of
    any goal whatever, a step says whether it came nearer.)"""

    def value_loss(self, obs: Tensor, next_obs: Tensor, goal: Tensor):
        return super().value_loss(obs, next_obs[self.permutation(obs)], goal)


def spec_of_rooms() -> Spec:
    return Spec.from_env(Rooms(num_envs=1, horizon=100, observe=["cell"]))


SMALL = {
    "agent": partial(DQN, gamma=0.5, lr=1e-3, target_every=20),  # at 0.8 it gets there too, in 5,000 updates
    "skill_space": WideSphere(4),
    "hidden_dims": (128,),
    "encoder_dims": (64, 64),
    "encoder_lr": 1e-3,
    "encoder_tau": 0.02,
    "expectile": 0.9,
    "goal_gamma": 0.95,
    "batch_size": 256,
}


@pytest.mark.learning("skillrl/learners/hilp.py", "skillrl/learners/base.py", "skillrl/data/", "envs/rooms.py")
@pytest.mark.parametrize("kind", [HILP, Permuted])
def test_hilp_in_four_rooms(kind: type[HILP], seed: int, check: Check):
    """Distances in φ are numbers of steps, skills lead to goals, and the twin's do not."""
    torch.manual_seed(seed)
    learner = kind(spec_of_rooms(), **SMALL)  # type: ignore[arg-type]
    untrained = agreement(learner.policy.phi(CELLS).detach())
    data = learnt_offline(learner, seed=seed, updates=2000).data
    real = kind is HILP
    check(
        {
            "rank correlation of distances, untrained": (untrained, "< 0.95"),
            "rank correlation of distances": (
                agreement(learner.policy.phi(CELLS).detach()),
                ">= 0.95" if real else "< 0.95",
            ),
            "cells reached": (cells_reached(learner.policy), ">= 0.9" if real else "< 0.9"),
            "paid rooms kept to": (rooms_kept_to(learner.policy, data), ">= 0.5" if real else "< 0.5"),
        }
    )
