"""Distributions agree with their own densities; networks condition on z and broadcast it as promised."""

import math
from copy import deepcopy

import pytest
import torch
from torch import Generator, nn

from skillrl.distributions import Categorical, DiagonalNormal, EpsilonGreedyChoice, NoisyMode, TanhNormal, kept
from skillrl.layers import mlp
from skillrl.networks import LOG_STD_MAX, LOG_STD_MIN, Actor, Critic, DiscreteCritic, EpsilonGreedy, WideActor
from skillrl.skill_spaces import Discrete, Gaussian
from skillrl.spec import Discrete as DiscreteAction
from skillrl.spec import Field

torch.set_num_threads(1)
OBS, BOX = Field((3,)), Field((2,))


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.8, -0.5), (-1.0, 0.3)])
def test_tanh_normal_density_integrates_to_one(mean, log_std):
    n = 200_000
    action = (-1 + (torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n).unsqueeze(-1)  # midpoints of (-1, 1)
    dist = TanhNormal(torch.full((n, 1), mean).double(), torch.full((n, 1), log_std).double())
    assert (dist.log_prob(action).exp().sum() * 2 / n).item() == pytest.approx(1, abs=1e-3)


def test_tanh_normal_density_is_the_change_of_variables():
    mean, log_std = torch.tensor([[0.3, -0.7]]).double(), torch.tensor([[-0.2, 0.4]]).double()
    dist, noise = TanhNormal(mean, log_std), torch.tensor([[0.5, -1.1]]).double()
    action, log_prob = dist.from_noise(noise)
    raw = mean + log_std.exp() * noise
    normal = torch.distributions.Normal(mean, log_std.exp()).log_prob(raw)
    slope = (torch.tanh(raw + 1e-6) - torch.tanh(raw - 1e-6)) / 2e-6  # numerically, d tanh
    assert torch.allclose(action, torch.tanh(raw))
    assert log_prob.item() == pytest.approx((normal - slope.log()).sum().item(), abs=1e-7)
    assert dist.log_prob(action).item() == pytest.approx(log_prob.item(), abs=1e-9)


@pytest.mark.parametrize("mean", [-40.0, 40.0])
def test_tanh_normal_is_finite_where_it_saturates(mean):
    mean = torch.full((5, 2), mean, requires_grad=True)
    log_std = torch.full((5, 2), LOG_STD_MAX, requires_grad=True)
    action, log_prob = TanhNormal(mean, log_std).sample(generator())
    assert action.abs().min() == 1  # float32's tanh has no more digits there
    (log_prob.sum() + action.sum()).backward()
    for tensor in (log_prob, mean.grad, log_std.grad, TanhNormal(mean, log_std).log_prob(action)):
        assert tensor.isfinite().all()
    # log(1 − tanh²(x)) → 2 log 2 − 2|x|: not a clipped constant, as log(1 − a² + ε) would be
    at_50, log_prob = TanhNormal(torch.tensor([50.0]), torch.tensor([0.0])).from_noise(torch.tensor([0.0]))
    assert at_50.item() == 1
    assert log_prob.item() == pytest.approx(-0.5 * math.log(2 * math.pi) - 2 * math.log(2) + 100)


def test_tanh_normal_sample_is_reparametrised():
    mean = torch.tensor([[0.2]], requires_grad=True)
    action, _ = TanhNormal(mean, torch.zeros(1, 1)).sample(generator())
    (grad,) = torch.autograd.grad(action.sum(), mean)
    assert grad.item() == pytest.approx(1 - action.item() ** 2, rel=1e-5)
    assert TanhNormal(mean, torch.zeros(1, 1)).mode().item() == pytest.approx(math.tanh(0.2))


def test_diagonal_normal_is_torchs():
    mean, log_std = torch.tensor([[0.3, -0.7], [2.0, 0.1]]), torch.tensor([[-0.2, 0.4], [0.0, -3.0]])
    dist, theirs = DiagonalNormal(mean, log_std), torch.distributions.Normal(mean, log_std.exp())
    value, log_prob = dist.sample(generator())
    assert torch.allclose(dist.log_prob(value), theirs.log_prob(value).sum(-1)) and torch.equal(dist.mode(), mean)
    assert torch.equal(log_prob, dist.log_prob(value))
    assert torch.allclose(dist.entropy(), theirs.entropy().sum(-1))
    many, _ = DiagonalNormal(mean.expand(100_000, 2, 2), log_std.expand(100_000, 2, 2)).sample(generator())
    assert torch.allclose(many.mean(0), mean, atol=0.03) and torch.allclose(many.std(0), log_std.exp(), rtol=0.02)


def test_categorical_entropy_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    expected = [1.5 * math.log(2), math.log(3)]
    assert Categorical(probabilities.log() + 1).entropy().tolist() == pytest.approx(expected, abs=1e-6)


def frequencies(dist, n: int, actions: int) -> torch.Tensor:
    action, log_prob = dist.sample(generator())
    assert torch.equal(log_prob, dist.log_prob(action))
    return torch.bincount(action, minlength=actions) / n


def test_categorical_samples_by_its_probabilities():
    n, probabilities = 60_000, torch.tensor([0.5, 0.3, 0.15, 0.05])
    dist = Categorical((probabilities.log() + 3).expand(n, 4))  # logits need not be normalised
    assert (frequencies(dist, n, 4) - probabilities).abs().max() < 0.01
    assert torch.allclose(dist.log_prob(torch.full((n,), 2)).exp(), torch.tensor(0.15))
    assert dist.mode()[0] == 0


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_samples_by_its_probabilities(epsilon):
    n = 60_000
    dist = EpsilonGreedyChoice(torch.tensor([0.1, 2.0, -1.0, 0.5]).expand(n, 4), torch.tensor(epsilon))
    probabilities = torch.tensor([0.0, 1 - epsilon, 0.0, 0.0]) + epsilon / 4
    assert (frequencies(dist, n, 4) - probabilities).abs().max() < 0.01
    each = EpsilonGreedyChoice(torch.tensor([0.1, 2.0, -1.0, 0.5]).expand(4, 4), torch.tensor(epsilon))
    assert torch.allclose(each.log_prob(torch.arange(4)).exp(), probabilities)
    assert each.mode().tolist() == [1, 1, 1, 1]


def test_epsilon_greedy_reads_the_lower_of_its_ensemble():
    critic = DiscreteCritic(OBS, DiscreteAction(4), Discrete(3), [8], ensemble=2)
    obs, z = torch.randn(6, 3, generator=generator()), torch.arange(6) % 3
    dist = EpsilonGreedy(critic)(obs, z)
    assert torch.equal(dist.values, torch.minimum(*critic(obs, z)))
    assert torch.equal(dist.epsilon, torch.tensor(1.0))


def test_actor_depends_on_z_and_keeps_its_deviation_in_range():
    torch.manual_seed(0)
    actor = Actor(OBS, BOX, Discrete(3), [16])
    obs = torch.randn(1, 3).expand(3, 3)
    dist = actor(obs, torch.arange(3))
    assert dist.mean.shape == (3, 2)
    assert len(dist.mean.unique(dim=0)) == 3
    wild = actor(obs * 1e4, torch.arange(3))
    assert wild.log_std.min() >= LOG_STD_MIN and wild.log_std.max() <= LOG_STD_MAX
    assert (wild.log_std.abs() > 1).any()
    assert Actor(OBS, DiscreteAction(4), Discrete(3), [16])(obs, torch.arange(3)).logits.shape == (3, 4)


def test_critic_ensemble_is_of_independent_members_with_channels():
    torch.manual_seed(0)
    critic = Critic(OBS, BOX, Gaussian(2), [16], ensemble=3, channels=4)
    obs, z, action = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 2)
    q = critic(obs, z, action)
    assert q.shape == (3, 5, 4)
    assert not torch.allclose(q[0], q[1])
    assert torch.allclose(critic.reduce(q, z), q.sum(-1))
    for changed in ((obs + 1, z, action), (obs, z + 1, action), (obs, z, action + 1)):
        assert not torch.allclose(critic(*changed), q)


@pytest.mark.parametrize("space", [Discrete(3), Gaussian(2)], ids=["Discrete", "Gaussian"])
def test_one_z_serves_all_agents(space):
    torch.manual_seed(0)
    actor = Actor(OBS, BOX, space, [16])
    obs, z = torch.randn(5, 4, 3), space.sample(5, generator())
    together = actor(obs, z)
    assert together.mean.shape == (5, 4, 2)
    for agent in range(4):
        assert torch.allclose(together.mean[:, agent], actor(obs[:, agent], z).mean, atol=1e-6)
    own = space.sample(20, generator(1)).unflatten(0, (5, 4))  # and each agent may have its own
    assert torch.allclose(actor(obs, own).mean[2, 3], actor(obs[2, 3:], own[2, 3:]).mean[0], atol=1e-6)


def test_layers_are_an_ordinary_sequence_whose_weights_lie_along_their_longer_side():
    """So do the gradients, and what follows them, or each update would copy."""
    net, inputs = mlp(3, (8, 8), 2), torch.randn(5, 3)
    assert torch.equal(net(inputs), nn.Sequential(*net)(inputs))
    net(inputs).sum().backward()
    for layer, along in ((net[0], (1, 8)), (net[2], (8, 1)), (net[4], (8, 1))):
        assert layer.weight.stride() == along == layer.weight.grad.stride()
    assert deepcopy(net)[0].weight.stride() == (1, 8) == torch.zeros_like(net[0].weight).stride()


def test_what_a_critic_is_given_reaches_it_with_and_without_a_gradient():
    torch.manual_seed(0)
    critic, z = Critic(OBS, BOX, Gaussian(2), (8,)), torch.randn(5, 2)
    obs, action = torch.randn(5, 3), torch.randn(5, 2)
    plain = critic(obs, z, action)
    followed = critic(obs, z, action.requires_grad_())
    torch.testing.assert_close(followed, plain)
    (slope,) = torch.autograd.grad(followed.sum(), action)
    for column in range(2):
        step = 1e-3 * torch.eye(2, dtype=torch.float64)[column]
        double = deepcopy(critic).double()
        ahead, behind = (double(obs.double(), z.double(), action.detach() + sign * step).sum() for sign in (1, -1))
        assert slope[:, column].sum().item() == pytest.approx(((ahead - behind) / 2e-3).item(), rel=1e-2, abs=1e-3)


def test_one_skill_is_no_input():
    assert Actor(OBS, BOX, Discrete(1), [8]).net[0].in_features == 3


def test_an_actor_starts_in_the_middle_of_its_box():
    torch.manual_seed(0)
    dist = Actor(OBS, BOX, Discrete(3), [64, 64])(torch.randn(99, 3), torch.arange(99) % 3)
    assert dist.mode().abs().max() < 0.01
    assert (dist.log_std.exp() - 1).abs().max() < 0.01


def test_what_is_kept_in_a_range_has_a_gradient_that_leads_back():
    x = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 3.0], requires_grad=True)
    inside = kept(x, -1.0, 1.0)
    assert inside.tolist() == [-1, -1, 0, 0.5, 1, 1]
    for slope, expected in ((2.0, [-2, 0, 1, 1.5, 2, 4]), (-2.0, [-4, -2, -1, -0.5, 0, 2])):
        gradient = torch.autograd.grad((slope * inside).sum(), x, retain_graph=True)[0]
        assert gradient.tolist() == expected, "the share of [-1, 1] that is left below or above"


@pytest.mark.parametrize("far", [-80.0, 80.0])
def test_a_wide_actor_that_is_not_squashed_comes_back_from_far_beyond_its_box(far: float):
    """From a bias of 80, where the other's gradient is 0: it would stay there for good."""
    torch.manual_seed(0)
    actor, obs, z = WideActor(OBS, BOX, Discrete(4), [8]), torch.randn(64, 3), torch.arange(64) % 4
    with torch.no_grad():
        actor.net[-1].bias.fill_(far)
    actor.squash = True
    assert not torch.autograd.grad(actor(obs, z).mode().sum(), actor.net[-1].bias)[0].any()
    actor.squash, optimizer = False, torch.optim.Adam(actor.parameters(), 0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        (actor(obs, z).mode() - 0.3).square().mean().backward()
        optimizer.step()
    assert (actor(obs, z).mode() - 0.3).abs().mean() < 0.1


def test_a_wide_actors_draws_stay_in_the_box_and_pass_the_gradient():
    torch.manual_seed(0)
    actor, obs = WideActor(OBS, BOX, Discrete(4), [8]), torch.randn(4000, 3)
    dist = actor(obs, torch.arange(4000) % 4)
    assert isinstance(dist, NoisyMode) and 0.9 < dist.std.mean() < 1.3 and dist.std.min() > 0.1
    action, _ = dist.sample(generator())
    assert action.abs().max() < 1 and 0.1 < (action.abs() > 0.999).float().mean() < 0.8, "many end at the edge"
    for row in ((action.abs() > 0.999).any(-1).nonzero()[0, 0], 0):
        gradient = torch.autograd.grad(action[row].sum(), dist.mean, retain_graph=True)[0][row]
        assert gradient.tolist() == [1, 1]
    wanted = torch.distributions.Normal(dist.mean, dist.std).entropy().sum(-1)
    torch.testing.assert_close(dist.entropy(), wanted)
