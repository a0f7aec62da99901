"""The controller that learns in imagination: its gradient by hand, a world in which its best choice is known, how it
begins, and what frozen means."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import Check
from near import NearTraining
from torch import Generator, Tensor, nn

from envs.goal import PointGoal
from skillrl.controllers.imagined import Imagined
from skillrl.data.replay import Replay
from skillrl.distributions import NoisyMode
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.choreographer import ChoreographerPolicy
from skillrl.models.rssm import Latent
from skillrl.selector import Prior
from skillrl.skill_library import load, save
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Codebook, Discrete
from skillrl.spec import Field, Spec
from skillrl.training import Schedule, State, train

torch.set_num_threads(1)
TINY: dict[str, Any] = {"hidden_dims": (8,), "horizon": 3, "batch_size": 4, "length": 6, "random_steps": 0}


def choreographed(spec: Spec, **changes: Any) -> ChoreographerPolicy:
    torch.manual_seed(0)
    shapes: dict[str, Any] = {"obs": spec.obs.select("xy"), "action": spec.action, "space": Codebook(5, 2)}
    return ChoreographerPolicy(hidden_dims=[8], depth=2, deter=6, stoch=2, classes=3, hidden=8, **shapes, **changes)


def started(
    env_steps: int = 600, skills: ChoreographerPolicy | None = None, **changes: Any
) -> tuple[State, ChoreographerPolicy]:
    env = PointGoal(num_envs=8, distance=1.2)  # near, so that something is paid soon
    spec = Spec.from_env(env)
    skills = skills or choreographed(spec)
    learner = Imagined(spec, skills, **(TINY | changes))
    learner.generator.manual_seed(0)
    data = Replay(10_000, 8, gamma=learner.gamma)
    state = train(env=env, learner=learner, data=data, schedule=Schedule(env_steps, warmup=200, collect=40))
    return state, skills


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


# ---- frozen or not


def test_frozen_skills_stay_as_they_are_bit_for_bit():
    fresh = tensors(choreographed(Spec.from_env(PointGoal(num_envs=1))))
    state, skills = started(frozen=True)
    learner: Any = state.learner
    assert learner.paid and state.grad_steps > 5
    assert not differ(fresh, tensors(skills)) and learner.policy is None and learner.behaviour() is skills
    assert learner.deterministic and not any(name.startswith("policy") for name in learner.state_dict())
    before = tensors(learner)
    learner.update(state.data.sample(learner.needs()))
    moved = {name.split(".")[0] for name in differ(before, tensors(learner))}
    assert moved == {"actor", "reward", "end", "value"} and not differ(fresh, tensors(skills))


def test_skills_that_are_not_frozen_are_trained_as_a_copy(tmp_path: Path):
    fresh = tensors(choreographed(Spec.from_env(PointGoal(num_envs=1))))
    state, skills = started()
    learner: Any = state.learner
    assert not differ(fresh, tensors(skills)), "the copy is trained, not what was handed over"
    moved = {name.split(".")[0] for name in differ(fresh, tensors(learner.policy))}
    assert moved == {"world_model", "actor"} and learner.behaviour() is learner.policy
    loaded = load(save(learner.policy, tmp_path))
    assert not differ(tensors(loaded), tensors(learner.policy))


# ---- how it begins


def test_where_nothing_was_pretrained_units_are_those_of_what_came_before_the_first_update():
    def shown(before: int, **changes: Any) -> tuple[int, int]:
        """How many observations the units of who plays are made of, and those of the skills that were handed over."""
        skills = choreographed(Spec.from_env(PointGoal(num_envs=1)), normalize=True)
        if before:
            skills.world_model.units.update(torch.randn(before, 2))
        state, _ = started(300, skills, **changes)
        played: Any = state.learner.behaviour()
        return int(played.world_model.units.count), int(skills.world_model.units.count)

    assert shown(7) == shown(7, frozen=True) == (7, 7)
    assert shown(0) == (200, 0) and shown(0, frozen=True) == (0, 0)


def test_skills_are_played_by_chance_until_something_is_paid():
    env = PointGoal(num_envs=400)
    spec = Spec.from_env(env)
    learner = Imagined(spec, choreographed(spec), **(TINY | {"random_steps": 1000, "random_hold": 7}))
    with torch.no_grad():
        learner.actor[-1].bias[3] += 100  # what it would choose
    selector, z = learner.prior(), torch.zeros(400, dtype=torch.int64)

    def chosen(greedy: bool = False) -> set[int]:
        obs, carry = torch.zeros(400, 4), learner.behaviour().initial(400)
        first = torch.zeros(400, dtype=torch.bool)
        return set(selector.select(obs, (), carry, first, Generator().manual_seed(0), greedy).z.tolist())

    def holds(steps: int) -> bool:
        return not bool(selector.due(torch.zeros(400, 4), z, torch.full((400,), steps), None).any())

    for paid, env_steps in ((False, 2000), (True, 999)):
        learner.paid.fill_(paid)
        learner.maintain(env_steps)
        assert chosen() == {0, 1, 2, 3, 4} and holds(6) and not holds(7)
        assert chosen(greedy=True) == {3}
    learner.maintain(1000)
    assert chosen() == {3} and not holds(1)


def test_while_nothing_is_paid_nothing_is_gained():
    """Without a weight of the entropy the choice stays as it is, to the bit."""
    state, _ = started(env_steps=0, entropy=0.0, weight_decay=0.0)
    learner: Any = state.learner
    state.schedule = Schedule(400, collect=40, updates=0)
    train(env=None, learner=learner, data=state.data, schedule=state.schedule, state=state)
    batch = state.data.sample(learner.needs())["sequences"]
    for paid in (False, True):
        before = tensors(learner.actor), tensors(learner.policy.actor)
        learner.update({"sequences": batch.replace(reward=batch["reward"] * 0 + float(paid))})
        for old, module in zip(before, (learner.actor, learner.policy.actor), strict=True):
            assert bool(differ(old, tensors(module))) == paid


# ---- what it climbs


def test_the_gradient_of_the_choice_by_hand():
    """Two states that count, of which one is passed over with hold=2."""
    env = PointGoal(num_envs=1)
    spec = Spec.from_env(env)
    for hold in (1, 2):
        learner = Imagined(spec, choreographed(spec), **(TINY | {"hold": hold, "entropy": 0.1, "weight_decay": 0.0}))
        learner.paid.fill_(True)
        width = learner.behaviour().world_model.feat_dim + 2
        inputs, chosen = torch.randn(4, 1, width), torch.tensor([[1], [1 if hold == 2 else 4], [0]])
        returns, weight = torch.tensor([[7.0], [2.0], [3.0]]), torch.tensor([[1.0], [0.5], [0.25]])
        value = learner.value.slow_critic(inputs).detach()
        rows = range(0, 2, hold)
        logits = learner.actor(inputs[:2]).log_softmax(-1)
        gains = [
            weight[t, 0]
            * (logits[t, 0, chosen[t, 0]] * (returns[t + 1, 0] - value[t, 0]) + 0.1 * entropy(logits[t, 0]))
            for t in rows
        ]
        wanted = torch.autograd.grad(-sum(gains) / len(gains), learner.actor[-1].weight)[0]
        learner.teach_choice(inputs, chosen, returns, weight)
        torch.testing.assert_close(learner.actor[-1].weight.grad, wanted)


def entropy(logits: Tensor) -> Tensor:
    return -(logits.exp() * logits).sum()


class Line(nn.Module):
    """A world model whose state is a place on a line."""

    feat_dim = 1

    def imagine(self, start: Latent, act: Any, horizon: int, generator: Any) -> Latent:
        places = [start.deter]
        for _ in range(horizon):
            places.append(places[-1] + act(places[-1].detach()))
        deter = torch.stack(places)
        nothing = deter.new_zeros(*deter.shape[:2], 0, 0)
        return Latent(deter, nothing, nothing)


class Walking(SkillPolicy):
    """Three skills: a step back, none, a step on."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.world_model, self.actor = Line(), nn.Linear(1, 1)

    def latent(self, carry: Any) -> Tensor:
        return carry[0]

    def imagined_dist(self, feat: Tensor, z: Tensor) -> NoisyMode:
        mean = (z - 1).unsqueeze(-1).float()
        return NoisyMode(mean, mean * 0 + 0.1, mean * 0 + 1)


class Near(nn.Module):
    """−|place − goal|, of a place and what the skills do not see."""

    def forward(self, inputs: Tensor) -> Tensor:
        return -(inputs[..., :1] - inputs[..., 1:]).abs()


@pytest.mark.parametrize("hold", [1, 2])
def test_it_finds_the_choice_that_leads_to_what_is_paid(hold: int):
    """The goal is what the skills do not see: it is held while imagining, and the choice depends on it."""
    torch.manual_seed(0)
    spec = Spec(Field((2,), names={"x": (0, 1), "goal": (1, 2)}), Field((1,)), horizon=10)
    skills = Walking(obs=spec.obs.select("x"), action=spec.action, space=Discrete(3))
    settings: dict[str, Any] = {"hidden_dims": (32,), "lr": 1e-2, "horizon": 6, "gamma": 0.9, "target_every": 10}
    learner = Imagined(spec, skills, frozen=True, hold=hold, entropy=1e-3, **settings)
    learner.generator.manual_seed(0)
    learner.reward, learner.paid = Near(), torch.tensor(True)
    for layer in (learner.end[-1].weight, learner.end[-1].bias):
        layer.data.zero_()
    learner.end[-1].bias.data.fill_(-20.0)
    assert learner.rest == [1] and learner.columns == [0]
    generator, nothing = Generator().manual_seed(0), torch.zeros(64, 4, 0, 0)
    for _ in range(200):
        places, goals = (torch.rand(64, 4, 1, generator=generator) * 8 - 4 for _ in range(2))
        learner.learn(Latent(places, nothing, nothing), goals)
    places, goals = torch.tensor([[0.0], [0.0], [-3.0], [3.0]]), torch.tensor([[3.0], [-3.0], [3.0], [-3.0]])
    assert learner.logits(places, goals).argmax(-1).tolist() == [2, 0, 2, 0]


def test_only_skills_with_a_world_model_will_do():
    spec = Spec.from_env(PointGoal(num_envs=1))
    plain = ActorPolicy(obs=spec.obs.select("xy"), action=spec.action, space=Discrete(3), hidden_dims=[8])
    with pytest.raises(ValueError, match="needs skills that can be counted, with a world model"):
        Imagined(spec, plain)
    with pytest.raises(ValueError, match=r"^controller\.horizon is 1"):
        Imagined(spec, choreographed(spec), **(TINY | {"horizon": 1}))


def test_it_is_evaluated_by_its_best_choice():
    state, _ = started()
    learner: Any = state.learner
    env = PointGoal(num_envs=16)
    first, again = (rollout(env, learner.behaviour(), learner.prior(), seed=0) for _ in range(2))
    assert (first.z == again.z).all() and (first.coordinates == again.coordinates).all()


# ---- what it learns on the point env: to be somewhere

NEAR = NearTraining(
    size={"step_radius": 1.0, "horizon": 12},  # a point that goes as far in 12 steps as else in 60
    radius=None,
    codes=16,
    held=4,
    updates=350,
    env_steps=3400,
    per_round=1,
    skills={"horizon": 5, "gamma": 0.8},
    choice={"horizon": 5, "gamma": 0.9, "lr": 7e-4, "target_every": 20},
)
PLACE = (3.0, 3.0)


@pytest.mark.learning(
    "skillrl/controllers/imagined.py",
    "skillrl/models/*.py",
    "skillrl/learners/choreographer.py",
    "skillrl/agents/imagined.py",
    "skillrl/distributions.py",
)
@pytest.mark.parametrize("arm", ["trained further", "from scratch", "with a tanh"])
def test_a_task_in_imagination(arm: str, seed: int, check: Check):
    """To come to a place, and to stop there. The twin is from scratch with a tanh, which it is driven far into on the
    way, and so it does not stop."""
    near = replace(NEAR, skills=NEAR.skills | {"squash": arm == "with a tanh"})
    skills = near.pretrained(seed) if arm == "trained further" else near.fresh(seed)
    learner = near.adapted(seed, skills, PLACE)
    gate = {"trained further": ">= 6.5", "from scratch": ">= 5", "with a tanh": "< 5"}[arm]
    check({"return, of 12": (near.returned(learner, PLACE, seed), gate)})


@pytest.mark.learning("skillrl/controllers/imagined.py", "skillrl/models/*.py", "skillrl/learners/choreographer.py")
def test_frozen_skills_are_chosen_for_the_task(seed: int, check: Check):
    skills = NEAR.pretrained(seed)
    learner = NEAR.adapted(seed, skills, PLACE, frozen=True)
    by_chance = rollout(NEAR.env(64, PLACE), skills, Prior(skills.space, hold=12), seed=seed).returns.mean()
    check({"return, of that by chance": (NEAR.returned(learner, PLACE, seed) / float(by_chance), ">= 5")})
