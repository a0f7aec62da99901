"""Separation of Concerns: who hears what and when, whose reward and discount it is, and what the words are good for."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import Check

from envs.catch import Catch
from envs.pac_boy import FRUITS, PacBoy
from envs.point import Point
from skillrl.agents.dqn import DQN
from skillrl.agents.sac import SAC
from skillrl.aggregators import Actuators, Preferences
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.base import Learner
from skillrl.learners.flat import Flat
from skillrl.learners.soc import Concern, Minds, SoC
from skillrl.skill_library import load, save
from skillrl.spec import Batch, Discrete, Field, Need, Spec
from skillrl.training import Schedule, State, train

NAMES = {"all": (0, 3), "near": (3, 5)}
SPEC = Spec(Field((5,), names=NAMES), Discrete(3), horizon=10)
BOX = Spec(Field((5,), names=NAMES), Field((3,)), horizon=10)
ABOVE, BELOW = Concern(sees=["all"], words=3), Concern(sees=["near"], gamma=0.5, hears=[0], follow=0.25)


def run(learner: Learner, env: Any, seed: int = 0, hooks: Any = (), **schedule: int) -> State:
    data = Replay(100_000, env.num_envs, gamma=learner.gamma, seed=seed)
    return train(env=env, learner=learner, data=data, schedule=Schedule(**schedule), seed=seed, hooks=hooks)


# ---- one agent is DQN


def test_one_agent_that_says_nothing_is_dqn_bit_for_bit():
    made = []
    agent = partial(DQN, lr=1e-3, gamma=0.9, target_every=50, epsilon_updates=100)
    for make in (
        lambda spec: Flat(spec, agent=agent, hidden_dims=[16], batch_size=32),
        lambda spec: SoC(spec, concerns=[Concern(gamma=0.9)], agent=agent, hidden_dims=[16], batch_size=32),
    ):
        torch.manual_seed(0)
        env = Catch(num_envs=4, size=7)
        learner = make(Spec.from_env(env))
        state = run(learner, env, total=1200, warmup=100, collect=4)
        assert state.grad_steps > 200
        made.append((learner.policy.actor.critic.nets[0].state_dict(), state.metrics, state.data.steps.data["action"]))
    (flat, flat_metrics, flat_actions), (soc, metrics, actions) = made
    assert flat.keys() == soc.keys() and all(torch.equal(flat[key], soc[key]) for key in flat)
    assert torch.equal(flat_actions, actions) and torch.equal(flat_metrics["critic/loss"], metrics["critic/loss"])


# ---- aggregators


def test_disjoint_actuators_make_the_joint_action_of_the_parts_and_it_tells_the_parts():
    space = Actuators([[2, 0], [], [1]], levels=3)
    assert space.choices(BOX.action, 3) == [9, 1, 3]
    values = [torch.randn(50, n, generator=torch.Generator().manual_seed(n)) for n in (9, 1, 3)]
    parts, action = space.join(values, lambda v: v.argmax(-1))
    assert torch.equal(parts, torch.stack([v.argmax(-1) for v in values], -1)) and action.dtype == torch.float32
    level = (action + 1).round().long()  # 0, 1 or 2
    assert torch.equal(level.float() - 1, action)
    assert torch.equal(level[:, 2] + 3 * level[:, 0], parts[:, 0]) and torch.equal(level[:, 1], parts[:, 2])
    _, other = space.join([-values[0], values[1], values[2]], lambda v: v.argmax(-1))
    assert torch.equal(other[:, 1], action[:, 1])  # nobody else's affair
    every = {tuple(row) for row in itertools.product((-1.0, 0.0, 1.0), repeat=3)}
    reached = set()
    for first, last in itertools.product(range(9), range(3)):
        wanted = [torch.eye(9)[[first]], torch.zeros(1, 1), torch.eye(3)[[last]]]
        reached.add(tuple(space.join(wanted, lambda v: v.argmax(-1))[1][0].tolist()))
    assert reached == every


def test_preferences_add_up_and_the_action_is_everybodys_part():
    mine, yours, mute = torch.tensor([[1.0, 0.0, 0.6]]), torch.tensor([[0.0, 1.0, 0.6]]), torch.zeros(1, 1)
    space = Preferences([1.0, 0.0, 1.0])
    assert space.choices(SPEC.action, 3) == [3, 1, 3]
    parts, action = space.join([mine, mute, yours], lambda v: v.argmax(-1))
    assert action.tolist() == [2] and parts.tolist() == [[2, 0, 2]]
    _, action = Preferences([3.0, 0.0, 1.0]).join([mine, mute, yours], lambda v: v.argmax(-1))
    assert action.tolist() == [0]


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (SPEC, {"aggregator": Preferences([1.0])}, r"learner\.aggregator\.weights is \(1\.0,\): one for each of 2"),
        (SPEC, {"aggregator": Preferences([0.0, 0.0])}, r"learner\.aggregator\.weights is .*, some > 0"),
        (BOX, {"aggregator": Preferences([0.0, 1.0])}, "needs a discrete action, not a box: take Actuators"),
        (SPEC, {"aggregator": Actuators([[], [0]])}, "needs a box action, not a discrete one: take Preferences"),
        (BOX, {"aggregator": Actuators([[0], [0, 2]])}, r"learner\.aggregator\.axes is .* 3 axes stands once"),
        (SPEC, {"concerns": [Concern(hears=[1])]}, r"learner\.concerns: hears 1, but there are only 1 agents"),
        (SPEC, {"concerns": [Concern(sees=["nose"])]}, "view 'nose' is not known to this env"),
        (SPEC, {"concerns": []}, r"learner\.concerns: it needs at least one"),
        (SPEC, {"agent": SAC}, "learner soc needs a Q-learner: take agent dqn"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(spec: Spec, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SoC(spec, **arguments)
    with pytest.raises(ValueError, match=r"^learner\.concerns\.gamma is 1\.5: it must be a number in \[0, 1\]$"):
        Concern(gamma=1.5)


# ---- words


def small(spec: Spec = SPEC, **arguments: Any) -> SoC:
    torch.manual_seed(0)
    return SoC(spec, **{"concerns": [ABOVE, BELOW], "hidden_dims": [8], "batch_size": 16, **arguments})


def test_each_agent_is_given_what_it_sees_and_hears_and_no_more():
    policy = small().policy
    obs = torch.arange(10.0).reshape(2, 5)
    inputs = policy.inputs(obs, torch.tensor([[2, 0], [0, 0]]))
    assert inputs.tolist() == [[[0, 1, 2, 0, 0], [3, 4, 0, 0, 1]], [[5, 6, 7, 0, 0], [8, 9, 1, 0, 0]]]
    circle = small(concerns=[Concern(words=2, hears=[1, 0]), Concern(words=3, hears=[0], sees=["all", "near"])]).policy
    inputs = circle.inputs(obs[:1], torch.tensor([[1, 2]]))
    assert inputs.tolist() == [[[0, 1, 2, 3, 4, 0, 0, 1, 0, 1], [0, 1, 2, 3, 4, 0, 1, 0, 0, 0]]]
    with torch.no_grad():
        values = policy.actor.critic(policy.inputs(obs, torch.zeros(2, 2, dtype=torch.int64)), torch.zeros(2))
    assert values.shape == (1, 2, 2, 3) and values.isfinite().all()
    uneven = small(concerns=[Concern(words=2), BELOW]).policy  # two choices for the one, three for the other
    with torch.no_grad():
        values = uneven.actor.critic(uneven.inputs(obs, torch.zeros(2, 2, dtype=torch.int64)), torch.zeros(2))
    assert (values[0, :, 0, 2] == -torch.inf).all() and values[0, :, 0, :2].isfinite().all()


def test_networks_of_one_shape_are_evaluated_together_as_they_are_one_by_one():
    generator = torch.Generator().manual_seed(0)
    sizes = [(4, 3), (2, 6), (4, 3), (4, 2), (4, 3)]
    minds = Minds([width for width, _ in sizes], [n for _, n in sizes], [8, 5])
    inputs = torch.randn(7, 5, 4, generator=generator)
    together = minds(inputs, torch.zeros(7))
    for i, (width, n) in enumerate(sizes):
        assert torch.allclose(together[0, :, i, :n], minds.nets[i](inputs[:, i, :width]), atol=1e-6)
        assert (together[0, :, i, n:] == -torch.inf).all()


def test_a_word_is_heard_in_the_next_step_and_none_at_the_start():
    env = Catch(num_envs=3, size=6)
    learner = small(Spec.from_env(env), concerns=[Concern(words=3), Concern(sees=["near"], hears=[0], words=2)])
    state = run(learner, env, total=240, collect=3, updates=0)
    batch = state.data.sample_one(Need("sequences", 64, length=4))
    said = learner.policy.said(batch["choice"])
    goes_on = batch["mask"][:, 1:] & ~batch["first"][:, 1:]
    assert goes_on.sum() > 50 and (batch["heard"][batch["first"]] == 0).all()
    assert (batch["heard"][:, 1:] == said[:, :-1])[goes_on].all()
    assert set(said[..., 0].flatten().tolist()) == {0, 1, 2} and set(said[..., 1].flatten().tolist()) == {0, 1}
    assert (batch["choice"][..., 1] // 2 == batch["action"]).all()  # the part in the env is its action


def made_by_hand(learner: SoC) -> Batch:
    return Batch(
        obs=torch.rand(3, 5),
        next_obs=torch.rand(3, 5),
        action=torch.tensor([1, 1, 2]),
        choice=torch.tensor([[2, 1], [0, 1], [1, 2]]),
        heard=torch.tensor([[1, 0], [2, 0], [2, 0]]),
        reward=torch.tensor([1.0, 0.0, -1.0]),
        discount=torch.full((3,), learner.gamma),
        terminated=torch.tensor([False, False, True]),
        z=torch.zeros(3, dtype=torch.int64),
        **{"info/concerns": torch.tensor([[0.0, 5.0], [0.0, 6.0], [0.0, 7.0]])},
    )


def test_reward_and_discount_are_each_ones_own_and_next_is_heard_what_is_said_now():
    learner = small(concerns=[Concern(sees=["all"], words=3, pays=1, gamma=0.9), BELOW])
    batch = made_by_hand(learner)
    told = learner.relabel(batch)
    assert told["reward"].tolist() == [[5.0, 1.25], [6.0, 0.0], [7.0, -0.75]]  # did what it was asked for: twice of 3
    assert torch.allclose(told["discount"], torch.tensor([[0.9, 0.5], [0.9, 0.5], [0.0, 0.0]]))
    assert told["next_obs"][:, 1, 2:].argmax(-1).tolist() == [2, 0, 1]  # the words in what agent 0 chose
    assert told["obs"][:, 1, 2:].argmax(-1).tolist() == [1, 2, 2]
    with torch.no_grad():
        following = learner.agent.target_critic(told["next_obs"], told["z"])[0].amax(-1)
    assert torch.allclose(learner.agent.target(told), told["reward"] + told["discount"] * following)
    del batch["info/concerns"]
    with pytest.raises(ValueError, match=r"the env does not record concerns: env\.record"):
        learner.relabel(batch)


def test_agents_learn_apart_from_each_other():
    """What one is paid does not move the other, whose own reward is the same."""
    nets = []
    for reward in (1.0, -7.0):
        learner = small(agent=partial(DQN, max_grad_norm=1e9), concerns=[Concern(words=3, pays=1), BELOW])
        batch = made_by_hand(learner)
        batch["info/concerns"][:, 1] = reward
        for _ in range(5):
            learner.update({"batch": batch})
        nets.append([net.state_dict() for net in learner.policy.actor.critic.nets])
    (above, below), (other_above, other_below) = nets
    assert all(torch.equal(below[key], other_below[key]) for key in below)
    assert any((above[key] != other_above[key]).any() for key in above)


def test_an_agent_is_taken_elsewhere_and_policies_are_saved(tmp_path: Path):
    torch.manual_seed(1)
    there, here = small(), SoC(SPEC, concerns=[ABOVE, BELOW], hidden_dims=[8])
    here.adopt(1, there, 1)
    mine, theirs = here.policy.actor.critic.nets, there.policy.actor.critic.nets
    assert torch.equal(mine[1][0].weight, theirs[1][0].weight) and not torch.equal(
        mine[0][0].weight, theirs[0][0].weight
    )
    assert torch.equal(here.agent.target_critic.nets[1][0].weight, theirs[1][0].weight)
    saved: Any = load(save(here.policy, tmp_path))
    obs, z = torch.rand(6, 5), torch.zeros(6, dtype=torch.int64)
    ours, extras = here.policy.act(obs, z, deterministic=True)
    again, others = saved.act(obs, z, saved.initial(6), deterministic=True)
    assert torch.equal(ours, again) and torch.equal(extras["choice"], others["choice"])
    assert saved.concerns == [ABOVE, BELOW]


def test_actuators_move_a_box_env():
    env = Point(num_envs=4, horizon=8)
    concerns = [Concern(words=2, hears=[1]), Concern(words=3, hears=[0])]
    learner = small(Spec.from_env(env), concerns=concerns, aggregator=Actuators([[1], [0]], levels=5))
    state = run(learner, env, total=400, warmup=40, collect=4)
    action = state.data.sample_one(Need("transitions", 256))["action"]
    assert state.grad_steps > 50 and set(action.flatten().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}


# ---- learning


AGENT = partial(DQN, lr=1e-3, target_every=100, epsilon_updates=1000)
FILES = ("skillrl/learners/soc.py", "skillrl/agents/dqn.py", "envs/catch.py", "envs/pac_boy.py")


def catching(words: int = 3) -> partial:
    """Who sees all speaks, and who acts sees little."""
    above = Concern(sees=["all"], gamma=0.99, words=words)
    below = Concern(sees=["near"], gamma=0.8, hears=[0], follow=0.2)
    return partial(SoC, concerns=[above, below], agent=AGENT, hidden_dims=[64, 64])


def trained(make: Any, env: Any, seed: int, env_steps: int, hooks: Any = ()) -> Any:
    torch.manual_seed(seed)
    learner = make(Spec.from_env(env))
    learner.generator.manual_seed(seed)
    run(learner, env, seed, total=env_steps, warmup=1000, collect=8, hooks=hooks)
    return learner


def tried(learner: Learner, env: Any) -> tuple[float, float]:
    """Return and success, by the mode, a row an episode."""
    told = rollout(env, learner.behaviour(), torch.zeros(env.num_envs, dtype=torch.int64), seed=1)
    assert told.success is not None
    return float(told.returns.mean()), float(told.success.mean())


@pytest.mark.learning(*FILES)
def test_without_words_who_sees_little_misses_what_words_let_it_catch(seed: int, check: Check):
    """The twin has one word to say, which says nothing."""
    found = {
        words: tried(trained(catching(words), Catch(num_envs=8), seed, 32_000), Catch(num_envs=200))[1]
        for words in (3, 1)
    }
    check(
        {
            "success": (found[3], ">= 0.8"),
            "success without words": (found[1], "<= 0.6"),
            "drop": (found[3] - found[1], ">= 0.2"),
        }
    )


def boys(spec: Spec) -> SoC:
    """An agent for each fruit and each ghost, whose preferences add up."""
    count = len(FRUITS)
    fruits = [Concern(sees=["boy", f"fruit_{i}"], pays=i, gamma=0.6) for i in range(count)]
    ghosts = [Concern(sees=["boy", f"ghost_{i}"], pays=count + i, gamma=0.4) for i in range(2)]
    concerns = [*fruits, *ghosts]
    agent = partial(AGENT, epsilon_updates=2000)
    return SoC(spec, concerns=concerns, aggregator=Preferences([1.0] * len(concerns)), agent=agent, hidden_dims=[32])


@pytest.mark.learning(*FILES)
def test_an_agent_for_each_fruit_and_ghost_eats_more_than_one_for_all(seed: int, check: Check):
    """Beside DQN of the same schedule, which sees all of it and is paid for all of it, after 25,000 steps."""
    alone = partial(Flat, agent=partial(AGENT, epsilon_updates=2000, gamma=0.9), hidden_dims=[64, 64], batch_size=128)
    found = [tried(trained(make, PacBoy(num_envs=8), seed, 25_000), PacBoy(num_envs=200))[0] for make in (boys, alone)]
    check({"return": (found[0], ">= 3"), "of DQN's": (found[0] / max(found[1], 1e-6), ">= 1.3")})
