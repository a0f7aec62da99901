"""Choreographer: codes, returns and rewards against cases made by hand; its codes beside a twin's; where skills go."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import Check
from torch import Generator, Tensor

from envs.point import Point
from skillrl.agents.imagined import Climber, ImaginedValue, lambda_returns
from skillrl.data.collector import Collector
from skillrl.data.dataset import Dataset
from skillrl.data.replay import Replay
from skillrl.estimators import neighbour_distance
from skillrl.learners.choreographer import Choreographer, ChoreographerPolicy
from skillrl.learners.primitive import Primitive
from skillrl.models.codes import Codes
from skillrl.models.timeline import timeline
from skillrl.networks import WideActor
from skillrl.selector import Fixed, Prior
from skillrl.skill_library import load, save
from skillrl.skill_policy import Imagines, ReachesGoals
from skillrl.skill_spaces import Codebook, Discrete
from skillrl.spec import Field, Need, Spec
from skillrl.training import Schedule, State, train

torch.set_num_threads(1)
TINY: dict[str, Any] = {"hidden_dims": (8,), "deter": 6, "stoch": 2, "classes": 3, "hidden": 8, "horizon": 3}
TINY |= {"neighbours": 2, "batch_size": 4, "length": 6, "skill_space": Codebook(5, 2)}


def spec() -> Spec:
    return Spec.from_env(Point(num_envs=1))


# ---- codes


def made_by_hand(*at: list[float]) -> Codes:
    codes = Codes(len(at), len(at[0]), 2, [4])
    codes.codes.copy_(torch.tensor(at))
    codes.sums.copy_(codes.codes)
    return codes


def test_codes_follow_the_mean_of_what_is_nearest_and_stay_where_nothing_is():
    codes = made_by_hand([0.0, 0.0], [10.0, 0.0], [0.0, 50.0])
    encoded = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [9.0, 0.0]])
    assert codes.nearest(encoded).tolist() == [0, 0, 0, 1]
    codes.follow(encoded)
    counts = [0.99 + 0.03, 0.99 + 0.01, 0.99]
    assert codes.counts.tolist() == pytest.approx(counts) and codes.uses.tolist() == [3, 1, 0]
    torch.testing.assert_close(codes.codes[0], torch.tensor([0.01, 0.02]) / counts[0])
    torch.testing.assert_close(codes.codes[1], torch.tensor([9.9 + 0.09, 0.0]) / counts[1])
    for _ in range(2000):
        codes.follow(encoded)
    assert codes.codes[2].tolist() == [0, 50], "one that is not used stays"
    torch.testing.assert_close(codes.codes[:2], torch.tensor([[1 / 3, 2 / 3], [9.0, 0.0]]), atol=1e-3, rtol=0)


def test_only_unused_codes_are_moved_and_to_what_was_encoded():
    codes = made_by_hand([0.0, 0.0], [10.0, 0.0], [0.0, 50.0], [0.0, 60.0])
    encoded = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0]])  # the first two lie at a code: no use to go there
    codes.follow(encoded[:2])
    assert codes.resample(encoded, Generator().manual_seed(0)) == 1, "then every point has a code"
    assert codes.codes[2].tolist() == [10, 4] and codes.sums[2].tolist() == [10, 4] and codes.counts[2] == 1
    assert codes.codes[3].tolist() == [0, 60] and not codes.uses.any()
    assert codes.codes[0].tolist() == [0, 0]


def test_a_code_goes_where_no_code_is_in_proportion_to_the_distance():
    went = []
    for seed in range(400):
        codes = made_by_hand([0.0, 0.0], [500.0, 0.0])
        codes.uses[0] = 1
        codes.resample(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]), Generator().manual_seed(seed))
        went.append(codes.codes[1, 0].item())
    assert 0.69 < went.count(-3.0) / 400 < 0.81  # 3/4 ± 2.7 deviations


def test_the_codes_loss_and_its_gradient():
    """Straight through: the encoder is moved as if what the decoder got were its own output."""
    torch.manual_seed(0)
    codes, x = Codes(3, 2, 4, [8]), torch.randn(5, 4)
    loss, encoded, _ = codes.loss(x)
    code = codes.codes[codes.number(x)]
    wanted = (codes.decoder(code) - x).square().mean() + 1e-4 * (encoded - code).square().mean()
    torch.testing.assert_close(loss, wanted)
    last = codes.encoder[-1].bias
    through = torch.autograd.grad(loss, last)[0]
    leaf = code.clone().requires_grad_()
    by_hand = torch.autograd.grad((codes.decoder(leaf) - x).square().mean(), leaf)[0].sum(0)
    torch.testing.assert_close(through, by_hand + 1e-4 * 2 * (encoded - code).sum(0) / encoded.numel())


def test_perplexity_by_hand():
    codes = made_by_hand([0.0], [1.0], [2.0], [3.0])
    assert codes.perplexity().item() == pytest.approx(4)
    codes.counts.copy_(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    assert codes.perplexity().item() == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))


# ---- returns


def test_lambda_returns_by_hand():
    reward, value = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[10.0], [20.0], [30.0]])
    half = torch.full((3, 1), 0.5)
    assert lambda_returns(reward, value, half, 0.0).flatten().tolist() == [1 + 0.5 * 20, 2 + 0.5 * 30]
    assert lambda_returns(reward, value, half, 1.0).flatten().tolist() == [1 + 0.5 * (2 + 0.5 * 30), 2 + 0.5 * 30]
    mixed = [1 + 0.5 * (0.75 * 20 + 0.25 * 17), 17]
    assert lambda_returns(reward, value, half, 0.25).flatten().tolist() == mixed
    ended = lambda_returns(reward, value, torch.tensor([[0.5], [0.0], [0.5]]), 1.0)
    assert ended.flatten().tolist() == [1 + 0.5 * 2, 2]


def value_of(in_dim: int, **changes: Any) -> ImaginedValue:
    steps: dict[str, Any] = {"gamma": 0.5, "trace": 1.0, "target_every": 2, "lr": 1e-2}
    return ImaginedValue(in_dim, [8], **(steps | {"max_grad_norm": 100.0, "weight_decay": 0.0} | changes))


def test_what_comes_after_an_end_does_not_count():
    value, inputs = value_of(3), torch.randn(4, 2, 3)
    goes_on = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    _, weight = value.returns(inputs, torch.ones(4, 2), goes_on)
    assert weight.tolist() == [[1, 1], [0.5, 0], [0.25, 0]] and not weight.requires_grad


def test_the_slow_critic_is_renewed_when_it_is_due():
    value, inputs = value_of(3), torch.randn(4, 5, 3)
    same = []
    for _ in range(4):
        value.fit(inputs, torch.ones(3, 5), torch.ones(3, 5))
        pairs = zip(value.critic.parameters(), value.slow_critic.parameters(), strict=True)
        same.append(all(torch.equal(a, b) for a, b in pairs))
    assert same == [True, False, True, False]


@pytest.mark.parametrize("goal", [1.5, -1.5])
def test_an_actor_climbs_along_the_dynamics(goal: float):
    """s' = s + a on a line, paid −|s' − goal|: it goes there, from either side."""
    torch.manual_seed(0)
    actor = WideActor(Field((1,)), Field((1,)), Discrete(1), [16])
    climber = Climber(actor, value_of(1, gamma=0.9, trace=0.95), entropy=0.0, momentum=1.0, lr=1e-2)
    generator, z = Generator().manual_seed(0), torch.zeros(64, dtype=torch.int64)
    for _ in range(150):
        states = [torch.rand(64, 1, generator=generator) * 6 - 3]
        for _ in range(4):
            states.append(states[-1] + actor(states[-1].detach(), z).sample(generator)[0])
        feat = torch.stack(states)
        climber.update(feat, z, feat, -(feat.squeeze(-1) - goal).abs())
    below, above = actor(torch.tensor([[goal - 1.5], [goal + 1.5]]), z[:2]).mode().flatten().tolist()
    assert below > 0.6 and above < -0.6


def test_neighbours_by_hand():
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]], requires_grad=True)
    assert neighbour_distance(points, 1).tolist() == [1, 1, 2, 4]
    found = neighbour_distance(points, 2, rows=3)
    assert found.tolist() == [2, 1.5, 2.5, 5]
    gradient = torch.autograd.grad(found.sum(), points)[0].flatten().tolist()
    assert gradient == [-1, 0, 1, 1], "of each as the one that is measured"


# ---- the learner


def test_the_skills_reward_by_hand():
    torch.manual_seed(0)
    learner = Choreographer(spec(), **TINY)
    deter, z = torch.randn(4, 3, 6), torch.tensor([4, 0, 4])
    there = learner.policy.codes.decoder(learner.policy.codes.codes)
    reward = learner.skill_reward(deter, z)
    everyone = deter.reshape(12, 6)
    for t in range(4):
        for row in range(3):
            far = (everyone - deter[t, row]).norm(dim=-1).sort().values[1:3].mean()
            own = (deter[t, row] - there[z[row]]).norm()
            assert reward[t, row].item() == pytest.approx((far - own).item(), abs=1e-5)


def started(seed: int = 0, env_steps: int = 400, **changes: Any) -> State:
    torch.manual_seed(seed)
    env = Point(num_envs=8)
    learner = Choreographer(Spec.from_env(env), **(TINY | changes))
    learner.generator.manual_seed(seed)
    data = Replay(20_000, 8, gamma=learner.gamma, seed=seed)
    schedule = Schedule(env_steps, warmup=200, collect=40)
    return train(env=env, learner=learner, data=data, schedule=schedule, seed=seed)


def test_the_explorer_collects_and_the_skills_are_kept():
    state = started()
    learner = state.learner
    assert learner.behaviour() is learner.explorer and learner.kept_policy() is learner.policy
    assert state.grad_steps == 6 and (state.data.sample_one(Need("transitions", 64))["z"] == 0).all()
    names = {name.split(".")[0] for name in learner.state_dict()}
    assert {"policy", "explorer", "exploring", "skilled", "surprise", "encoded"} <= names
    assert not any(name.startswith("explorer.") and "world" in name for name in learner.state_dict())


def test_every_part_moves_and_nothing_else_does():
    """A step of one part leaves the others as they were, to the bit."""
    state = started(env_steps=400)
    learner: Any = state.learner
    batch = state.data.sample(learner.needs())["sequences"]
    states, kl, _ = learner.fit_model(timeline(batch))
    steps = {
        "policy.world_model": lambda: learner.fit_model(timeline(batch)),
        "surprise": lambda: learner.fit_surprise(states, kl),
        "explorer,exploring": lambda: learner.explore(learner.some(states)),
        "policy.codes,encoded": lambda: learner.fit_codes(states.deter.flatten(0, 1)),
        "policy.actor,skilled": lambda: learner.learn_skills(learner.some(states)),
    }
    for parts, step in steps.items():
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        step()
        moved = {name for name, value in learner.state_dict().items() if not torch.equal(before[name], value)}
        assert moved and all(name.startswith(tuple(parts.split(","))) for name in moved), parts


def test_unused_codes_are_moved_in_maintain_when_it_is_time():
    state = started(env_steps=400, resample_every=4)
    learner: Any = state.learner
    assert learner.updates == 6 and learner.resampled == 4
    learner.policy.codes.uses.zero_()
    assert learner.maintain(0) == {}
    learner.updates += 2
    assert learner.maintain(0)["codes/moved"] == 5 and learner.resampled == 8
    assert learner.encoded.abs().sum() > 0
    gaps = torch.cdist(learner.policy.codes.codes, learner.encoded).amin(-1)
    assert gaps.max() == 0
    assert started(env_steps=400, resample_every=None).learner.resampled == 0


@pytest.mark.parametrize("changed", [{}, {"squash": False}, {"normalize_obs": True}])
def test_the_skills_are_saved_and_act_as_they_did(changed: dict[str, Any], tmp_path: Path):
    made = started(**changed).learner
    assert made.policy.actor.squash == made.explorer.actor.squash == changed.get("squash", True)
    policy = made.policy
    loaded = load(save(policy, tmp_path))
    assert isinstance(loaded, ChoreographerPolicy) and isinstance(loaded, Imagines) and isinstance(loaded, ReachesGoals)
    paths = []
    for one in (policy, loaded):
        play = Collector(Point(num_envs=6), one, Prior(one.space, hold=4), seed=3, deterministic=True)
        play.reset(0)
        paths.append(torch.stack([play.tick()[0]["next_obs"] for _ in range(60)]))
    assert torch.equal(*paths)
    assert policy.space.count == 5 and policy.initial(3)[0].shape == (3, 6)


def test_units_are_those_of_what_came_before_the_first_update():
    state = started(normalize_obs=True)
    units = state.learner.policy.world_model.units
    assert int(units.count) == 200 and 0 < units.var.min() < units.var.max() < 100


def test_a_goal_wants_the_code_that_looks_like_it():
    policy = started().learner.policy
    looks = policy.pictured()
    assert looks.shape == (5, 2)
    z = policy.goal_to_skill(torch.zeros(5, 2), looks + 1e-3 * torch.randn(5, 2))
    apart = torch.cdist(looks, looks).fill_diagonal_(9).amin(-1) > 1e-2
    assert (z[apart] == torch.arange(5)[apart]).all()


def test_it_learns_from_any_dataset(tmp_path: Path):
    env = Point(num_envs=4, horizon=10)
    told = Primitive(Spec.from_env(env))
    data = Replay(4000, 4)
    train(env=env, learner=told, data=data, schedule=Schedule(800, collect=4, updates=0))
    dataset = Dataset.load(Dataset.of(data, told.spec).save(tmp_path / "random.npz"), told.spec)
    learner = Choreographer(told.spec, **TINY)
    before = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    state = train(env=None, learner=learner, data=dataset.replay(gamma=learner.gamma), schedule=Schedule(5))
    assert state.grad_steps == 5
    moved = [name for name, value in learner.policy.state_dict().items() if not torch.equal(before[name], value)]
    assert {name.split(".")[0] for name in moved} == {"world_model", "actor", "codes"}


@pytest.mark.parametrize(
    ("key", "value"), [("horizon", 1), ("kl_balance", 1.5), ("neighbours", 0), ("starts", -1), ("resample_every", -2)]
)
def test_what_cannot_be_is_said_by_its_key(key: str, value: Any):
    with pytest.raises(ValueError, match=rf"^learner\.{key} is"):
        Choreographer(spec(), **(TINY | {key: value}))
    with pytest.raises(ValueError, match="needs a box action"):
        Choreographer(Spec(Field((2,)), spec_discrete()))


def spec_discrete() -> Any:
    from skillrl.spec import Discrete as Action

    return Action(3)


# ---- what it learns on the point env

CODE_UPDATES, SKILL_UPDATES = 800, 350
SMALL: dict[str, Any] = {"hidden_dims": (64, 64), "deter": 64, "stoch": 8, "classes": 8, "hidden": 64}
SMALL |= {"skill_space": Codebook(64), "model_lr": 1e-3, "lr": 1e-3, "batch_size": 16, "length": 16}
SMALL |= {"horizon": 8, "target_every": 20, "starts": 64, "neighbours": 8, "resample_every": 20}
MARK = pytest.mark.learning(
    "skillrl/models/*.py", "skillrl/learners/choreographer.py", "skillrl/agents/imagined.py", "skillrl/estimators.py"
)


def wandered(seed: int, env_steps: int = 8000, hold: int = 10, **shapes: Any) -> Replay:
    """Random actions, each held for some steps: all over the place."""
    env = Point(num_envs=8, **shapes)
    learner = Primitive(Spec.from_env(env))
    learner.prior = lambda: Prior(learner.policy.space, hold=hold)  # type: ignore[method-assign]
    data = Replay(20_000, 8, seed=seed)
    schedule = Schedule(env_steps, collect=8, updates=0)
    return train(env=env, learner=learner, data=data, schedule=schedule, seed=seed).data


@MARK
@pytest.mark.parametrize("resample_every", [20, None])
def test_codes_are_used_alike_and_say_where_one_is(resample_every: int | None, seed: int, check: Check):
    """Model and codes alone, from data. The twin's codes are never moved."""
    data = wandered(seed)
    torch.manual_seed(seed)
    learner = Choreographer(spec(), **(SMALL | {"resample_every": resample_every}))
    learner.generator.manual_seed(seed)
    for _ in range(CODE_UPDATES):
        states, _, _ = learner.fit_model(timeline(data.sample(learner.needs())["sequences"]))  # type: ignore[arg-type]
        learner.fit_codes(states.deter.flatten(0, 1))
        learner.updates += 1  # type: ignore[operator]
        learner.maintain(0)
    told = data.sample_one(Need("sequences", 512, length=16))
    with torch.no_grad():
        deter = learner.policy.world_model.observe(timeline(told), learner.generator).deter.flatten(0, 1)
        codes, there = learner.policy.codes.number(deter), learner.policy.codes.decoded()
    share = torch.bincount(codes, minlength=64) / len(codes)
    perplexity = (-(share * share.clamp(min=1e-12).log()).sum()).exp().item()
    by_chance = there[torch.randint(64, codes.shape, generator=Generator().manual_seed(seed))]
    ratio = ((deter - there[codes]).norm(dim=-1).mean() / (deter - by_chance).norm(dim=-1).mean()).item()
    gate = 0.8 * 64
    if resample_every is None:
        check({"perplexity": (perplexity, f"< {gate}")})
    else:
        check({"perplexity": (perplexity, f">= {gate}"), "distance to its code, of another's": (ratio, "<= 0.5")})


FAST: dict[str, Any] = {"skill_space": Codebook(16), "length": 12, "horizon": 5, "gamma": 0.8, "lr": 2e-3}
FAST |= {"target_every": 10}


class Permuted(Choreographer):
    """Twin: each skill is paid for another's code, anew at every update."""

    def skill_reward(self, deter: Tensor, z: Tensor) -> Tensor:
        return super().skill_reward(deter, z[torch.randperm(len(z), generator=self.generator)])


@MARK
@pytest.mark.parametrize("kind", [Choreographer, Permuted])
def test_skills_lead_to_their_codes(kind: type[Choreographer], seed: int, check: Check):
    """Model, codes and skills, from data, on a point that goes as far in 12 steps as else in 60. Then each skill acts
    for an episode: how far its last states are from its code, beside how far they are from any code."""
    shapes = {"step_radius": 1.0, "horizon": 12}
    data = wandered(seed, 6000, hold=4, **shapes)
    torch.manual_seed(seed)
    learner = kind(spec(), **(SMALL | FAST))
    learner.generator.manual_seed(seed)
    for _ in range(SKILL_UPDATES):
        states, _, _ = learner.fit_model(timeline(data.sample(learner.needs())["sequences"]))  # type: ignore[arg-type]
        learner.fit_codes(states.deter.flatten(0, 1))
        learner.learn_skills(learner.some(states))
        learner.updates += 1  # type: ignore[operator]
        learner.maintain(0)
    play = Collector(
        Point(num_envs=16, **shapes), learner.policy, Fixed(torch.arange(16)), seed=seed, deterministic=True
    )
    play.reset(seed)
    gaps = []
    for step in range(12):
        play.tick()
        if step >= 6:
            gaps.append(torch.cdist(play.carry[0], learner.policy.codes.decoded()))  # (skills, codes)
    gap = torch.stack(gaps).mean(0).detach()
    ratio = (gap.diagonal().mean() / gap.mean()).item()
    check({"distance to its code, of any code's": (ratio, "<= 0.7" if kind is Choreographer else "> 0.9")})
