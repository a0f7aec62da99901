"""Estimates that learners share, against closed forms and cases made by hand. Dual variables: test_metra.py."""

import math

import pytest
import torch

from skillrl.estimators import contrastive_bound, knn_distances, regression
from skillrl.moments import Moments


def test_nearest_others_by_hand_and_never_the_point_itself():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [0.0, 1.0]])
    wanted = [[1, 1], [18**0.5, 18**0.5], [0, 1], [0, 1]]  # the last two are one place: each is the other's nearest
    assert knn_distances(points, 2).tolist() == [pytest.approx(row) for row in wanted]
    with pytest.raises(ValueError, match="4 nearest others are asked for, of 4 points"):
        knn_distances(points, 4)


def test_nearest_others_are_exact_far_from_the_origin():
    """Where ‖x‖² + ‖y‖² − 2 x·y would cancel to nothing."""
    line = 1000 + torch.arange(64.0).unsqueeze(-1) / 16
    assert knn_distances(line, 1).tolist() == [[1 / 16]] * 64


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 5.0)])
def test_the_entropy_of_nearest_others_is_that_of_a_square(low: float, high: float):
    """Kozachenko and Leonenko: log(n − 1) − ψ(k) + log π + 2 E[log distance] is the entropy in the plane, log of the
    area. With the point itself among the k it would be the k − 1 nearest's, off by ψ(k) − ψ(k − 1)."""
    n, k = 4000, 3
    points = low + (high - low) * torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    digamma = torch.digamma(torch.tensor(float(k))).item()
    distance = knn_distances(points, k)[:, -1].log().mean().item()
    assert math.log(n - 1) - digamma + math.log(math.pi) + 2 * distance == pytest.approx(
        2 * math.log(high - low), abs=0.06
    )


def test_the_contrastive_bound_is_the_information_where_f_is_the_density_ratio():
    """A joint of three x and three y, each y once among the y' of every x and as likely as the others."""
    joint = torch.tensor([[0.2, 0.1, 0.05], [0.05, 0.2, 0.1], [1 / 12, 1 / 30, 11 / 60]], dtype=torch.float64)
    torch.testing.assert_close(joint.sum(0), torch.full((3,), 1 / 3, dtype=torch.float64))
    ratio = (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).log()
    information = (joint * ratio).sum().item()
    times = (joint * 60).round().long()  # each pair as often as it is likely
    x = torch.arange(3).repeat_interleave(times.sum(1))
    y = torch.arange(3).repeat(3).repeat_interleave(times.flatten())
    bound = contrastive_bound(ratio[x, y], ratio[x])
    assert bound.item() + math.log(3) == pytest.approx(information)
    assert contrastive_bound(ratio[x, y], ratio[x], 5.0).item() == pytest.approx(
        bound.item() - 4 * ratio[x].logsumexp(-1).mean().item()
    )


def test_a_regression_is_the_right_way_round():
    """Of features of unit length and unlike spread; in URL benchmark's order it is no regression, but ∝ Σ r f."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.2, 3, 10)
    features = torch.nn.functional.normalize(torch.randn(4096, 10, generator=generator) * spread, dim=-1)
    true = torch.randn(10, generator=generator)
    found = regression(features, features @ true)
    torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-4)
    swapped = torch.linalg.lstsq((features @ true).unsqueeze(-1), features).solution[0]
    assert torch.cosine_similarity(swapped, true, 0) < 0.9 < 0.9999 < torch.cosine_similarity(found, true, 0)
    with pytest.raises(ValueError, match="the reward is 0 in all samples"):
        regression(features, torch.zeros(4096))


def test_a_regression_on_features_that_depend_is_the_shortest():
    features = torch.tensor([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]])
    assert regression(features, torch.tensor([2.0, 4.0, -2.0])).tolist() == pytest.approx([1.0, 1.0])


def test_moments_are_those_of_all_values_whatever_the_batches():
    values = 7 + 3 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    moments = Moments(2)
    for part in values.split([1, 9, 490, 500]):
        moments.update(part)
    torch.testing.assert_close(moments.mean, values.mean(0))
    torch.testing.assert_close(moments.var, values.var(0, correction=0))
    assert moments.count == 1000 and {"mean", "var", "count"} == set(moments.state_dict())
