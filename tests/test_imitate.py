"""Imitation: the skill that an expert's observations speak of, and whether it goes where the expert went."""

import functools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from checks import Check

from envs.point import Point
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.downstream import Imitate
from skillrl.downstream.imitate import Imitator, path_distance, read_expert
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.diayn import DIAYN, DIAYNPolicy
from skillrl.learners.flat import Flat
from skillrl.skill_spaces import Discrete
from skillrl.spec import Spec
from skillrl.training import Schedule, train

K = 8


def diayn(seed: int = 0) -> DIAYN:
    torch.manual_seed(seed)
    agent = partial(SAC, alpha=0.1)
    learner = DIAYN(Spec.from_env(Point(num_envs=1)), skill_space=Discrete(K), hidden_dims=(64, 64), agent=agent)
    learner.generator.manual_seed(seed)
    return learner


@functools.cache
def pretrained(seed: int) -> DIAYN:
    learner = diayn(seed)
    data = Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    train(env=Point(num_envs=8), learner=learner, data=data, schedule=Schedule(24_000, warmup=1_000), seed=seed)
    return learner


def of_skill(learner: DIAYN, skill: int, path: Path, seed: int = 5) -> str:
    """An expert that is one of the skills, its actions sampled."""
    told = rollout(Point(num_envs=1), learner.policy, torch.tensor([skill]), seed=seed, deterministic=False)
    np.savez(path, observations=told.obs[0])
    return str(path)


def imitator(policy: DIAYNPolicy, expert: str) -> Imitator:
    return Imitate(expert=expert).learner(Spec.from_env(Point(num_envs=1)), policy, None, dict)


class Sectors(DIAYNPolicy):
    """A posterior by hand: skill 1 where x > 0, with probability 0.9, and skill 0 elsewhere."""

    def log_posterior(self, obs: torch.Tensor) -> torch.Tensor:
        east = (obs[:, :1] > 0).float()
        return torch.cat([0.9 - 0.8 * east, 0.1 + 0.8 * east], -1).log()


def sectors() -> Sectors:
    spec = Spec.from_env(Point(num_envs=1))
    shapes = {"obs": spec.obs, "action": spec.action, "hidden_dims": [8], "posterior_obs": spec.obs}
    return Sectors(space=Discrete(2), **shapes)


def test_the_posterior_is_the_product_over_the_steps(tmp_path: Path):
    """Two steps east, one west: 0.9 · 0.9 · 0.1 against 0.1 · 0.1 · 0.9."""
    np.savez(tmp_path / "x.npz", observations=np.array([[1.0, 0], [2, 0], [-1, 0]]))
    ours = imitator(sectors(), str(tmp_path / "x.npz"))
    assert ours.skill == 1 == ours.z
    assert ours.posterior().tolist() == pytest.approx([0.1, 0.9])
    assert ours.log_q.tolist() == pytest.approx(
        [(2 * np.log(0.1) + np.log(0.9)) / 3, (2 * np.log(0.9) + np.log(0.1)) / 3]
    )
    assert ours.needs() == {} and not list(ours.parameters())


def test_distance_by_hand():
    expert = np.array([[0.0, 0], [1, 0], [2, 0]])
    paths = np.array([[[0.0, 0], [1, 0], [2, 0], [9, 9]], [[0, 3], [1, 4], [2, 5], [9, 9]]])
    assert path_distance(paths, expert).tolist() == [0, 4]
    assert path_distance(paths[:, :2], expert).tolist() == pytest.approx([1 / 3, (3 + 4 + np.hypot(1, 4)) / 3])


def test_a_row_of_several_ends_where_its_length_says(tmp_path: Path):
    spec = Spec.from_env(Point(num_envs=1))
    many = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    np.savez(tmp_path / "x.npz", observations=many, observations_length=np.array([4, 2, 3]))
    assert np.array_equal(read_expert(str(tmp_path / "x.npz"), 1, spec), many[1, :2])


@pytest.mark.parametrize(
    ("arrays", "row", "message"),
    [
        (None, 0, r"is no file: give an \.npz with observations \(T, 2\)"),
        ({"obs": np.zeros((3, 2))}, 0, "has no array called observations"),
        (
            {"observations": np.zeros((3, 5))},
            0,
            r"observations are \(3, 5\), of this task they must be finite and \(T, 2",
        ),
        ({"observations": np.full((3, 2), np.nan)}, 0, "must be finite"),
        ({"observations": np.zeros((3, 2))}, 1, "expert_row is 1: .* has rows 0 to 0"),
        ({"observations": np.array([[{}]])}, 0, "has no array called observations that can be read"),
    ],
)
def test_what_is_no_expert_is_said_in_a_line(arrays: dict | None, row: int, message: str, tmp_path: Path):
    path = tmp_path / "x.npz"
    if arrays is not None:
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        read_expert(str(path), row, Spec.from_env(Point(num_envs=1)))


def test_skills_without_a_posterior_are_refused(tmp_path: Path):
    spec = Spec.from_env(Point(num_envs=1))
    np.savez(tmp_path / "x.npz", observations=np.zeros((3, 2)))
    use = Imitate(expert=str(tmp_path / "x.npz"))
    with pytest.raises(ValueError, match=r"needs countable skills with a posterior q\(z \| s\), these are ActorPolicy"):
        use.learner(spec, Flat(spec).policy, None, dict)
    with pytest.raises(ValueError, match="has no use for a controller"):
        use.learner(spec, diayn().policy, diayn, dict)


def recovered(learner: DIAYN, judge: DIAYNPolicy, tmp_path: Path) -> float:
    """The share of skills that are recognised, each as an expert, by the posterior of ``judge``."""
    experts = [of_skill(learner, skill, tmp_path / f"{skill}.npz") for skill in range(K)]
    return float(np.mean([int(imitator(judge, expert).skill) == skill for skill, expert in enumerate(experts)]))


@pytest.mark.learning("skillrl/downstream/imitate.py", "skillrl/learners/diayn.py", "skillrl/agents/sac.py")
def test_an_expert_that_is_a_skill_is_recovered(seed: int, check: Check, tmp_path: Path):
    learner = pretrained(seed)
    guesses = []
    for other in range(20):  # the trained actor, and a discriminator that knows nothing
        judge = diayn(1_000 * (seed + 1) + other).policy
        judge.actor.load_state_dict(learner.policy.actor.state_dict())
        guesses.append(recovered(learner, judge, tmp_path))
    check(
        {
            "experts recognised": (recovered(learner, learner.policy, tmp_path), ">= 0.875"),
            "the same by untrained discriminators": (float(np.mean(guesses)), "<= 0.155"),  # chance is 1/8
        }
    )


@pytest.mark.learning("skillrl/downstream/imitate.py", "skillrl/learners/diayn.py", "skillrl/agents/sac.py")
def test_the_imitator_goes_where_the_expert_went(seed: int, check: Check, tmp_path: Path):
    learner = pretrained(seed)
    use = Imitate(expert=of_skill(learner, 5, tmp_path / "x.npz"))
    ours = use.learner(learner.spec, learner.policy, None, dict)
    scores, arrays = use.measure(ours, Point(num_envs=48), seed=seed)
    assert arrays["imitation_log_q"].argmax() == scores["imitation_skill"]
    assert arrays["imitation_distance"].argmin() == scores["imitation_nearest"]
    beside = scores["imitation_distance"] / scores["imitation_distance_others"]
    check(
        {
            "the expert's skill is the likeliest": (float(scores["imitation_skill"] == 5), ">= 1"),
            "and goes nearest to it": (float(scores["imitation_nearest"] == 5), ">= 1"),
            "its posterior": (scores["imitation_posterior"], "> 0.99"),
            "its distance, of the others'": (beside, "< 0.3"),
        }
    )
