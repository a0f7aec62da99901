"""HIRO: goals stay where they are, rewards and relabelling by hand; both levels saved and used together; what
relabelling is worth."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from test_uses import main
from torch import Tensor

import train as train_script
from envs.point_maze import PointMaze
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.agents.td3 import TD3
from skillrl.data.replay import Replay
from skillrl.distributions import NoisyMode
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.hiro import HIRO, Subgoals
from skillrl.learners.metra import METRA
from skillrl.record import read_config
from skillrl.run import Run
from skillrl.selector import BringsSelector
from skillrl.skill_library import load, save
from skillrl.skill_policy import ReachesGoals
from skillrl.spec import Batch, Discrete, Field, Spec
from skillrl.training import Schedule, State, begin, train

torch.set_num_threads(1)
SPEC = Spec.from_env(PointMaze(num_envs=1))  # xy, goal
STEP = 0.2


def make(**changes: Any) -> HIRO:
    return HIRO(SPEC, **{"hidden_dims": (8,), "goal_range": 2.0, "hold": 4, "batch_size": 16, **changes})


def towards(obs: Tensor, z: Tensor) -> NoisyMode:
    """A lower level that is right: a step straight to the goal, of at most ``STEP``, in units of it."""
    far = z.norm(dim=-1, keepdim=True).clamp(min=STEP)
    return NoisyMode(z / far, torch.tensor(0.1), torch.tensor(1.0))


def walked(goal: Tensor, steps: int = 4) -> Batch:
    """Decisions in which that lower level went for ``goal`` (B, 2), from places of their own."""
    at = torch.randn(len(goal), 2, generator=torch.Generator().manual_seed(0))
    z, obs, action = goal, [], []
    place = at
    for _ in range(steps):
        obs.append(torch.cat([place, torch.zeros_like(place)], -1))
        action.append(towards(obs[-1], z).mode())
        place, z = place + STEP * action[-1], z - STEP * action[-1]
    last = torch.cat([place, torch.zeros_like(place)], -1)
    mask = torch.ones(len(goal), steps, dtype=torch.bool)
    steps_of = {"step_obs": torch.stack(obs, 1), "step_action": torch.stack(action, 1), "step_mask": mask}
    return Batch(obs=obs[0], next_obs=last, z=goal, **steps_of)


def right(learner: HIRO) -> HIRO:
    learner.policy.actor.forward = towards
    return learner


# ---- exact


def test_a_goal_stays_where_it_is_as_the_body_moves():
    learner = make()
    rng = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randn(5, 4, generator=rng) for _ in range(2))
    z = torch.randn(5, 2, generator=rng)
    moved = learner.prior().advance(obs, z, next_obs)
    assert torch.equal(moved, learner.stay(z, obs, next_obs))
    torch.testing.assert_close(next_obs[:, :2] + moved, obs[:, :2] + z)


def test_collected_goals_stay_within_a_hold_and_are_set_anew_after_it():
    env = PointMaze(num_envs=4, horizon=10)
    learner = HIRO(SPEC, hidden_dims=(8,), goal_range=2.0, hold=4, batch_size=8)
    state = begin(
        env=env, learner=learner, data=Replay(4000, 4, gamma=learner.gamma), schedule=Schedule(0, collect=4), seed=0
    )
    aim, chosen = None, 0
    for _ in range(40):
        step, _ = state.collector.tick()
        now = step["obs"][:, :2] + step["z"]
        new = step["skill_step"] == 0
        assert ((step["z"].abs() <= 2) | ~new[:, None]).all()
        if aim is not None:
            torch.testing.assert_close(now[~new], aim[~new])
        aim, chosen = now, chosen + int(new.sum())
    assert chosen >= 4 * 40 / 4


def test_the_lower_level_learns_from_the_distance_that_is_left():
    """Reward, next goal and discount by hand."""
    learner, seen = make(agent=partial(TD3, gamma=0.9)), []
    learner.lower.update = lambda batch, generator: seen.append(batch) or {}
    batch = Batch(
        obs=torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 2),
        next_obs=torch.tensor([[1.0, 0.0, 9.0, 9.0]] * 2),
        z=torch.tensor([[4.0, 4.0], [1.0, 0.0]]),
        reward=torch.tensor([7.0, 7.0]),
        terminated=torch.tensor([False, True]),
        discount=torch.tensor([0.999, 0.0]),
    )
    learner.update_lower(batch)
    (told,) = seen
    assert told["next_z"].tolist() == [[3.0, 4.0], [0.0, 0.0]]
    assert told["reward"].tolist() == [-5.0, 0.0] and told["discount"].tolist() == pytest.approx([0.9, 0.0])


def test_the_upper_level_learns_of_the_envs_reward_by_goals_as_actions():
    learner, seen = make(candidates=1, reward_scale=0.1), []
    learner.upper.update = lambda batch, generator: seen.append(batch) or {}
    batch = walked(torch.tensor([[2.0, 0.0], [-1.0, 0.5]]))
    learner.update_upper(batch.replace(reward=torch.tensor([1.0, 3.0]), duration=torch.tensor([4, 4])))
    (told,) = seen
    assert told["action"].tolist() == [[1.0, 0.0], [-0.5, 0.25]]
    assert told["reward"].tolist() == pytest.approx([0.1, 0.3])


def test_what_is_tried_is_the_goal_that_was_set_where_it_led_and_draws_around_that():
    learner, batch = make(candidates=2000), walked(torch.tensor([[0.5, 0.0]]))
    tried = learner.tried(batch)
    led = (batch["next_obs"] - batch["obs"])[:, :2]
    assert tried.shape == (2000, 1, 2) and torch.equal(tried[0], batch["z"])
    torch.testing.assert_close(tried[1], led)
    assert tried.abs().max() <= 2
    inside = (tried[2:, 0] - led).abs().max(-1).values < 1.4  # what was not cut off
    torch.testing.assert_close((tried[2:, 0, 1] - led[0, 1]).median(), torch.tensor(0.0), atol=0.1, rtol=0)
    assert 0.6 < inside.float().mean() < 0.8  # of a deviation of half the range, 1: P(|n| < 1.4)² = 0.70
    assert [len(make(candidates=n).tried(batch)) for n in (1, 2, 3, 10)] == [1, 2, 3, 10]


def test_relabelling_keeps_a_goal_that_was_followed_and_finds_where_others_led():
    learner = right(make(candidates=10))
    goal = torch.tensor([[0.5, 0.0], [0.0, -0.7], [0.3, 0.3]])
    followed = walked(goal)
    torch.testing.assert_close(learner.relabel(followed), goal)
    ignored = followed.replace(z=-goal)  # as if the lower level had been told to go the other way
    led = (followed["next_obs"] - followed["obs"])[:, :2]
    found = learner.relabel(ignored)
    torch.testing.assert_close(found / found.norm(dim=-1, keepdim=True), led / led.norm(dim=-1, keepdim=True))
    assert torch.equal(right(make(candidates=1)).relabel(ignored), -goal)


def test_the_likelihood_by_hand_and_padding_is_not_in_it():
    learner, batch = right(make()), walked(torch.tensor([[1.0, 0.0]]))
    other = torch.tensor([[[0.0, 1.0]]])
    whole = learner.log_likelihood(batch, torch.cat([batch["z"][None], other]))
    z, wanted = other[0, 0].clone(), 0.0
    for i in range(4):
        if i:
            z = z - (batch["step_obs"][0, i] - batch["step_obs"][0, i - 1])[:2]
        wanted -= 0.5 * float((batch["step_action"][0, i] - towards(z, z).mode()).square().sum())
    assert whole[:, 0].tolist() == pytest.approx([0.0, wanted], abs=1e-5)
    short = batch.replace(step_mask=torch.tensor([[True, False, False, False]]))
    first = learner.log_likelihood(short, other)
    assert first.item() == pytest.approx(-0.5 * 2.0), "(1, 0) was done, (0, 1) would have been"


def test_its_skills_and_who_chooses_them_are_saved_together(tmp_path: Path):
    learner = make()
    saved = load(save(learner.policy, tmp_path))
    assert isinstance(saved, BringsSelector) and isinstance(saved, ReachesGoals)
    obs, rng = torch.randn(6, 4), torch.Generator().manual_seed(0)
    asked = (obs, (), (), torch.ones(6, dtype=torch.bool), rng, True)
    assert torch.equal(saved.selector(SPEC).select(*asked).z, learner.prior().select(*asked).z)
    assert saved.selector(SPEC).hold == 4
    reach = saved.goal_to_skill(torch.zeros(1, 2), torch.tensor([[1.0, -9.0]]))
    assert reach.tolist() == [[1.0, -2.0]], "an offset, within what it was trained on"
    with pytest.raises(ValueError, match="part 'goal' is wanted"):
        saved.selector(Spec(Field((2,), names={"xy": (0, 2)}), SPEC.action))


@pytest.mark.parametrize("agent", [TD3, SAC])
@pytest.mark.parametrize("hold", [1, 4])
def test_both_levels_are_trained_by_one_rollout(agent: Any, hold: int):
    learner = make(agent=agent, hold=hold)
    before = {name: value.clone() for name, value in learner.policy.named_parameters()}
    state = run(learner, PointMaze(num_envs=4, horizon=10), 80, warmup=40, collect=4, updates=2)
    assert state.grad_steps > 0
    for name, value in learner.policy.named_parameters():
        assert (value != before[name]).any(), name
    assert learner.lower.actor is learner.policy.actor and learner.upper.actor is learner.policy.upper.actor


def test_what_it_cannot_do_is_refused_in_a_line():
    with pytest.raises(ValueError, match="needs an off-policy agent"):
        make(agent=PPO)
    with pytest.raises(ValueError, match="needs a box action"):
        HIRO(Spec(SPEC.obs, Discrete(3)))
    with pytest.raises(ValueError, match=r"learner\.candidates is 0"):
        make(candidates=0)
    with pytest.raises(ValueError, match="view 'legs' is not known"):
        make(goal_view="legs")


def test_a_run_is_evaluated_with_the_choices_that_were_learnt(tmp_path: Path):
    """So is any whose skills bring their selector; and its skills serve another controller."""
    small = ["experiment=small/hiro", "env.horizon=20", "learner.hidden_dims=[8]", "pretrain.env_steps=160"]
    assert main(*small, "evaluate=false", f"hydra.run.dir={tmp_path / 'run'}") == 0
    trained = Run(read_config(tmp_path / "run"), tmp_path / "run", train_script.build, saved=True)
    skills = trained.skills()
    brought = trained.brought(skills)["controller"]
    assert isinstance(brought, Subgoals) and brought.policy is skills
    told = rollout(PointMaze(num_envs=4, horizon=20), skills, brought, seed=0)
    aim = told.coordinates[:, :-1] + told.z  # (4, T, 2)
    assert np.abs(aim[:, 1:5] - aim[:, :4]).max() < 1e-5 < np.abs(aim[:, 5] - aim[:, 4]).max()
    assert trained.brought(METRA(SPEC, hidden_dims=(4,)).policy) == {}
    use = ["downstream=control", "controller=zero_shot", "downstream.env_steps=0", "evaluate=false"]
    assert main(f"skills={tmp_path / 'run'}", "task=point_maze", *use, f"hydra.run.dir={tmp_path / 'use'}") == 0


def run(learner: HIRO, env: Any, env_steps: int, seed: int = 0, *hooks: Any, **schedule: int) -> State:
    data = Replay(1_000_000, env.num_envs, gamma=learner.gamma, seed=seed)
    return train(env=env, learner=learner, data=data, schedule=Schedule(env_steps, **schedule), seed=seed, hooks=hooks)


# ---- learning


@pytest.mark.learning("skillrl/learners/hiro.py", "skillrl/agents/sac.py", "envs/point_maze.py")
@pytest.mark.parametrize("arm", ["HIRO", "goals as they were set"])
def test_relabelling_makes_use_of_what_a_worse_lower_level_did(arm: str, seed: int, check: Check):
    """experiment=small/hiro, but of 18,000 env steps 10,000 were collected by a lower level that did not know of goals
    yet: those tell the upper level nothing of its goals as they were set."""
    torch.manual_seed(seed)
    env = PointMaze(num_envs=16)
    learner = HIRO(
        Spec.from_env(env),
        agent=partial(SAC, lr=1e-3, gamma=0.9, alpha=0.003),
        goal_range=1.0,
        hold=5,
        candidates=10 if arm == "HIRO" else 1,
        reward_scale=1.0,
        upper_gamma=0.99,
        hidden_dims=[64, 64],
        batch_size=128,
    )
    learner.generator.manual_seed(seed)
    reached = list[float]()

    def hook(state: State) -> None:
        if state.env_steps > 13_500:
            reached.extend(episode["episode/success"] for episode in state.episodes)

    run(learner, env, 18_000, seed, hook, warmup=10_000, collect=16, updates=2)
    check({"success in the last quarter": (float(np.mean(reached)), ">= 0.65" if arm == "HIRO" else "< 0.65")})
