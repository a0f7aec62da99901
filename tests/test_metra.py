"""METRA: its reward, objective and dual against cases made by hand, and where its skills lead beside its twin's."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from checks import Check
from directed_skills import angles_agree, goals_reached, pretrained, radius, squared_steps
from torch import Tensor, nn

from skillrl.agents.sac import SAC
from skillrl.estimators import DualVariable
from skillrl.learners.metra import METRA
from skillrl.optim import Adam
from skillrl.skill_policy import ReachesGoals
from skillrl.skill_spaces import Discrete, Gaussian, Sphere
from skillrl.spec import Batch, Field, Spec

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def made_by_hand(**arguments: object) -> METRA:
    """φ(x, y) = (2x, y)."""
    learner = METRA(SPEC, hidden_dims=(4,), **arguments)  # type: ignore[arg-type]
    learner.policy.encoder = linear([2.0, 0.0], [0.0, 1.0])
    learner.encoder_optimizer = Adam(learner.policy.encoder.parameters(), 1e-4)
    return learner


def batch(steps: list[list[float]], z: Tensor) -> Batch:
    obs = torch.full((len(steps), 2), 7.0)
    return Batch(obs=obs, next_obs=obs + torch.tensor(steps), z=z)


def test_reward_is_the_step_in_phi_along_z():
    reward = made_by_hand().intrinsic_reward(batch([[1.0, 0.0], [0.5, -1.0]], torch.tensor([[1.0, 0.0], [0.6, 0.8]])))
    assert reward.tolist() == pytest.approx([2.0, 0.6 * 1.0 + 0.8 * -1.0])


def test_one_of_k_is_the_centred_one_hot():
    learner = METRA(SPEC, hidden_dims=(4,), skill_space=Discrete(3))
    learner.policy.encoder = linear([1.0, 0.0], [0.0, 1.0], [0.0, 0.0])
    reward = learner.intrinsic_reward(batch([[1.0, 3.0]], torch.tensor([1])))
    assert reward.item() == pytest.approx(1.5 * (3.0 - (1.0 + 3.0 + 0.0) / 3))


@pytest.mark.parametrize(("mean", "length"), [(False, 5.0), (True, 2.5)])
def test_the_objective_and_its_gradient(mean: bool, length: float):
    """One transition with Δφ = (2, 1), along z = (0, 1): the constraint is violated, and φ shrinks but along z."""
    learner = made_by_hand(mean_constraint=mean, dual_init=3.0)
    metrics = learner.fit(batch([[1.0, 1.0]], torch.tensor([[0.0, 1.0]])))
    assert metrics["encoder/loss"].item() == pytest.approx(-(1.0 + 3.0 * (1 - length)))
    assert metrics["dual/penalty"].item() == pytest.approx(1 - length)
    # d/dW of −(Δφ·z + λ (1 − ‖WΔ‖²)) is −z Δᵀ + 2 λ (WΔ) Δᵀ, by the axes' mean a half of its second part
    share = 0.5 if mean else 1.0
    wanted = [[2 * 3.0 * 2.0 * share] * 2, [-1.0 + 2 * 3.0 * 1.0 * share] * 2]
    assert learner.policy.encoder.weight.grad.tolist() == [pytest.approx(row) for row in wanted]


def test_slack_beyond_epsilon_pulls_at_nothing():
    learner = made_by_hand()
    learner.fit(batch([[0.1, 0.1]], torch.tensor([[0.0, 1.0]])))
    assert learner.policy.encoder.weight.grad.tolist() == [[0.0, 0.0], [pytest.approx(-0.1), pytest.approx(-0.1)]]


def test_lambda_rises_while_the_constraint_is_violated_and_falls_while_it_is_not():
    along = torch.tensor([[0.0, 1.0]])
    violated, kept = made_by_hand(dual_lr=0.1), made_by_hand(dual_lr=0.1)
    violated.fit(batch([[1.0, 1.0]], along))
    kept.fit(batch([[0.1, 0.1]], along))
    assert violated.dual.value() > 30 > kept.dual.value()


def test_a_dual_variable_by_hand():
    """Adam's first step is its learning rate, against the gradient's sign, whatever its size."""
    dual = DualVariable(init=2.0, lr=0.1, tolerance=0.5)
    assert dual.penalty(torch.tensor([-3.0, 0.2, 9.0])).tolist() == pytest.approx([-3.0, 0.2, 0.5])
    dual.update(torch.tensor([-3.0, 0.2, 0.5]))
    assert dual.value().item() == pytest.approx(2.0 * math.exp(0.1), rel=1e-5)
    with pytest.raises(ValueError, match="starts at 0"):
        DualVariable(init=0.0, lr=0.1, tolerance=0.5)


@pytest.mark.parametrize("space", [Sphere(2), Gaussian(2), Discrete(2)])
def test_a_goal_is_aimed_at_along_phi(space: Sphere | Gaussian | Discrete):
    policy = METRA(SPEC, hidden_dims=(4,), skill_space=space).policy  # type: ignore[arg-type]
    policy.encoder = linear([2.0, 0.0], [0.0, 1.0])
    assert isinstance(policy, ReachesGoals)
    z = policy.goal_to_skill(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.5, -3.0]]))  # Δφ = (3, −4)
    wanted = {Sphere: [[0.6, -0.8]], Gaussian: [[0.6 * 2**0.5, -0.8 * 2**0.5]], Discrete: [0]}[type(space)]
    torch.testing.assert_close(z, torch.tensor(wanted))


def test_one_skill_has_no_direction():
    with pytest.raises(ValueError, match="take at least 2"):
        METRA(SPEC, hidden_dims=(4,), skill_space=Discrete(1)).fit(batch([[1.0, 0.0]], torch.tensor([0])))


class Permuted(METRA):
    """Twin: z is shuffled within the batch, so that it says nothing of the step."""

    def update(self, batches):
        batch = batches["batch"]
        order = torch.randperm(len(batch["z"]), generator=self.generator)
        return super().update({"batch": batch.replace(z=batch["z"][order])})


SMALL: dict[str, Any] = {
    "agent": partial(SAC, lr=1e-3, alpha_init=0.01, target_entropy_multiplier=0.5),
    "normalize_obs": False,  # x and y are of one scale as they are
    "hidden_dims": (64, 64),
    "encoder_lr": 1e-3,
    "dual_lr": 1e-3,
}
LEARNS = pytest.mark.learning(
    "skillrl/learners/metra.py", "skillrl/estimators.py", "skillrl/learners/base.py", "skillrl/agents/sac.py"
)


@LEARNS
@pytest.mark.parametrize("kind", [METRA, Permuted])
def test_metra_on_the_point(kind: type[METRA], seed: int, check: Check):
    """Skills lead along z as far as they can, and the twin's do not."""
    state = pretrained(partial(kind, **SMALL), seed, env_steps=20_000)
    policy, real = state.learner.policy, kind is METRA
    check(
        {
            "angle of z and of the end agree": (angles_agree(policy), ">= 0.95" if real else "< 0.95"),
            "final radius, of 10": (radius(policy, Sphere(2).enumerate(32)), ">= 8" if real else "< 8"),
            "goals reached": (goals_reached(policy), ">= 0.9" if real else "< 0.9"),
            "95th percentile of the squared step in φ": (squared_steps(state).quantile(0.95).item(), "<= 1.15"),
        }
    )
    assert state.learner.dual.value() < 20, "λ has moved off its start"


@LEARNS
def test_metra_in_its_mean_form(seed: int, check: Check):
    """Steps may be longer by the root of φ's dimension."""
    state = pretrained(partial(METRA, mean_constraint=True, **SMALL), seed, env_steps=20_000)
    length = squared_steps(state).quantile(0.95).item()
    name = "95th percentile of the squared step in φ"
    check({f"{name}, at most": (length, "<= 2.3"), f"{name}, at least": (length, ">= 1.7")})
