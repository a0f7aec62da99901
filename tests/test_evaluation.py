"""Rollouts and the whole evaluation, on the point env with scripted skills whose numbers are known."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from compass import Compass, compass

from envs.goal import PointGoal
from envs.point import Point
from skillrl.evaluation import build_report, evaluate
from skillrl.evaluation.protocol import Deal, _goal
from skillrl.evaluation.rollouts import Film, rollout, rollouts
from skillrl.selector import Selector
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Discrete, Sphere
from skillrl.spec import Selection, Spec

KEYS = {
    "num_skills", "state_coverage", "discriminability", "discriminability_permuted", "discriminability_untrained",
    "discriminability_obs", "effective_skills", "displacement_median", "displacement_median_untrained",
    "state_coverage_untrained",
    "success_rate", "return_mean", "episode_length",
}  # fmt: skip


class ToTheGoal(Selector):
    """The skill that points to the goal."""

    hold = 5

    def select(self, obs, carry, policy_carry, first, generator, deterministic):
        x, y = (obs[:, 2:4] - obs[:, :2]).T
        return Selection((torch.atan2(y, x) / (2 * math.pi) * 8).round().long() % 8)


class Idle(Compass):
    """Has learnt nothing: every skill stays where it is."""

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        return torch.zeros(len(z), 2), {}


def idle(seed):
    return Idle(**compass().arguments)


def untrained(seed):
    spec = Spec.from_env(Point(num_envs=1))
    torch.manual_seed(seed)
    return ActorPolicy(obs=spec.obs, action=spec.action, space=Discrete(8), hidden_dims=[16])


# ---- rollouts


def test_a_rollout_is_one_whole_episode_of_its_skill():
    told = rollout(Point(num_envs=3, horizon=10), compass(4), torch.tensor([0, 1, 3]), seed=0)
    assert told.obs.shape == (3, 11, 2) and told.length.tolist() == [10, 10, 10]
    assert told.coordinates[:, -1] == pytest.approx(np.array([[2, 0], [0, 2], [0, -2]]), abs=1e-5)
    assert (told.z == np.array([[0], [1], [3]])).all() and not told.terminated.any() and told.success is None


def test_rows_that_ended_keep_their_true_end():
    env = PointGoal(num_envs=16, distance=2.0, radius=0.5)
    told = rollout(env, compass(), ToTheGoal(), seed=0)
    assert told.success is not None and told.success.all() and told.terminated.all()
    ends = told.coordinates[np.arange(16), told.length]
    gap = np.linalg.norm(ends - told.obs[:, 0, 2:4], axis=1)
    assert (gap <= 0.5 + 1e-6).all()  # inside the goal: not the next episode's start
    assert told.length.max() <= 8 and (told.returns == 1).all()
    short = int(told.length.argmin())
    assert (told.coordinates[short, told.length[short] :] == ends[short]).all()


def test_many_rollouts_in_rounds_of_few_rows():
    z = torch.arange(10) % 8
    film = Film(rows=[0, 2], every=4, width=32, height=32)
    told = rollouts(Point(num_envs=4, horizon=10), compass(), z, seed=5, film=film)
    assert len(told) == 10 and (told.z[:, 0] == z.numpy()).all()
    angle = z.numpy() * 2 * np.pi / 8
    assert told.coordinates[:, -1] == pytest.approx(2 * np.stack([np.cos(angle), np.sin(angle)], 1), abs=1e-5)
    assert sorted(told.frames) == [0, 2] and [len(shots) for shots in told.frames.values()] == [3, 3]
    assert not np.array_equal(told.frames[0][0], told.frames[0][2])


def test_starts_are_fixed_by_the_seed_and_not_by_the_policy():
    def goals(policy, seed):
        return rollouts(PointGoal(num_envs=4), policy, torch.arange(6) % 8, seed=seed).obs[:, 0]

    assert np.array_equal(goals(compass(), 1), goals(untrained(0), 1))
    assert not np.array_equal(goals(compass(), 1), goals(compass(), 2))


# ---- which rollouts


@pytest.mark.parametrize("count", [2, 3, 8, 50])
def test_skills_are_dealt_evenly(count):
    deal = Deal.of(Discrete(count))
    told = deal.labels[deal.labels >= 0]
    assert np.bincount(told).tolist() == [12] * count
    assert (deal.z.numpy()[deal.labels >= 0] == told).all()
    spread = np.bincount(deal.z.numpy()[deal.spread], minlength=count)
    assert len(np.unique(deal.spread)) == 48 and spread.max() - spread.min() <= 1


def test_continuous_skills_and_one_skill():
    deal = Deal.of(Sphere(2))
    assert np.bincount(deal.labels[deal.labels >= 0]).tolist() == [12] * 16
    assert len(torch.unique(deal.z[deal.spread], dim=0)) == 48
    one = Deal.of(Discrete(1))
    assert (one.labels == -1).all() and len(one.spread) == len(one.z) == 48


# ---- all of it


def test_the_whole_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr("skillrl.evaluation.protocol.FRAMES", 10)  # pictures take most of the time

    def run(folder, video):
        return evaluate(
            make_env=lambda n: Point(num_envs=n),
            policy=compass(),
            run_dir=folder,
            seed=1,
            make_untrained=idle,
            controller=ToTheGoal(),
            make_task_env=lambda n: PointGoal(num_envs=n),
            video=video,
        )

    scores = run(tmp_path / "a", video=True)
    assert set(scores) >= KEYS and scores["num_skills"] == 8
    assert scores["discriminability"] == 1.0 and scores["effective_skills"] > 7.5
    assert scores["discriminability_untrained"] == scores["chance"] == 1 / 8
    assert scores["discriminability_permuted"] < 0.3
    assert scores["displacement_median"] == pytest.approx(10.0, abs=1e-4)
    assert scores["displacement_median_untrained"] == 0 and scores["state_coverage_untrained"] == 1
    assert scores["success_rate"] == 1.0 and scores["success_rate_random"] < 0.6
    assert scores["return_mean"] == 1.0 and scores["episode_length"] < 25
    folder = tmp_path / "a" / "eval"
    assert json.loads((folder / "metrics.json").read_text()) == scores
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names >= {"trajectories.npz", "trajectories.png", "confusion.png", "skills.mp4", "control.mp4"}
    assert not [name for name in names if "partial" in name]
    assert build_report(tmp_path / "a").stat().st_size > 50_000
    assert run(tmp_path / "b", video=False) == scores
    arrays = np.load(folder / "trajectories.npz")
    assert arrays["untrained_coverage"].tolist() == [1.0] * arrays["coordinates"].shape[1]
    for kind in ("metrics.json", "trajectories.npz"):
        assert (folder / kind).read_bytes() == (tmp_path / "b" / "eval" / kind).read_bytes()


def test_without_skills_controller_or_pictures(tmp_path):
    class Blind(Point):
        def render_rows(self, rows, **size):
            raise RuntimeError("no off-screen OpenGL")

    scores = evaluate(make_env=lambda n: Blind(num_envs=n, horizon=5), policy=compass(1), run_dir=tmp_path)
    assert set(scores) >= KEYS and scores["num_skills"] == 1
    told = ("discriminability", "discriminability_permuted", "discriminability_obs", "effective_skills")
    assert all(scores[key] is None for key in (*told, "success_rate"))
    assert scores["state_coverage"] == 2 and scores["displacement_median"] == pytest.approx(1.0)
    assert scores["notes"] == ["No video: no off-screen OpenGL"]
    assert "no off-screen OpenGL" in build_report(tmp_path).read_text()


def test_a_new_evaluation_leaves_nothing_of_the_old_one(tmp_path):
    old = [tmp_path / "eval" / "videos" / name for name in ("control.mp4", "control-0.mp4", "control.json")]
    old[0].parent.mkdir(parents=True)
    for path in old:
        path.write_bytes(b"old")
    evaluate(make_env=lambda n: Point(num_envs=n, horizon=4), policy=compass(2), run_dir=tmp_path, video=False)
    assert not any(path.exists() for path in old)


def test_a_goal_that_moves_within_an_episode_is_not_shown_as_a_place_that_was_reached():
    env, obs = SimpleNamespace(metadata={"obs_names": {"xy": [0, 1], "goal": [1, 3]}}), np.zeros((2, 5, 3))
    obs[:, :, 0] = range(5)
    obs[:, :, 1:] = [[[4.0, 5.0]], [[6.0, 7.0]]]
    assert _goal(env, SimpleNamespace(obs=obs)).tolist() == [[4.0, 5.0], [6.0, 7.0]]
    obs[1, 3:, 2] = 8.0
    assert _goal(env, SimpleNamespace(obs=obs)).shape == (2, 0)
