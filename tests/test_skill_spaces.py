"""Skill spaces: each prior's samples agree with its density, and what it embeds, enumerates and projects is exact."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import Generator

from skillrl import spec
from skillrl.skill_spaces import COUNTABLE, Box, Codebook, Discrete, Gaussian, Hybrid, MultiDiscrete, Sphere, WideSphere

torch.set_num_threads(1)
SPACES = [Discrete(5), Codebook(5, 2), MultiDiscrete(3, 2), Gaussian(3), Sphere(3), WideSphere(3), Box(2, -1.0, 3.0)]
SPACES += [Hybrid(3, 2)]


def draw(space, n: int = 40_000):
    return space.sample(n, Generator().manual_seed(0))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_samples_have_the_face_that_they_promise(space):
    z = draw(space, 7)
    assert torch.equal(z, draw(space, 7))  # the generator alone decides
    assert not torch.equal(z, space.sample(7, Generator().manual_seed(1)))
    assert space.embed(z).shape == (7, space.embed_dim)
    assert space.embed(z).dtype == torch.float32
    assert space.log_prob(z).shape == (7,)
    assert z.dtype == (torch.int64 if space.count else torch.float32)
    assert type(space)(**asdict(space)) == space  # it can be written to a file as it is
    assert space.sample(2).shape == z[:2].shape  # and needs no generator


def test_discrete_is_uniform():
    counts = torch.bincount(draw(Discrete(5)), minlength=5)
    assert len(counts) == 5
    assert (counts - 8000).abs().max() < 5 * math.sqrt(40_000 * 0.2 * 0.8)
    assert Discrete(5).log_prob(torch.arange(5)).exp().sum().item() == pytest.approx(1)


def test_every_combination_is_as_likely():
    space = MultiDiscrete(3, 2)
    z = draw(space)
    counts = torch.bincount(3 * z[:, 0] + z[:, 1], minlength=9)
    assert len(counts) == 9
    assert (counts - 40_000 / 9).abs().max() < 5 * math.sqrt(40_000 * (1 / 9) * (8 / 9))
    assert space.log_prob(space.enumerate()).exp().sum().item() == pytest.approx(1)
    assert space.log_prob(torch.tensor([[0, 3], [-1, 0]])).tolist() == [-math.inf, -math.inf]


def test_factors_embed_side_by_side_and_are_numbered_like_digits():
    space = MultiDiscrete(3, 2)
    assert space.count == 9 and space.embed_dim == space.direction_dim == 6
    assert space.embed(torch.tensor([[2, 0]])).tolist() == [[0, 0, 1, 1, 0, 0]]
    assert space.embed(torch.zeros(4, 5, 2, dtype=torch.int64)).shape == (4, 5, 6)
    assert space.enumerate(10).tolist()[:4] == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert space.enumerate(10)[9].tolist() == [0, 0]  # dealt round
    assert space.action() == spec.Discrete(9)
    assert space.project(torch.tensor([5, 8])).tolist() == [[1, 2], [2, 2]]
    assert space.direction(torch.tensor([[0, 1]])).tolist() == [pytest.approx([1, -0.5, -0.5, -0.5, 1, -0.5])]
    assert torch.equal(space.toward(space.direction(space.enumerate())), space.enumerate())


def test_too_many_combinations_are_not_counted():
    assert MultiDiscrete(10, 3).count == COUNTABLE
    space = MultiDiscrete(5, 10)
    assert space.count is None
    assert space.enumerate().shape == (16, 10) and torch.equal(space.enumerate(), space.enumerate())
    assert space.action() == spec.Field((50,))
    action = -torch.ones(1, 50)
    action[0, 5 * torch.arange(10) + torch.arange(10) % 5] = 0.5
    assert space.project(action).tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]]


def test_continuous_samples_have_the_moments_of_their_density():
    gaussian, sphere, box = draw(Gaussian(3)), draw(Sphere(3)), draw(Box(2, -1.0, 3.0))
    assert gaussian.mean(0).abs().max() < 0.03
    assert (gaussian.T.cov() - torch.eye(3)).abs().max() < 0.04
    assert torch.allclose(sphere.norm(dim=-1), torch.ones(40_000), atol=1e-5)
    assert sphere.mean(0).abs().max() < 0.02
    assert (sphere.T.cov() - torch.eye(3) / 3).abs().max() < 0.02
    assert (sphere[:, 0] < -0.5).float().mean().item() == pytest.approx(0.25, abs=0.01)  # Archimedes: z is uniform
    assert box.min() >= -1 and box.max() <= 3
    assert (box.mean(0) - 1).abs().max() < 0.03
    assert (box.var(0) - 16 / 12).abs().max() < 0.03


def grid(low: float, high: float, n: int = 400) -> tuple[torch.Tensor, float]:
    """The midpoints of n² cells of a square, and a cell's area."""
    step = (high - low) / n
    line = low + step * (torch.arange(n) + 0.5)
    return torch.cartesian_prod(line, line), step * step


@pytest.mark.parametrize("space", [Gaussian(2), Box(2, -1.0, 3.0)], ids=["Gaussian", "Box"])
def test_density_integrates_to_one(space):
    points, area = grid(-8.0, 8.0)
    assert space.log_prob(points).exp().sum().item() * area == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("dim", "area"), [(1, 2), (2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)])
def test_sphere_density_is_one_over_its_area(dim, area):
    assert Sphere(dim).log_prob(draw(Sphere(dim), 4)).exp().tolist() == pytest.approx([1 / area] * 4)


def test_a_wide_sphere_is_a_sphere_of_radius_root_dim():
    for dim in (2, 5):
        wide, unit = WideSphere(dim), Sphere(dim)
        torch.testing.assert_close(draw(wide, 9), dim**0.5 * draw(unit, 9))
        torch.testing.assert_close(wide.enumerate(), dim**0.5 * unit.enumerate())
        torch.testing.assert_close(wide.toward(torch.ones(1, dim)), torch.ones(1, dim))
    area = math.exp(-WideSphere(3).log_prob(draw(WideSphere(3), 1)).item())
    assert area == pytest.approx(4 * math.pi * 3)
    assert draw(WideSphere(50)).square().mean().item() == pytest.approx(1)


def test_box_density_is_zero_outside():
    assert Box(2).log_prob(torch.tensor([[0.0, 1.5]])).item() == -math.inf


def test_discrete_embeds_one_hot_and_one_skill_embeds_to_nothing():
    assert Discrete(3).embed(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert Discrete(3).embed(torch.tensor([[2], [0]])).shape == (2, 1, 3)
    assert Discrete(1).embed_dim == 0
    assert Discrete(1).embed(torch.tensor([0, 0])).shape == (2, 0)
    z = draw(Gaussian(3), 4)
    assert Gaussian(3).embed(z) is z and Sphere(3).embed(z) is z and Box(3).embed(z) is z


def test_enumerate():
    assert Discrete(3).enumerate().tolist() == [0, 1, 2]
    assert Discrete(3).enumerate(7).tolist() == [0, 1, 2, 0, 1, 2, 0]  # dealt round
    for space in (Gaussian(3), Sphere(3), Box(3)):
        assert space.enumerate().shape == (16, 3)
        assert torch.equal(space.enumerate(), space.enumerate())
        assert len(space.enumerate().unique(dim=0)) == 16
    assert torch.allclose(Sphere(3).enumerate(5).norm(dim=-1), torch.ones(5))
    circle = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    assert torch.allclose(Sphere(2).enumerate(4), circle, atol=1e-6)


def test_a_controllers_action_is_projected_onto_the_space():
    action = torch.tensor([[1.0, -0.5], [0.0, 0.0]])
    assert Gaussian(2).project(action).tolist() == [[1.5, -0.75], [0, 0]]
    assert Sphere(2).project(torch.tensor([[0.3, -0.4], [0.0, 0.0]])).tolist() == [
        pytest.approx([0.6, -0.8]),
        [1, 0],  # no direction: the first axis, and not a nan
    ]
    assert Box(2).project(action).tolist() == action.tolist()
    assert Box(2, -1.0, 3.0).project(action).tolist() == [[3, 0], [1, 1]]
    assert Discrete(3).project(torch.tensor([2, 1])).tolist() == [2, 1]
    assert Discrete(3).action() == spec.Discrete(3)
    for space in (Gaussian(4), Sphere(4), Box(4)):
        assert space.action() == spec.Field((4,))


def test_hybrid_is_a_family_and_the_parameter_of_its_skill():
    space = Hybrid(3, 2)
    z = draw(space)
    counts = torch.bincount(space.family(z), minlength=3)
    assert len(counts) == 3 and (counts - 40_000 / 3).abs().max() < 5 * math.sqrt(40_000 * (1 / 3) * (2 / 3))
    assert (
        space.parameter(z).mean(0).abs().max() < 0.03 and (space.parameter(z).T.cov() - torch.eye(2)).abs().max() < 0.04
    )
    one = torch.tensor([[1.0, 0.5, -2.0]])
    assert space.log_prob(one).item() == pytest.approx(-math.log(3) - 0.5 * (0.25 + 4) - math.log(2 * math.pi))
    assert space.embed(one).tolist() == [[0, 1, 0, 0.5, -2]]
    assert torch.equal(space.pair(space.family(z), space.parameter(z)), z)
    assert space.family(space.enumerate(5)).tolist() == [0, 1, 2, 0, 1] and space.count is None
    assert space.action() == spec.Field((5,))
    assert space.project(torch.tensor([[-0.5, 0.1, 0.9, 1.0, -0.2]])).tolist() == [[2, 1.5, pytest.approx(-0.3)]]
    with pytest.raises(ValueError, match=r"^skill_space Hybrid has no directions"):
        space.direction(one)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Hybrid(2, 0), ["skill_space.dim", "Hybrid"]),
        (lambda: Discrete(0), ["skill_space.n", "0", "at least 1"]),
        (lambda: MultiDiscrete(1, 2), ["skill_space.n", "at least 2"]),
        (lambda: MultiDiscrete(2, 0), ["skill_space.factors", "0"]),
        (lambda: Gaussian(0), ["skill_space.dim", "Gaussian"]),
        (lambda: Sphere(-2), ["skill_space.dim", "-2"]),
        (lambda: Box(2.5), ["skill_space.dim", "2.5"]),
        (lambda: Box(2, 1.0, 1.0), ["skill_space.low", "below high"]),
    ],
)
def test_an_impossible_space_is_an_error_of_one_line(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)
