"""CSF: contrast and successor features against cases made by hand, and where its skills lead beside its twin's."""

import math

import pytest
import torch
from torch import nn

from skillrl.learners.csf import CSF
from skillrl.networks import SuccessorCritic
from skillrl.optim import Adam
from skillrl.skill_spaces import Discrete, Sphere
from skillrl.spec import Batch, Field, Spec

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def made_by_hand(**arguments: object) -> CSF:
    """φ(x, y) = (2x, y)."""
    learner = CSF(SPEC, hidden_dims=(4,), **arguments)  # type: ignore[arg-type]
    learner.policy.encoder = nn.Linear(2, 2, bias=False)
    learner.policy.encoder.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    learner.encoder_optimizer = Adam(learner.policy.encoder.parameters(), 1e-4)
    return learner


BATCH = Batch(
    obs=torch.zeros(2, 2),
    next_obs=torch.tensor([[0.5, 0.0], [0.0, -1.0]]),
    action=torch.tensor([[0.1, 0.2], [-0.3, 0.4]]),
    z=torch.tensor([[1.0, 0.0], [0.6, 0.8]]),
    discount=torch.full((2,), 0.99),
)


def test_the_loss_by_hand():
    """The negatives are drawn from the prior, the positive is not among them, and the sum is not a mean."""
    learner = made_by_hand(contrast=5.0, negatives=3)
    others = Sphere(2).sample(3, torch.Generator().manual_seed(1))
    learner.generator.manual_seed(1)
    steps = [[1.0, 0.0], [0.0, -1.0]]
    negative = [math.log(sum(math.exp(s[0] * x + s[1] * y) for x, y in others.tolist())) for s in steps]
    wanted = 5.0 * sum(negative) / 2 - (1.0 + -0.8) / 2
    assert learner.fit(BATCH)["encoder/loss"].item() == pytest.approx(wanted, rel=1e-6)


def test_the_policy_earns_the_step_and_no_contrast():
    assert made_by_hand().intrinsic_reward(BATCH).tolist() == [[1.0, 0.0], [0.0, -1.0]]


def test_the_target_is_a_vector_without_entropy_and_whole_of_the_lower_twin():
    learner = made_by_hand()
    agent, batch = learner.agent, learner.relabel(BATCH)
    values = torch.tensor([[[1.0, 0.0], [0.0, 5.0]], [[0.5, 9.0], [1.0, 1.0]]])  # (ensemble, B, 2)
    agent.target_critic.forward = lambda obs, z, action: values
    target = agent.target(batch, torch.tensor(1e6))  # an alpha that would show
    # ψ·z of row 0 is 1 and 0.5: the second; of row 1 4.0 and 1.4: the second
    assert target.flatten().tolist() == pytest.approx([1.0 + 0.99 * 0.5, 0.99 * 9.0, 0.99 * 1.0, -1.0 + 0.99 * 1.0])


def test_the_actor_climbs_along_z():
    critic = SuccessorCritic(SPEC.obs, SPEC.action, Sphere(2), (4,))
    q, z = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[0.6, 0.8]])
    assert critic.reduce(q, z).tolist() == [[pytest.approx(5.0)]]
    counted = SuccessorCritic(SPEC.obs, SPEC.action, Discrete(2), (4,))
    assert counted.reduce(q, torch.tensor([1])).tolist() == [[pytest.approx(4.0 - 3.0)]]
