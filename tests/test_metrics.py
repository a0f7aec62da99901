"""Every measure against a case worked out by hand, and the fresh classifier against cases whose answer is known."""

import math

import numpy as np
import pytest
import torch

from skillrl.evaluation import metrics
from skillrl.evaluation.metrics import Recognition, cell_table, obs_table, permuted_accuracy, recognise


def paths(ends, copies, steps=10, noise=0.0, seed=0):
    """Straight rollouts from the origin: `copies` to each end (K, D), and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(ends)), copies)
    goal = np.asarray(ends, dtype=float)[labels] + noise * generator.normal(size=(len(labels), np.shape(ends)[1]))
    return np.linspace(0, 1, steps + 1)[None, :, None] * goal[:, None], np.full(len(labels), steps), labels


# ---- coverage and displacement


def test_coverage_grows_with_the_steps_and_stops_with_the_episode():
    coordinates = np.array([[0.5, 1.5, 2.5, 9.5], [0.5, 0.5, 2.5, 3.5]])[..., None]
    length = np.array([2, 3])  # the first never sees 9.5
    assert metrics.coverage_so_far(coordinates, length, 1.0).tolist() == [1, 2, 3, 4]
    assert metrics.state_coverage(coordinates, length, 1.0) == 4


def test_cells_are_floored_also_below_zero():
    assert metrics.cells(np.array([-0.1, 0.0, 0.49, 0.5, -0.5]), 0.5).tolist() == [-1, 0, 0, 1, -1]


def test_coverage_counts_cells_of_all_rollouts_and_nothing_after_an_end():
    coordinates = np.array(
        [
            [[0.5, 0.5], [1.5, 0.5], [1.7, 0.9]],  # cells (0,0) (1,0) (1,0)
            [[0.5, 0.5], [-0.5, 0.5], [9.0, 9.0]],  # cells (0,0) (-1,0); ends after one step
        ]
    )
    assert metrics.state_coverage(coordinates, np.array([2, 1]), 1.0) == 3
    assert metrics.state_coverage(coordinates, np.array([2, 2]), 1.0) == 4
    assert metrics.state_coverage(coordinates, np.array([2, 1]), 10.0) == 2  # x < 0 is another cell


def test_displacement_is_from_start_to_the_true_end():
    coordinates = np.array([[[1.0, 1.0], [4.0, 5.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
    assert metrics.displacement(coordinates, np.array([1, 2])).tolist() == [5.0, 2.0]


# ---- what the classifier is given


def test_a_table_has_each_rollouts_cells_by_the_time_spent_there():
    coordinates = np.array([[[0.5], [0.6], [0.7], [1.2], [3.3]], [[9.0], [2.5], [7.0], [7.0], [7.0]]])
    table = cell_table(coordinates, np.array([4, 1]), 1.0)
    assert table.rollout.tolist() == [0, 0, 0, 1]  # cells 0, 1, 3; cell 2. The start in cell 9 is left out
    assert table.weight.tolist() == [0.5, 0.25, 0.25, 1.0]


def test_the_classifier_sees_no_finer_than_a_cell():
    coordinates, length, _ = paths([[3.2, 0.0], [0.0, -4.1]], copies=3)
    table = cell_table(coordinates, length, 1.0)
    moved = cell_table(np.floor(coordinates) + 0.5, length, 1.0)
    assert np.array_equal(table.features, moved.features) and np.array_equal(table.weight, moved.weight)


def test_observations_are_taken_evenly_and_never_after_the_end():
    obs = np.arange(200.0)[None, :, None].repeat(2, 0)
    table = obs_table(obs, np.array([199, 3]))
    assert np.bincount(table.rollout).tolist() == [metrics.OBS_STEPS, 3]
    first = np.unique(table.features[table.rollout == 1])
    assert len(first) == 3 and first.max() < np.median(table.features)
    assert np.bincount(table.rollout, table.weight) == pytest.approx([1.0, 1.0])


# ---- what it answers


def test_answers_and_effective_skills_by_hand():
    log_probs = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]]))
    seen = Recognition(np.array([0, 1, 2]), log_probs)
    assert seen.predicted.tolist() == [0, 1, 0]
    assert seen.accuracy == pytest.approx(2 / 3)
    cross_entropy = -(math.log(0.5) + math.log(0.8) + math.log(0.1)) / 3
    assert seen.effective_skills == pytest.approx(math.exp(math.log(3) - cross_entropy))
    assert seen.confusion().tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_rollouts_are_judged_by_their_mean_over_steps():
    """A rollout that spends most of its time in another's cells is taken for it, wherever it ends."""
    ends = np.array([[5.5, 0.5], [-4.5, 0.5]])
    labels = np.tile([0, 1], 6)
    coordinates = ends[labels][:, None].repeat(11, 1)
    coordinates[1, :8] = ends[0]  # of skill 1, but 7 of its 10 steps are at 0's place
    table = cell_table(coordinates, np.full(12, 10), 1.0)
    for seed in range(20):
        seen = recognise(table, labels, 2, seed=seed)
        if len(seen.labels) and seen.accuracy < 1:  # rollout 1 was held out
            assert seen.predicted[seen.labels == 1].tolist().count(0) == 1
            assert seen.accuracy == pytest.approx(5 / 6)
            return
    raise AssertionError("in 20 splits the mixed rollout was never held out and mistaken")


def test_skills_that_part_are_recognised():
    angle = 2 * np.pi * np.arange(8) / 8
    table = cell_table(*paths(5 * np.stack([np.cos(angle), np.sin(angle)], 1), 12, noise=0.3)[:2], 1.0)
    seen = recognise(table, np.tile(np.arange(8), 12), 8, seed=0)
    assert len(seen.labels) == 48 and np.bincount(seen.labels).tolist() == [6] * 8
    assert seen.accuracy >= 0.95 and 7 < seen.effective_skills <= 8


def test_skills_that_go_far_are_recognised_in_cells_never_seen_before():
    angle = 2 * np.pi * np.arange(16) / 16
    ends = 100 * np.stack([np.cos(angle), np.sin(angle)], 1)
    coordinates, length, labels = paths(ends, 12, steps=20, noise=4.0)
    assert recognise(cell_table(coordinates, length, 1.0), labels, 16, seed=0).accuracy >= 0.9


def test_near_skills_beside_a_far_one_are_recognised():
    ends = [[2.5, 0.5], [-2.5, 0.5], [0.5, 2.5], [300.0, 0.5]]
    coordinates, length, labels = paths(ends, 12, noise=0.2)
    assert recognise(cell_table(coordinates, length, 1.0), labels, 4, seed=0).accuracy >= 0.95


def test_two_pairs_of_equal_skills_are_worth_two():
    coordinates, length, labels = paths([[4.5, 0.0], [4.5, 0.0], [-4.5, 0.0], [-4.5, 0.0]], 12)
    seen = recognise(cell_table(coordinates, length, 1.0), labels, 4, seed=0)
    assert seen.accuracy == pytest.approx(0.5, abs=0.01)
    assert seen.effective_skills == pytest.approx(2.0, abs=0.1)


def test_skills_within_one_cell_are_one():
    coordinates, length, labels = paths([[0.3, 0.1], [0.1, 0.4], [0.2, 0.2], [0.4, 0.4]], 12)
    seen = recognise(cell_table(coordinates, length, 1.0), labels, 4, seed=0)
    assert seen.accuracy == pytest.approx(0.25)
    assert seen.effective_skills == pytest.approx(1.0, abs=0.01)
    fine = recognise(cell_table(coordinates, length, 0.1), labels, 4, seed=0)
    assert fine.accuracy >= 0.9  # a finer cell shows what the coarse one hides


def test_shuffled_labels_are_at_chance_even_where_rollouts_of_a_skill_are_identical():
    coordinates, length, labels = paths([[4.5, 0.5], [-4.5, 0.5], [0.5, 4.5], [0.5, -4.5]], 8)
    table = cell_table(coordinates, length, 1.0)
    assert recognise(table, labels, 4, seed=0).accuracy == 1.0
    found = np.array([permuted_accuracy(table, labels, 4, seed=seed, repeats=1) for seed in range(40)])
    assert abs(found.mean() - 0.25) < 3 * found.std(ddof=1) / math.sqrt(len(found))
    assert found.std() > 0


def test_the_same_seed_gives_the_same_answers_and_leaves_the_global_generator_alone():
    coordinates, length, labels = paths([[2.5, 0.5], [-2.5, 0.5]], 6, noise=2.0)
    table = cell_table(coordinates, length, 1.0)
    state = torch.get_rng_state()
    first, second = recognise(table, labels, 2, seed=3), recognise(table, labels, 2, seed=3)
    assert np.array_equal(first.log_probs, second.log_probs)
    assert not np.array_equal(first.log_probs, recognise(table, labels, 2, seed=4).log_probs)
    assert torch.equal(state, torch.get_rng_state())
