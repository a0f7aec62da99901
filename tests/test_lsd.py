"""LSD: φ is 1-Lipschitz, and its skills lead far; without spectral normalisation it is not."""

from functools import partial
from typing import Any

import pytest
import torch
from checks import Check
from directed_skills import REACH, angles_agree, goals_reached, pretrained, radius
from torch import nn
from torch.nn import functional as F

from skillrl.agents.sac import SAC
from skillrl.layers import mlp
from skillrl.learners.lsd import LSD, LSDPolicy
from skillrl.optim import Adam
from skillrl.skill_spaces import Sphere
from skillrl.spec import Batch, Field, Spec

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def lipschitz_ratio(policy: LSDPolicy) -> float:
    """The largest ‖φ(x) − φ(y)‖ / ‖x − y‖ that is found: near pairs all over the reach, and random ones."""
    policy.eval()  # in training, each pass is a step of the power iteration, and so another φ
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(4096, 2, generator=generator) * 2 - 1) * REACH
    near = x + 0.05 * F.normalize(torch.randn(4096, 2, generator=generator), dim=-1)
    with torch.no_grad():
        return max(
            float(((policy.phi(x) - policy.phi(y)).norm(dim=-1) / (x - y).norm(dim=-1)).max())
            for y in (near, x.flip(0))
        )


def test_every_layer_is_divided_by_its_largest_singular_value():
    learner = LSD(SPEC, hidden_dims=(16, 16))
    batch = Batch(obs=torch.randn(64, 2), next_obs=torch.randn(64, 2), z=torch.randn(64, 2))
    for _ in range(50):  # the power iteration takes a step with each pass
        learner.fit(batch)
    layers = [layer for layer in learner.policy.encoder if isinstance(layer, nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.02)


def test_phi_ascends_the_reward_that_the_policy_earns():
    learner = LSD(SPEC, hidden_dims=(16, 16))
    batch = Batch(obs=torch.randn(64, 2), next_obs=torch.randn(64, 2), z=torch.randn(64, 2))
    reward = learner.intrinsic_reward(batch).mean()
    assert learner.fit(batch)["encoder/loss"].item() == pytest.approx(-reward.item(), abs=0.05)
    for _ in range(100):
        learner.fit(batch)
    assert learner.intrinsic_reward(batch).mean() > reward


class Unbound(LSD):
    """Twin: φ without spectral normalisation."""

    def __init__(self, *args, **arguments):
        super().__init__(*args, **arguments)
        self.policy.encoder = mlp(2, (64, 64), 2)
        self.encoder_optimizer = Adam(self.policy.encoder.parameters(), 1e-3)


@pytest.mark.learning("skillrl/learners/lsd.py", "skillrl/learners/base.py", "skillrl/agents/sac.py")
@pytest.mark.parametrize("kind", [LSD, Unbound])
def test_lsd_on_the_point(kind: type[LSD], seed: int, check: Check):
    """Skills lead far, and φ is 1-Lipschitz, with 5 % for the power iteration; the twin's φ is not."""
    agent = partial(SAC, lr=1e-3, alpha=0.01)
    small: dict[str, Any] = {"hidden_dims": (64, 64), "encoder_lr": 1e-3, "batch_size": 256}
    make = partial(kind, agent=agent, normalize_obs=False, **small)  # x and y are of one scale as they are
    policy = pretrained(make, seed, env_steps=20_000).learner.policy
    if kind is Unbound:
        return check({"largest ratio of distances": (lipschitz_ratio(policy), "> 1.05")})
    check(
        {
            "largest ratio of distances": (lipschitz_ratio(policy), "<= 1.05"),
            "angle of z and of the end agree": (angles_agree(policy), ">= 0.9"),
            "final radius, of 10": (radius(policy, Sphere(2).enumerate(32)), ">= 7"),
            "goals reached": (goals_reached(policy), ">= 0.9"),
        }
    )
