"""Claims from seeds, against numbers worked out by hand."""

import itertools
import math

import numpy as np
import pytest

from skillrl.evaluation.statistics import claim, estimate, iqm, mean_and_se, pooled_se, profile


def test_mean_and_its_standard_error():
    mean, se = mean_and_se([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert se == pytest.approx(math.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 3) / 2)
    assert math.isnan(mean_and_se([7.0])[1])


def test_pooled_error_weighs_groups_by_their_size():
    # squares: 2 over 3 points and 8 over 2 -> variance 10 / 3, times (1/3 + 1/2)
    assert pooled_se([1, 2, 3], [0, 4]) == pytest.approx(math.sqrt(10 / 3 * (1 / 3 + 1 / 2)))
    equal = pooled_se([1, 2, 3, 4], [2, 4, 6, 8])
    assert equal == pytest.approx(math.hypot(mean_and_se([1, 2, 3, 4])[1], mean_and_se([2, 4, 6, 8])[1]))


def test_a_claim_needs_the_effect_and_the_errors():
    other = [0.0, 0.1, 0.2, 0.3, 0.4]
    found = claim([value + 0.5 for value in other], other, effect=0.3)
    assert found is not None and found.holds
    assert found.gap == pytest.approx(0.5)
    assert found.se == pytest.approx(math.sqrt(0.025 * 2 / 5))
    assert found.gap_in_se == pytest.approx(5.0)
    surely_small = claim([value + 0.5 for value in other], other, effect=0.6)
    assert surely_small is not None and not surely_small.holds
    large_but_unsure = claim([value + 0.29 for value in other], other, effect=0.1)  # 2.9 standard errors
    assert large_but_unsure is not None and not large_but_unsure.holds
    the_wrong_way = claim(other, [value + 0.5 for value in other], effect=0.0)
    assert the_wrong_way is not None and not the_wrong_way.holds


def test_seeds_that_all_agree():
    better, same = claim([1.0] * 5, [0.0] * 5, effect=0.5), claim([1.0] * 5, [1.0] * 5, effect=0.0)
    assert better is not None and better.holds and better.gap_in_se == math.inf
    assert same is not None and not same.holds and same.gap_in_se == 0.0


def test_no_claim_under_five_seeds():
    assert claim([10.0] * 4, [0.0] * 5, effect=0.1) is None
    assert claim([10.0] * 5, [0.0] * 4, effect=0.1) is None


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="finite"):
        mean_and_se([1.0, float("nan")])
    with pytest.raises(ValueError, match="at least 2"):
        pooled_se([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="effect is -1"):
        claim([0.0] * 5, [0.0] * 5, effect=-1)


def test_the_interquartile_mean_drops_a_quarter_at_each_end():
    assert iqm(np.array([9.0, 1.0, 2.0, 3.0, -50.0])) == 2.0  # 1, 2 and 3 remain
    assert iqm(np.arange(8.0)) == 3.5
    assert iqm(np.array([1.0, 2.0, 6.0])) == 3.0  # too few to drop any
    assert iqm(np.array([[0.0, 1.0], [4.0, 3.0], [2.0, 2.0], [8.0, 9.0]])).tolist() == [3.0, 2.5]


def test_the_interval_is_that_of_all_resamples():
    """Of five seeds all 3125 resamples can be written down."""
    points = np.array([0.1, 0.4, 0.5, 0.9, 0.3])
    every = [iqm(np.array(resample)) for resample in itertools.product(points, repeat=5)]
    found = estimate(points)
    assert found is not None and found.iqm == pytest.approx(0.4)
    assert [found.low, found.high] == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=0.02)
    assert (found.low, found.high) == pytest.approx((1 / 6, 23 / 30), abs=1e-9)


def test_the_interval_of_a_curve_is_that_of_each_of_its_points():
    curves = np.random.default_rng(0).normal(size=(6, 3))
    together = estimate(curves)
    assert together is not None
    for i in range(3):
        alone = estimate(curves[:, i])
        assert alone is not None
        assert [alone.iqm, alone.low, alone.high] == pytest.approx([together.iqm[i], together.low[i], together.high[i]])


def test_no_interval_under_five_seeds_nor_where_one_is_no_number():
    assert estimate(np.arange(4.0)) is None
    assert estimate(np.array([0.0, 1.0, 2.0, 3.0, math.nan])) is None
    assert estimate(np.arange(5.0)) is not None


def test_a_profile_is_the_fraction_above():
    assert profile([0.2, 0.5, 0.5, 1.0], np.array([0.0, 0.2, 0.5, 1.0])).tolist() == [1.0, 0.75, 0.25, 0.0]
