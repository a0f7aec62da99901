"""What a world model foresees, held against a model of the point by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from compass import Compass, compass

from envs.goal import PointGoal
from envs.point import Point
from skillrl.evaluation import build_report, evaluate
from skillrl.evaluation.foresight import foresight, watched
from skillrl.evaluation.rollouts import rollout
from skillrl.models.rssm import Latent
from skillrl.models.world_model import WorldModel


class Knowing(torch.nn.Module):
    """A model of the point by hand: it knows where each action leads. Its state is the place; ``blind``: the start."""

    def __init__(self, blind=False):
        super().__init__()
        self.blind, self.decoder = blind, Telling()

    def told(self, obs):
        return obs

    shown = told

    def observe(self, line, generator):
        return latent(line.obs)

    def imagine(self, start, act, horizon, generator):
        places = [start.deter]
        for _ in range(horizon):
            step = act(places[-1])
            places.append(places[-1] if self.blind else places[-1] + 0.2 * step)
        return latent(torch.stack(places))


class Telling(torch.nn.Module):
    def forward(self, feat):
        return feat[..., :2]

    def error(self, feat, obs):
        return (self(feat) - obs).square().mean(-1)


def latent(place):
    nothing = torch.zeros(*place.shape[:-1], 0, 1)
    return Latent(place, nothing, nothing)


class Dreaming(Compass):
    """Skills with such a model, and the methods that a controller in imagination would ask for."""

    def __init__(self, blind=False, **arguments):
        super().__init__(**arguments)
        self.world_model, self.actor = Knowing(blind), torch.nn.Identity()

    def latent(self, carry):
        raise NotImplementedError

    imagined_dist = latent


def test_foresight_is_exact_where_the_model_is_and_as_wrong_as_one_can_compute():
    known = Dreaming(**compass().arguments)
    scores, arrays = foresight(Point(num_envs=16, horizon=20), known, seed=0)
    assert scores["reconstruction_error"] == 0 and scores["foresight_error"] < 1e-10
    assert arrays["foresight_obs"].shape == (3, 21, 2) and arrays["foresight_seen"] == 5
    np.testing.assert_allclose(arrays["foresight_model"], arrays["foresight_obs"], atol=1e-5)
    # all directions alike: each axis has half of (0.2 t)^2 around 0
    far = 0.5 * (0.2 * np.arange(21)) ** 2
    np.testing.assert_allclose(arrays["foresight_mean_error"], far, rtol=1e-3, atol=1e-6)
    assert scores["mean_obs_error"] == pytest.approx(far.mean(), rel=1e-3)
    stays, arrays = foresight(Point(num_envs=16, horizon=20), Dreaming(blind=True, **compass().arguments), seed=0)
    gone = 0.5 * (0.2 * np.arange(1, 17)) ** 2  # since the last that was seen
    np.testing.assert_allclose(arrays["foresight_error"], [0] * 5 + gone.tolist(), rtol=1e-3)
    assert stays["foresight_error"] == pytest.approx(gone.mean(), rel=1e-3) and stays["reconstruction_error"] == 0


def test_foresight_ends_with_the_episode():
    """What comes after a row's end is another episode, and none of the model's business."""
    env = PointGoal(num_envs=16, distance=2.0, radius=0.5, horizon=30)
    line = watched(env, compass(env=env), 0)
    length = line.mask.sum(1)
    assert length.min() < 31 and not line.mask[:, -1].all() and (line.mask[:, 1:] <= line.mask[:, :-1]).all()
    row = int(length.argmin())
    end = line.obs[row, length[row] - 1]
    assert (end[:2] - end[2:4]).norm() <= 0.5 + 1e-6, "its last moment is the true end"
    steps = (line.obs[:, 1:, :2] - line.obs[:, :-1, :2] - 0.2 * line.action[:, 1:])[line.mask[:, 1:]]
    assert steps.abs().max() < 1e-5, "each action led to its moment"


def test_only_skills_with_a_world_model_have_foresight_in_their_report(tmp_path):
    kinds = {"without": compass(), "with": Dreaming(**compass().arguments)}
    for name, policy in kinds.items():
        make = partial(evaluate, make_env=lambda n: Point(num_envs=n, horizon=12), run_dir=tmp_path / name, video=False)
        scores = make(policy=policy)
        drawn = {path.name for path in (tmp_path / name / "eval" / "figures").glob("foresight*.png")}
        text = build_report(tmp_path / name).read_text()
        told = "What their world model foresees" in text
        assert told == ("foresight_error" in scores) == (name == "with")
        assert len(drawn) == (4 if name == "with" else 0)


def test_pictures_of_rollouts_are_not_kept_and_those_foreseen_are_shown(tmp_path):
    env = Point(num_envs=2, horizon=8, observe=["pixels"])
    told = rollout(env, compass(env=env), torch.tensor([0, 1]), seed=0)
    assert told.obs.shape == (2, 9, 64, 64, 0) and told.coordinates[0, -1].tolist() == pytest.approx([1.6, 0])
    torch.manual_seed(0)
    sizes = {"hidden_dims": [8], "depth": 1, "deter": 4, "stoch": 2, "classes": 2, "hidden": 4}
    policy = Dreaming(**compass(env=env).arguments)
    policy.world_model = WorldModel(policy.obs, 2, **sizes)
    pictured = partial(evaluate, make_env=lambda n: Point(num_envs=n, horizon=8, observe=["pixels"]), video=False)
    scores = pictured(policy=policy, run_dir=tmp_path)
    assert scores["discriminability_obs"] is None and scores["discriminability"] > 0.5
    assert 0 < scores["mean_obs_error"] < 0.01 < scores["reconstruction_error"], "an untrained model knows nothing"
    arrays = np.load(tmp_path / "eval" / "trajectories.npz")
    for name in ("obs", "model"):
        assert arrays[f"foresight_{name}"].shape == (3, 9, 64, 64, 3)
        assert arrays[f"foresight_{name}"].dtype == np.uint8
    assert (tmp_path / "eval" / "figures" / "foresight.png").is_file()
