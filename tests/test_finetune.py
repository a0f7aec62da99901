"""Finetuning: what is kept is kept, the skill is chosen by trial, and both are worth their env steps."""

import functools
import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check

from envs.hopper import Hopper
from envs.point import Point, PointTask
from envs.vector import BatchedEnv
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.downstream import Finetune
from skillrl.downstream.finetune import Finetuned
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.diayn import DIAYN
from skillrl.learners.primitive import Primitive
from skillrl.selector import Always
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Batch, Spec
from skillrl.training import Schedule, State, begin, train

K, HIDDEN = 4, (16, 16)


class Far(PointTask):
    """1 for each step farther than 6 from the start: nothing that random actions would ever see."""

    def reward(self, before, now, control, dt):
        return (np.linalg.norm(now["xy"], axis=1) > 6).astype(np.float64)


class East(PointTask):
    """The progress in x."""

    def reward(self, before, now, control, dt):
        return now["xy"][:, 0] - before["xy"][:, 0]


def paying(task: type[PointTask], num_envs: int = 4, horizon: int = 50) -> BatchedEnv:
    """A point env with a reward."""
    env = BatchedEnv(
        task(step_radius=0.2, horizon=horizon),
        num_envs=num_envs,
        workers=0,
        horizon=horizon,
        dtype="float32",
        observe=["xy"],
        views={"xy": ["xy"]},
        coverage={"key": "xy", "cell": 1.0},
        record=[],
    )
    return env


class Compass(ActorPolicy):
    """Skill k goes k quarter turns from east, at full speed."""

    def dist(self, obs, z, carry=()):
        angle = z.float() * torch.pi / 2
        return Straight(torch.stack([angle.cos(), angle.sin()], -1))


class Straight:
    def __init__(self, direction: torch.Tensor):
        self.direction = direction

    def mode(self) -> torch.Tensor:
        return self.direction


def compass(spec: Spec) -> Compass:
    return Compass(obs=spec.obs, action=spec.action, space=Discrete(4), hidden_dims=HIDDEN)


def untaught(spec: Spec, **changes: Any) -> DIAYN:
    torch.manual_seed(3)
    return DIAYN(spec, **{"skill_space": Discrete(K), "hidden_dims": HIDDEN, **changes})


def finetuned(spec: Spec, learner: Any, **settings: Any) -> Finetuned:
    """Made from the same seed each time."""
    torch.manual_seed(7)
    return Finetune(**settings).learner(spec, learner.policy, None, learner.agent.critic.state_dict)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def batch_of(spec: Spec, z: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    n, obs = len(z), spec.obs.dim

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return Batch(
        obs=draw(n, obs),
        next_obs=draw(n, obs),
        action=2 * draw(n, spec.action.dim) - 1,
        reward=draw(n),
        discount=0.99 * torch.ones(n),
        z=z,
    )


# ---- what is kept


@pytest.mark.parametrize(
    ("keep", "actor", "critic"), [("none", 0, 0), ("actor", 1, 0), ("critic", 0, 1), ("both", 1, 1)]
)
def test_what_is_kept_is_kept_and_the_rest_is_as_from_scratch(keep: str, actor: int, critic: int):
    spec = Spec.from_env(Hopper(num_envs=1))
    learner = untaught(spec, policy_view="body")
    ours, scratch = (finetuned(spec, learner, keep=how) for how in (keep, "none"))
    assert equal(ours.policy.actor, (learner.policy if actor else scratch.policy).actor)
    assert equal(ours.agent.critic, (learner if critic else scratch).agent.critic)
    assert equal(ours.agent.target_critic, ours.agent.critic), "the target is a copy of the critic that is in use"
    assert not equal(scratch.policy.actor, learner.policy.actor) and not equal(
        scratch.agent.critic, learner.agent.critic
    )


def test_training_moves_the_copy_and_not_the_skills():
    spec = Spec.from_env(Hopper(num_envs=1))
    learner = untaught(spec)
    ours = finetuned(spec, learner, keep="both", skill=2)
    before = {name: value.clone() for name, value in ours.skills.state_dict().items()}
    start = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.update({"batch": batch_of(spec, torch.full((8,), 2))})
    assert all(torch.equal(value, before[name]) for name, value in ours.skills.state_dict().items())
    moved = {name for name, value in ours.state_dict().items() if not torch.equal(value, start[name])}
    assert {"policy.actor.net.0.weight", "agent.critic.nets.0.0.weight", "agent.log_alpha"} <= moved
    assert not any(name.startswith("policy.discriminator") for name in moved)


def test_an_update_is_sacs_on_the_tasks_reward_with_z_fixed():
    """Whatever skill the transition was collected with."""
    spec = Spec.from_env(Hopper(num_envs=1))
    learner = untaught(spec)
    one, other = (finetuned(spec, learner, keep="both", skill=2) for _ in range(2))
    mixed, fixed = batch_of(spec, torch.arange(16) % K), batch_of(spec, torch.full((16,), 2))
    metrics = one.update({"batch": mixed})
    expected = other.agent.update(fixed, other.generator)
    assert all(torch.equal(metrics[name], expected[name]) for name in expected)
    assert equal(one, other) and metrics["reward/task"] == mixed["reward"].mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": "all"}, r"downstream\.keep is 'all': it can be none, actor, critic, both"),
        ({"skill": "worst"}, r"downstream\.skill is 'worst': it must be best, regressed or a skill's number"),
        ({"skill": 4}, r"downstream\.skill is 4: it must be best, regressed or a number from 0 to 3"),
        ({"skill": -1}, r"downstream\.skill is -1"),
        ({"confidence": 1.0}, r"confidence is 1\.0"),
        (
            {"env_steps": 1000},
            r"downstream\.choice_env_steps is 20000: it must be less than downstream\.env_steps, 1000",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(settings: dict, message: str):
    spec = Spec.from_env(Point(num_envs=1))
    with pytest.raises(ValueError, match=message):
        finetuned(spec, untaught(spec), **settings)


def test_skills_that_cannot_be_trained_are_refused():
    spec = Spec.from_env(Point(num_envs=1))
    with pytest.raises(ValueError, match=r"trains an actor, and these skills \(PrimitivePolicy\) have none"):
        Finetune().learner(spec, Primitive(spec).policy, None, dict)
    with pytest.raises(ValueError, match="has no use for a controller"):
        Finetune().learner(spec, untaught(spec).policy, untaught, dict)
    with pytest.raises(ValueError, match="is of another shape, keep the actor"):
        other = untaught(spec, hidden_dims=(8, 8)).agent.critic.state_dict
        Finetune(keep="critic").learner(spec, untaught(spec).policy, None, other)


# ---- the choice


def trial(env: Any, skills: ActorPolicy, num_envs: int, **settings: Any) -> tuple[Finetuned, State]:
    """After the choice, before the first round."""
    learner = Finetune(**settings).learner(Spec.from_env(env), skills, None, dict)
    data = Replay(100_000, num_envs, gamma=learner.gamma)
    state = begin(env=env, learner=learner, data=data, schedule=Schedule(100_000, collect=num_envs))
    learner.prepare(state)
    return learner, state


@pytest.mark.parametrize("num_envs", [3, 4, 8])  # fewer rows than skills, as many, more
def test_the_best_skill_is_found_and_what_that_took_is_counted(num_envs: int):
    """All is deterministic here, so two rollouts of each skill tell."""
    env = paying(East, num_envs, horizon=10)
    learner, state = trial(env, compass(Spec.from_env(env)), num_envs)
    assert learner.chosen() == {
        "choice_skill": 0,
        "choice_rollouts": 8,
        "choice_rollouts_uniform": 8,
        "choice_env_steps": 80,
        "choice_decided": 1,
    }
    assert learner.z == 0 and state.env_steps == 80 == len(state.data)
    stored = state.data.steps.data["z"]
    assert set(stored.tolist()) == {0, 1, 2, 3}
    assert state.collector.first.all() and state.collector.episode_length.sum() == 0


@pytest.mark.parametrize(("task", "warned"), [(Far, True), (East, False)])
def test_where_no_skill_is_paid_the_first_is_taken_and_it_is_said(
    task: type[PointTask], warned: bool, caplog: pytest.LogCaptureFixture
):
    env = paying(task, 4, horizon=10)  # too short to get far
    with caplog.at_level(logging.WARNING):
        learner, _ = trial(env, compass(Spec.from_env(env)), 4)
    assert learner.chosen()["choice_skill"] == 0
    assert ("no skill earned more than another in 8 rollouts" in caplog.text) == warned


def test_without_end_the_choice_stops_at_its_share():
    env = Hopper(num_envs=4, horizon=20)
    torch.manual_seed(0)
    spec = Spec.from_env(env)
    alike = ActorPolicy(obs=spec.obs, action=spec.action, space=Discrete(K), hidden_dims=HIDDEN)
    learner, state = trial(env, alike, 4, choice_env_steps=400)
    found = learner.chosen()
    assert not found["choice_decided"] and 400 <= state.env_steps <= 400 + 20 * K
    assert found["choice_env_steps"] == state.env_steps == len(state.data)


def test_skills_of_a_continuous_space_are_sixteen_fixed_draws():
    class Towards(Compass):
        def dist(self, obs, z, carry=()):
            return Straight(z)

    env = paying(East, 4, horizon=10)
    spec = Spec.from_env(env)
    skills = Towards(obs=spec.obs, action=spec.action, space=Box(2), hidden_dims=HIDDEN)
    learner, _ = trial(env, skills, 4)
    draws = Box(2).enumerate()
    length = draws.norm(dim=1).clamp(min=1)
    assert learner.chosen()["choice_skill"] == int((draws[:, 0] / length).argmax())
    assert torch.equal(learner.z, draws[learner.chosen()["choice_skill"]])


def test_a_given_skill_and_a_start_from_scratch_need_no_trial():
    env = paying(East, 4, horizon=10)
    for settings in ({"skill": 3}, {"keep": "none"}):
        learner, state = trial(env, compass(Spec.from_env(env)), 4, **settings)
        assert state.env_steps == 0 and learner.chosen() == {"choice_skill": settings.get("skill", 0)}


# ---- what it is for


@functools.cache
def pretrained(seed: int) -> DIAYN:
    torch.manual_seed(seed)
    env = Point(num_envs=8)
    learner = DIAYN(Spec.from_env(env), skill_space=Discrete(8), hidden_dims=(64, 64), agent=partial(SAC, alpha=0.1))
    learner.generator.manual_seed(seed)
    data = Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    train(env=env, learner=learner, data=data, schedule=Schedule(24_000, warmup=1_000), seed=seed)
    return learner


def outcome(keep: str, seed: int, steps: int = 6_000) -> tuple[float, float]:
    """The return before and after ``steps`` env steps, the choice's included."""
    learner = finetuned(Spec.from_env(paying(Far)), pretrained(seed), keep=keep, choice_env_steps=2_000)
    learner.generator.manual_seed(seed)
    env, data = paying(Far, 8), Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    state = train(env=env, learner=learner, data=data, schedule=Schedule(steps, 1_000, updates=2), seed=seed)
    assert steps <= state.env_steps < steps + 8
    rows = paying(Far, 8)
    before, after = (
        float(rollout(rows, policy, Always(learner.z), seed=1).returns.mean())
        for policy in (learner.skills, learner.policy)
    )
    return before, after


@pytest.mark.learning("skillrl/downstream", "skillrl/skill_choice.py", "skillrl/agents/sac.py", "skillrl/training.py")
@pytest.mark.parametrize("keep", ["both", "none"])
def test_finetuning_beats_from_scratch_at_equal_env_steps(keep: str, seed: int, check: Check):
    """At most 20 of 50 steps pay; from scratch none of them is ever found."""
    before, after = outcome(keep, seed)
    if keep == "none":
        check({"return": (after, "<= 0")})
    else:
        check({"return": (after, ">= 15"), "gained": (after - before, ">= 0")})
