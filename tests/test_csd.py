"""CSD: its distance against a hand-computed case, and that what hardly moves by chance counts for more."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from directed_skills import ends, pretrained
from torch import Tensor

from envs.point import COVERAGE, OBSERVE, RECORD, VIEWS, PointSimulator, PointTask
from envs.vector import BatchedEnv
from skillrl.agents.sac import SAC
from skillrl.distributions import DiagonalNormal
from skillrl.learners.base import DirectedLearner
from skillrl.learners.csd import CSD
from skillrl.learners.lsd import LSD
from skillrl.skill_spaces import Gaussian, Sphere
from skillrl.spec import Batch, Field, Spec

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def learner(**arguments: object) -> CSD:
    return CSD(SPEC, hidden_dims=(32,), skill_space=Gaussian(2), **arguments)  # type: ignore[arg-type]


def test_distance_by_hand():
    """σ = (1, 4): the inverse deviations are 1 and 1/4, their geometric mean 1/2, so their ratios to it 2 and 1/2."""
    density = DiagonalNormal(torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 4.0]]).log())
    found = learner().distance(density, torch.tensor([[1.5, 4.0]]))
    assert found.item() == pytest.approx(((1.0 * 2) ** 2 + (4.0 * 0.5) ** 2) / 2)


def test_only_the_ratios_of_the_deviations_count():
    one = learner()
    step, mean = torch.randn(8, 2), torch.zeros(8, 2)
    narrow = one.distance(DiagonalNormal(mean, torch.tensor([0.1, 0.3]).log().expand(8, 2)), step)
    wide = one.distance(DiagonalNormal(mean, torch.tensor([1.0, 3.0]).log().expand(8, 2)), step)
    torch.testing.assert_close(narrow, wide)


def steps(count: int, scale: Tensor) -> Batch:
    obs = torch.randn(count, 2)
    return Batch(obs=obs, next_obs=obs + scale * torch.randn(count, 2), z=torch.randn(count, 2))


def test_the_density_learns_how_far_each_axis_moves():
    """True deviations 1 and 0.1: the gate is a ratio between 5 and 20."""
    torch.manual_seed(0)
    one, scale = learner(density_lr=3e-3), torch.tensor([1.0, 0.1])
    for _ in range(600):
        one.fit(steps(256, scale))
    deviation = one.step_density(torch.randn(512, 2)).log_std.exp().mean(0)
    assert 5 <= (deviation[0] / deviation[1]).item() <= 20


def test_the_constraint_is_the_distance_and_lambda_follows_it():
    one = learner(dual_lr=0.1, dual_init=2.0, dual_slack=100.0)
    batch = steps(64, torch.tensor([1.0, 1.0]))
    step = one.step_in_phi(batch)
    far = one.distance(one.step_density(batch["obs"]), batch["next_obs"] - batch["obs"])
    penalty = far - step.square().mean(-1)
    metrics = one.fit(batch)
    assert metrics["dual/penalty"].item() == pytest.approx(penalty.mean().item(), rel=1e-5)
    assert metrics["encoder/loss"].item() == pytest.approx(
        -(one.along(step, batch["z"]) + 2 * penalty).mean().item(), rel=1e-4
    )
    assert penalty.mean() > 0 and one.dual.value() < 2


def test_the_reward_is_scaled():
    torch.manual_seed(0)
    one, batch = learner(reward_scale=10.0), steps(8, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(one.intrinsic_reward(batch), 10 * one.along(one.step_in_phi(batch), batch["z"]))


class SlowSimulator(PointSimulator):
    def control(self, action: np.ndarray) -> np.ndarray:
        return super().control(action) * np.array([1.0, 0.1])


class SlowTask(PointTask):
    def simulator(self, n: int) -> SlowSimulator:
        return SlowSimulator(radius=self.step_radius)


class SlowY(BatchedEnv):
    """The point env, in which y moves a tenth as far as x."""

    def __init__(self, *, num_envs: int):
        task = SlowTask(step_radius=0.2, horizon=50)
        kept: dict[str, Any] = {"observe": OBSERVE, "views": VIEWS, "coverage": COVERAGE, "record": RECORD}
        super().__init__(task, num_envs=num_envs, workers=0, horizon=50, dtype="float32", **kept)


def extent_of_y(kind: type[DirectedLearner], alpha: float, seed: int) -> float:
    """How far skills go along y on average, of the 1 that they could."""
    small: dict[str, Any] = {"hidden_dims": (64, 64), "encoder_lr": 1e-3, "batch_size": 256, "skill_space": Gaussian(2)}
    if kind is CSD:
        small |= {"density_lr": 1e-3, "dual_lr": 1e-3}
    small |= {"normalize_obs": False}  # in units of its spread y would be as far as x for LSD too
    make = partial(kind, agent=partial(SAC, lr=1e-3, alpha=alpha), **small)
    policy = pretrained(make, seed, env_steps=40_000, env=SlowY).learner.policy
    return float(np.abs(ends(policy, Sphere(2).enumerate(32), env=SlowY)[:, 1]).mean())


@pytest.mark.learning("skillrl/learners/csd.py", "skillrl/learners/base.py", "skillrl/agents/sac.py")
def test_csd_where_y_hardly_moves(seed: int, check: Check):
    """Skills go along what is hard to move. Twin: LSD, for which far is far in the observation. Each has its paper's
    temperature."""
    ours, twin = extent_of_y(CSD, 0.03, seed), extent_of_y(LSD, 0.01, seed)
    check({"y's extent, times LSD's": (ours / twin, ">= 2")})
