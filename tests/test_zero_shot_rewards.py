"""Zero-shot rewards: a known reward on known features gives the known skill, and what that took is counted."""

import functools
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from directed_skills import ends, pretrained
from test_uses import Killed, main, rows
from torch import nn

from envs.point import Point, PointTask
from envs.vector import BatchedEnv
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.distributions import TanhNormal
from skillrl.downstream import Finetune, ZeroShot
from skillrl.downstream.finetune import Finetuned
from skillrl.downstream.kept import one_channel
from skillrl.downstream.zero_shot import Fitted
from skillrl.errors import BadInput
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.aps import APS, APSPolicy, BonusCritic
from skillrl.learners.base import Learner
from skillrl.learners.hilp import HILPPolicy
from skillrl.networks import Critic, SuccessorCritic
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Sphere, WideSphere
from skillrl.spec import Need, Spec
from skillrl.training import State, train

HIDDEN = (8, 8)


class Paying(PointTask):
    """direction·xy at every step, or 1 where direction·xy > beyond."""

    def __init__(self, direction: tuple[float, float], beyond: float | None, horizon: int):
        super().__init__(step_radius=0.2, horizon=horizon)
        self.direction, self.beyond = np.array(direction), beyond

    def reward(self, before, now, control, dt):
        along = now["xy"] @ self.direction
        return along if self.beyond is None else (along > self.beyond).astype(np.float64)


def paying(
    direction: tuple[float, float], *, beyond: float | None = None, num_envs: int = 8, horizon: int = 50
) -> BatchedEnv:
    return BatchedEnv(
        Paying(direction, beyond, horizon),
        num_envs=num_envs,
        workers=0,
        horizon=horizon,
        dtype="float32",
        observe=["xy"],
        views={"xy": ["xy"]},
        coverage={"key": "xy", "cell": 1.0},
        record=[],
    )


def straight() -> HILPPolicy:
    """Skills that go along z, and a φ that is the plane itself."""
    spec = Spec.from_env(Point(num_envs=1))
    policy = HILPPolicy(obs=spec.obs, action=spec.action, space=WideSphere(2), hidden_dims=[4], encoder_obs=spec.obs)
    policy.encoder = nn.Identity()
    policy.actor.forward = lambda obs, z: TanhNormal(5 * z, torch.full_like(z, -1.0))
    return policy


def sampled(env: BatchedEnv, skills: ActorPolicy, seed: int = 0, **settings: Any) -> tuple[Fitted, State]:
    use = ZeroShot(capacity=10_000, **settings)
    learner = use.learner(Spec.from_env(env), skills, None, dict)
    learner.generator.manual_seed(seed)
    data = Replay(use.capacity, env.num_envs, gamma=learner.gamma, seed=seed)
    return learner, train(env=env, learner=learner, data=data, schedule=use.schedule, seed=seed)


# ---- by hand


def test_a_linear_reward_gives_its_own_direction_and_every_sample_counts():
    learner, state = sampled(paying((0.6, -0.8)), straight(), env_steps=400, hold=10)
    torch.testing.assert_close(learner.z, 2**0.5 * torch.tensor([0.6, -0.8]))
    assert (state.env_steps, state.grad_steps, len(state.data)) == (400, 1, 400)
    assert ZeroShot(env_steps=400).measure(learner, None, seed=0)[0] == {"fit_env_steps": 400, "fit_rewarded": 1.0}
    drawn = state.data.sample_one(Need("transitions", 10_000))["z"].unique(dim=0)
    assert len(drawn) == 400 / 10, "the prior's draws, each held for 10 steps"


def test_the_fitted_skill_alone_is_played_where_nothing_is_sampled():
    env = paying((0.0, 1.0))
    learner, _ = sampled(env, straight(), env_steps=400, hold=10)
    told = rollout(paying((0.0, 1.0), num_envs=4), learner.behaviour(), learner.prior(), seed=0)
    ended = told.coordinates[np.arange(4), told.length]
    np.testing.assert_allclose(ended, [[0, 10]] * 4, atol=0.05)
    assert np.allclose(told.returns, sum(0.2 * t for t in range(1, 51)), rtol=1e-2)


def test_skills_are_neither_trained_nor_moved():
    skills = straight()
    before = {name: value.clone() for name, value in skills.state_dict().items()}
    sampled(paying((1.0, 0.0)), skills, env_steps=80, hold=10)
    assert all(torch.equal(value, before[name]) for name, value in skills.state_dict().items())


def test_what_cannot_be_fitted_is_refused_in_a_line():
    spec = Spec.from_env(Point(num_envs=1))
    blind = ActorPolicy(obs=spec.obs, action=spec.action, space=Sphere(2), hidden_dims=[4])
    with pytest.raises(ValueError, match="downstream=zero_shot needs skills that fit rewards: aps, hilp, fb; these"):
        ZeroShot().learner(spec, blind, None, dict)
    with pytest.raises(ValueError, match=r"downstream\.skill=regressed needs skills that fit rewards"):
        Finetune(skill="regressed").learner(spec, blind, None, dict)
    with pytest.raises(ValueError, match="has no use for a controller"):
        ZeroShot().learner(spec, straight(), lambda *_: Learner(spec), dict)
    with pytest.raises(ValueError, match=r"downstream\.env_steps is 0: a reward is fitted to at least 1 sample"):
        ZeroShot(env_steps=0)
    with pytest.raises(BadInput, match="downstream: the reward is 0 in all samples"):
        sampled(paying((1.0, 0.0), beyond=100.0), straight(), env_steps=80)


# ---- finetuning what was regressed


def finetuned(env: BatchedEnv, learner: Any, seed: int = 0, **settings: Any) -> tuple[Finetuned, State]:
    use = Finetune(**{"skill": "regressed", **settings})
    ours = use.learner(Spec.from_env(env), learner.policy, None, lambda: learner.kept_critic().state_dict())
    ours.generator.manual_seed(seed)
    data = Replay(use.capacity, env.num_envs, gamma=ours.gamma, seed=seed)
    return ours, train(env=env, learner=ours, data=data, schedule=use.schedule, seed=seed)


def untaught() -> APS:
    torch.manual_seed(3)
    return APS(Spec.from_env(Point(num_envs=1)), skill_space=Sphere(2), hidden_dims=HIDDEN, batch_size=16)


def test_the_samples_are_the_choices_share_and_the_rest_is_training():
    learner, told = untaught(), []
    fit = learner.policy.reward_to_skill
    learner.policy.reward_to_skill = lambda obs, reward: told.append((obs, reward)) or fit(obs, reward)  # type: ignore
    short: dict[str, Any] = {"choice_env_steps": 160, "choice_hold": 10, "batch_size": 16, "capacity": 1000}
    ours, state = finetuned(paying((1.0, 0.0)), learner, env_steps=320, warmup=200, keep="both", **short)
    assert ours.chosen() == {"choice_env_steps": 160} and state.env_steps == 320 == len(state.data)
    assert state.grad_steps == (320 - 200) // 8 + 1
    drawn = state.data.sample_one(Need("transitions", 10_000))["z"].unique(dim=0)
    assert len(drawn) == 160 / 10 + 1, "while sampling, skills of the prior; then the one"
    [(led, paid)] = told
    assert len(led) == 160 and torch.allclose(led[:, 0], paid), "what steps led to, and what was paid for that"
    assert torch.equal(ours.z, fit(led, paid))
    scratch, begun = finetuned(paying((1.0, 0.0)), learner, env_steps=80, keep="none", **short)
    assert scratch.chosen() == {"choice_skill": 0} and begun.env_steps == 80, "there is nothing to choose from"


@pytest.mark.parametrize("kind", [SuccessorCritic, BonusCritic])
def test_a_critic_with_channels_is_kept_as_what_it_says_along_z(kind: type[Critic]):
    spec, space = Spec.from_env(Point(num_envs=1)), WideSphere(3)
    torch.manual_seed(0)
    many, one = kind(spec.obs, spec.action, space, HIDDEN), Critic(spec.obs, spec.action, space, HIDDEN)
    z = space.sample(1)
    one.load_state_dict(one_channel(many.state_dict(), space, z[0]))
    obs, action, every = torch.randn(20, 2), torch.rand(20, 2), z.expand(20, -1)
    torch.testing.assert_close(one(obs, every, action).squeeze(-1), many.reduce(many(obs, every, action), every))
    single = Critic(spec.obs, spec.action, space, HIDDEN).state_dict()
    assert one_channel(single, space, z[0]) is single


def test_actor_and_critic_are_kept_along_the_skill_that_was_found():
    """As the URL benchmark keeps both: before the first update they are those of the pretraining, at the new z."""
    learner, env = untaught(), paying((1.0, 0.0))
    short: dict[str, Any] = {"env_steps": 88, "warmup": 1000, "choice_env_steps": 80, "capacity": 1000}
    ours, state = finetuned(env, learner, keep="both", **short)
    assert state.grad_steps == 0
    obs, action, z = torch.randn(9, 2), torch.rand(9, 2), ours.z.expand(9, -1)
    critic = learner.kept_critic()
    wanted = critic.reduce(critic(obs, z, action), z)
    for held in (ours.agent.critic, ours.agent.target_critic):
        torch.testing.assert_close(held(obs, z, action).squeeze(-1), wanted)
    for name, value in learner.policy.actor.state_dict().items():
        assert torch.equal(ours.policy.actor.state_dict()[name], value)


# ---- whole runs

SMALL = [
    *["env=swimmer", "env.horizon=10", "env.num_envs=4", "learner=aps", "learner.hidden_dims=[8]"],
    *["learner.skill_space.dim=2", "learner.batch_size=16", "pretrain.env_steps=320", "pretrain.warmup=80"],
    *["logger.every=80", "checkpoint_every=100"],
]
ZERO_SHOT = ["downstream=zero_shot", "downstream.env_steps=400", "downstream.hold=5"]
REGRESSED = [
    *["downstream=finetune", "downstream.skill=regressed", "downstream.keep=both", "downstream.env_steps=800"],
    *["downstream.choice_env_steps=400", "downstream.choice_hold=5", "downstream.warmup=0"],
    *["downstream.batch_size=8"],
]


def killed(patched: Any, where: str, call: int, *arguments: str) -> None:
    """The run dies at that call of ``where`` of what ``patched`` is."""
    original, calls = getattr(patched, where), []

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(*given, **named)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(patched, where, counted)
        main(*arguments)


@pytest.mark.parametrize(
    ("use", "patched", "where", "call", "result"),
    [
        (ZERO_SHOT, Fitted, "update", 1, "zero_shot"),  # from the newest checkpoint amid the samples
        (REGRESSED, Finetuned, "regress", 1, "finetuned"),
        (REGRESSED, Finetuned, "update", 40, "finetuned"),
    ],
)
def test_killed_and_resumed_is_as_if_nothing_had_been(
    use: list[str], patched: Any, where: str, call: int, result: str, tmp_path: Path
):
    whole, parts, quiet = tmp_path / "whole", tmp_path / "parts", [*SMALL, *use, "evaluate=false"]
    assert main(*quiet, f"hydra.run.dir={whole}") == 0
    killed(patched, where, call, *quiet, "runtime.graph=false", f"hydra.run.dir={parts}")  # so that each is called
    assert main(f"resume={parts}") == 0
    assert rows(whole) == rows(parts)
    name = f"{result}/model.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_a_zero_shot_run_reports_what_it_took_and_takes_a_larger_budget(tmp_path: Path):
    assert main(*SMALL, *ZERO_SHOT, f"hydra.run.dir={tmp_path}") == 0
    scores = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert scores["fit_env_steps"] == 400 and 0.9 < scores["fit_rewarded"] <= 1
    assert {"return_mean", "return_mean_random"} <= scores.keys()
    played = np.load(tmp_path / "eval" / "trajectories.npz")["control_z"]
    assert played.size and len(np.unique(played.reshape(-1, played.shape[-1])[:1], axis=0)) == 1
    report = (tmp_path / "report.html").read_text()
    assert "400 env steps of sampling a reward" in report and "a regression of the task" in report
    last = [row for row in rows(tmp_path) if row["phase"] == "zero_shot"][-1]
    assert (last["env_steps"], last["grad_steps"]) == ("400", "1") and last["reward/share"]
    assert main(f"resume={tmp_path}", "downstream.env_steps=800") == 0
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text())["fit_env_steps"] == 800


def test_what_has_nothing_to_go_by_ends_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture):
    point = [*SMALL[3:], *ZERO_SHOT, "env=point", "evaluate=false"]  # which pays nothing
    assert main(*point, f"hydra.run.dir={tmp_path / 'a'}") == 2
    assert "error: downstream: the reward is 0 in all samples" in capfd.readouterr().err
    assert main(*SMALL[:3], *ZERO_SHOT, f"hydra.run.dir={tmp_path / 'b'}") == 2
    assert "needs skills that fit rewards" in capfd.readouterr().err and not (tmp_path / "b").exists()


# ---- on the point env, by APS

DIRECTIONS = 16


@functools.cache
def taught(seed: int) -> State:
    agent = partial(SAC, tau=0.01, lr=1e-3, alpha_init=0.01, target_entropy_multiplier=0.19, entropy_in_target=False)
    make = partial(
        APS, skill_space=Sphere(2), agent=agent, hidden_dims=(64, 64), encoder_lr=1e-3, batch_size=256, hold=None
    )
    return pretrained(make, seed, env_steps=20_000)


class Permuted(APSPolicy):
    """Twin: rewards are permuted over the samples, and less their mean: that alone, with φ̂'s, tells
    which of two opposite directions the samples lean to."""

    def reward_to_skill(self, obs, reward):
        order = torch.randperm(len(reward), generator=torch.Generator().manual_seed(int(1e6 * abs(obs.sum())) % 2**31))
        return super().reward_to_skill(obs, reward[order] - reward.mean())


def of_kind(policy: APSPolicy, kind: type[APSPolicy]) -> APSPolicy:
    other = kind(**policy.arguments)
    other.load_state_dict(policy.state_dict())
    return other


def compass() -> list[tuple[float, float]]:
    return [(math.cos(k * math.tau / DIRECTIONS), math.sin(k * math.tau / DIRECTIONS)) for k in range(DIRECTIONS)]


def along_rewards(policy: APSPolicy, seed: int) -> float:
    """How far the skill fitted to direction·xy goes that way, of 10, over sixteen directions, 2,000 samples each."""
    far = []
    for k, direction in enumerate(compass()):
        learner, _ = sampled(paying(direction), policy, DIRECTIONS * seed + k, env_steps=2_000, hold=50)
        far.append(float((ends(policy, learner.z.unsqueeze(0)) @ np.array(direction))[0]))
    return float(np.mean(far))


@pytest.mark.learning(
    "skillrl/downstream/zero_shot.py", "skillrl/learners/aps.py", "skillrl/estimators.py", "skillrl/agents/sac.py"
)
@pytest.mark.parametrize("kind", [APSPolicy, Permuted])
def test_a_reward_is_earned_without_learning(kind: type[APSPolicy], seed: int, check: Check):
    """The fitted skill goes where it pays; fitted to permuted rewards it goes anywhere."""
    policy = of_kind(taught(seed).learner.policy, kind)
    check({"way along the reward, of 10": (along_rewards(policy, seed), ">= 5" if kind is APSPolicy else "< 5")})
