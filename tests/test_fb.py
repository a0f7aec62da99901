"""FB: its losses and skills against cases made by hand; F·B against (I − γP)⁻¹ where that can be computed; its twin."""

from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from four_rooms import CELLS, learnt_offline, rewards_earned
from torch import Tensor, nn

from envs.rooms import Rooms
from skillrl.distributions import NoisyMode
from skillrl.learners.fb import FB, off_diagonal
from skillrl.skill_policy import FitsRewards, ReachesGoals
from skillrl.skill_spaces import Sphere, WideSphere
from skillrl.spec import Batch, Discrete, Field, Spec

BOX, CHOICE = Spec(Field((2,)), Field((2,))), Spec(Field((2,)), Discrete(3))


def small(spec: Spec = BOX, dim: int = 2, **arguments: Any) -> FB:
    torch.manual_seed(0)
    given = {"hidden_dims": (8,), "encoder_dims": (4,), "batch_size": 8} | arguments
    return FB(spec, skill_space=WideSphere(dim), **given)


class Given(nn.Module):
    """F or B by a table of what it gives, whatever it is asked."""

    def __init__(self, values: Any):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, *_: Any) -> Tensor:
        return self.values


def batch(n: int, spec: Spec = BOX) -> Batch:
    action = torch.rand(n, 2) if isinstance(spec.action, Field) else torch.randint(spec.action.n, (n,))
    return Batch(obs=torch.randn(n, 2), next_obs=torch.randn(n, 2), action=action, discount=torch.full((n,), 0.5))


def test_off_the_diagonal():
    assert off_diagonal(torch.tensor([[9.0, 1.0], [3.0, 9.0]])).item() == pytest.approx((1 + 9) / 2)


def test_the_losses_by_hand():
    """Two states, with B = √2 e₁ and √2 e₂, F as it stands below, and a slow F of which the lower of two counts."""
    learner, root = small(), 2**0.5
    learner.policy.encoder = learner.slow_encoder = Given([[3.0, 0.0], [0.0, 0.1]])  # its length does not matter
    learner.forward_map = Given([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]]])  # (2, B, dim)
    learner.next_successors = lambda _: torch.tensor([[[5.0, 6.0], [7.0, 8.0]], [[9.0, 1.0], [9.0, 9.0]]])  # type: ignore
    loss, metrics = learner.loss(batch(2).replace(z=torch.zeros(2, 2)), torch.zeros(2, 2))
    # F·B is √2 F; the target's lower one is √2 [[5, 1], [7, 8]], and counts by 0.5
    first = 0.5 * ((2 * root - 0.5 * root) ** 2 + (3 * root - 3.5 * root) ** 2) / 2 - root * (1 + 4) / 2
    second = 0.5 * ((0 - 0.5 * root) ** 2 + (0 - 3.5 * root) ** 2) / 2 - root * (0 + 1) / 2
    assert metrics["forward/loss"].item() == pytest.approx(first + second, rel=1e-5)
    assert metrics["backward/loss"].item() == pytest.approx(-2 * 2)  # B is orthonormal: nothing off the diagonal
    assert loss.item() == pytest.approx(first + second - 4, rel=1e-5)


def test_what_terminated_is_followed_by_nothing():
    learner = small()
    ended = batch(6).replace(z=learner.skill_space.sample(6), discount=torch.zeros(6))
    before, _ = learner.loss(ended, ended["next_obs"])
    learner.next_successors = lambda _: torch.full((2, 6, 2), 1e6)  # type: ignore[method-assign]
    assert learner.loss(ended, ended["next_obs"])[0].item() == pytest.approx(before.item())


def test_of_discrete_actions_the_target_is_a_softmax_mean():
    learner = small(CHOICE, temperature=2.0)
    steps = batch(5, CHOICE).replace(z=learner.skill_space.sample(5))
    every = learner.slow_forward.successors(steps["next_obs"], steps["z"])  # (2, 5, 3, dim)
    values = torch.einsum("ebnd,bd->ebn", every, steps["z"])
    torch.testing.assert_close(values, learner.slow_forward(steps["next_obs"], steps["z"]))
    chance = (values.amin(0) / 2).exp()
    wanted = torch.einsum("bn,ebnd->ebd", chance / chance.sum(-1, keepdim=True), every)
    torch.testing.assert_close(learner.next_successors(steps), wanted)
    taken = learner.forward_map.successors(steps["obs"], steps["z"])[:, torch.arange(5), steps["action"]]
    torch.testing.assert_close(learner.successors(steps), taken)


def test_b_and_z_lie_on_one_sphere_and_half_of_z_are_b():
    learner = small(data_skills=0.5)
    state = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(100, 1)
    z = learner.draw_skills(state)
    assert torch.allclose(z.norm(dim=-1), torch.full((200,), 2**0.5))
    given = learner.policy.backward_map(state[:2]).detach()
    of_states = torch.isclose(z[:, None], given).all(-1).any(-1)
    assert 70 <= int(of_states.sum()) <= 130


def test_a_goal_is_its_b_and_a_reward_the_mean_of_b_by_it():
    policy = small().policy
    assert isinstance(policy, ReachesGoals) and isinstance(policy, FitsRewards)
    obs, reward = torch.randn(50, 2), torch.randn(50)
    torch.testing.assert_close(policy.goal_to_skill(obs, obs + 1), policy.backward_map(obs + 1))
    mean = torch.stack([r * b for r, b in zip(reward, policy.backward_map(obs))]).mean(0)
    torch.testing.assert_close(policy.reward_to_skill(obs, reward), 2**0.5 * mean / mean.norm())
    with pytest.raises(ValueError, match="the reward is 0 in all samples"):
        policy.reward_to_skill(obs, torch.zeros(50))


def test_noise_is_cut_off_and_its_gradient_is_not():
    mean = torch.tensor([0.95, 0.0], requires_grad=True)
    dist = NoisyMode(mean.expand(5000, 2), torch.tensor(0.2), torch.tensor(0.3))
    action, _ = dist.sample(torch.Generator().manual_seed(0))
    assert action.max() < 1 and action.min() >= -0.3 - 1e-6 and action[:, 1].max() <= 0.3 + 1e-6
    assert action[:, 1].std().item() == pytest.approx(0.178, abs=0.01)  # of a normal of 0.2, cut at 1.5 deviations
    action.mean().backward()
    assert mean.grad is not None and mean.grad.tolist() == pytest.approx([0.5, 0.5])


def test_a_box_policy_climbs_f_along_z():
    learner = small(hidden_dims=(32,), lr=1e-2)
    steps = batch(64).replace(z=learner.skill_space.sample(64))
    values = [learner.update_actor(steps)["actor/value"].item() for _ in range(60)]
    assert np.mean(values[-5:]) > np.mean(values[:5]) + 0.05


def test_skills_of_the_data_are_not_read():
    for spec in (BOX, CHOICE):
        assert all(value.isfinite() for value in small(spec).update({"batch": batch(8, spec)}).values())
    with pytest.raises(ValueError, match="skill_space is Sphere: FB's z and B lie on a WideSphere"):
        FB(BOX, skill_space=Sphere(2))


# ---- on a ring of states, of which all can be computed

STATES, GAMMA = 5, 0.7
NEXT = torch.stack([(torch.arange(STATES) + move) % STATES for move in (-1, 0, 1)], 1)  # (states, 3)
SEEN = torch.eye(STATES)


class Shuffled(FB):
    """Twin: what steps led to is shuffled within the batch."""

    def update(self, batches):
        steps = batches["batch"]
        order = torch.randperm(len(steps["obs"]), generator=self.generator)
        return super().update({"batch": steps.replace(next_obs=steps["next_obs"][order])})


def measured(learner: FB, z: Tensor) -> float:
    """‖F·B ρ − M‖ / ‖M‖ over states, actions and states, where M = P (I − γ P_π)⁻¹ and ρ is uniform."""
    every = z.expand(STATES, -1)
    with torch.no_grad():
        found = learner.forward_map.successors(SEEN, every).mean(0) @ learner.policy.backward_map(SEEN).T / STATES
        chance = learner.chances(learner.forward_map, SEEN, every)  # (states, 3)
    step = torch.zeros(STATES, STATES).scatter_add_(1, NEXT, chance)
    true = torch.linalg.inv(torch.eye(STATES) - GAMMA * step)[NEXT]  # (states, 3, states)
    return float((found - true).norm() / true.norm())


LEARNS = pytest.mark.learning("skillrl/learners/fb.py", "skillrl/networks.py", "skillrl/layers.py", "skillrl/optim.py")


@LEARNS
@pytest.mark.parametrize("kind", [FB, Shuffled])
def test_fb_on_a_ring(kind: type[FB], seed: int, check: Check):
    """F·B is the successor measure of each of five z, and the twin's of none."""
    torch.manual_seed(seed)
    spec = Spec(Field((STATES,)), Discrete(3))
    learner = kind(
        spec,
        skill_space=WideSphere(STATES),
        hidden_dims=(128, 128),
        encoder_dims=(64,),
        gamma=GAMMA,
        temperature=2.0,
        lr=1e-3,
        tau=0.05,
    )
    learner.generator.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(2000):
        at = torch.randint(STATES, (256,), generator=generator)
        action = torch.randint(3, (256,), generator=generator)
        steps = Batch(obs=SEEN[at], next_obs=SEEN[NEXT[at, action]], action=action, discount=torch.full((256,), GAMMA))
        learner.update({"batch": steps})
    errors = [measured(learner, z) for z in learner.skill_space.sample(5, torch.Generator().manual_seed(1))]
    worst = {"relative error, the largest of five z": (max(errors), "<= 0.2")}
    check(worst if kind is FB else {"relative error, the smallest of five z": (min(errors), "> 0.2")})


# ---- in four rooms, from a random walk's data


@LEARNS
@pytest.mark.parametrize("kind", [FB, Shuffled])
def test_fb_in_four_rooms(kind: type[FB], seed: int, check: Check):
    """The skill for a reward that was never paid goes where it would be, and stays; the twin's does not."""
    torch.manual_seed(seed)
    learner = kind(
        Spec.from_env(Rooms(num_envs=1, horizon=100, observe=["cell"])),
        skill_space=WideSphere(len(CELLS)),
        hidden_dims=(128,),
        encoder_dims=(64,),
        gamma=0.98,
        temperature=10.0,
        lr=1e-3,
        tau=0.02,
        batch_size=256,
    )
    state = learnt_offline(learner, seed=seed, updates=10_000)
    check({"rewards earned": (rewards_earned(learner.policy, state.data), ">= 0.9" if kind is FB else "< 0.9")})
