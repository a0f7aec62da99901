"""PPO: rollout and update are Stable-Baselines3's; its advantages are right by hand; it learns, its twin does not."""

from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from envs.goal import PointGoal
from envs.gymnasium_adapter import Gymnasium
from skillrl.agents.base import build
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.controllers.rl import RL
from skillrl.data.replay import Replay
from skillrl.learners.diayn import DIAYN
from skillrl.learners.flat import Flat
from skillrl.networks import OnPolicyActor, Value
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Box, Discrete, Gaussian, SkillSpace
from skillrl.spec import Batch, Field, Need, Spec
from skillrl.spec import Discrete as DiscreteAction
from skillrl.training import Schedule, State, train

torch.set_num_threads(1)
GAMMA, LAMBDA, T, N = 0.97, 0.9, 40, 3
BOX, CHOICE = Spec(Field((3,)), Field((2,))), Spec(Field((3,)), DiscreteAction(4))


def make(spec: Spec = BOX, space: SkillSpace = Discrete(1), hidden_dims=(16, 16), **hyper: Any) -> PPO:
    return build(partial(PPO, **hyper), spec, obs=spec.obs, action=spec.action, space=space, hidden_dims=hidden_dims)[1]


# ---- against Stable-Baselines3


class Scripted(gym.Env):
    """Random observations and rewards; episodes last 1 to 9 steps and end by turns in both ways. It keeps a log."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))

    def __init__(self, action_space: gym.Space, seed: int):
        self.action_space, self.rng, self.log, self.episode = action_space, np.random.default_rng(seed), [], 0

    def _obs(self) -> np.ndarray:
        return self.rng.standard_normal(3).astype(np.float32)

    def reset(self, **_: Any) -> Any:
        self.obs, self.left, self.episode, self.first = self._obs(), self.rng.integers(1, 10), self.episode + 1, True
        return self.obs, {}

    def step(self, action: Any) -> Any:
        before, self.obs, self.left = self.obs, self._obs(), self.left - 1
        ended = self.left == 0
        terminated, truncated = ended and self.episode % 2 == 0, ended and self.episode % 2 == 1
        reward = float(self.rng.standard_normal())
        step = {"obs": before, "next_obs": self.obs, "acted": action, "reward": reward, "first": self.first}
        self.log.append({**step, "terminated": terminated, "truncated": truncated})
        self.first = False
        return self.obs, reward, bool(terminated), bool(truncated), {}


def sb3(action_space: gym.Space, **hyper: Any) -> Any:
    """Theirs, with a rollout collected by itself; and the envs that it was collected in."""
    from stable_baselines3 import PPO as Reference
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.vec_env import DummyVecEnv

    envs = [Scripted(action_space, seed) for seed in range(N)]
    networks = {"net_arch": [16, 16]}
    settings = {"gamma": GAMMA, "gae_lambda": LAMBDA, "seed": 1, "device": "cpu", "policy_kwargs": networks, **hyper}
    model = Reference("MlpPolicy", DummyVecEnv([lambda e=e: e for e in envs]), n_steps=T, batch_size=32, **settings)
    model.set_logger(configure(format_strings=[]))
    with torch.no_grad():  # away from where they start: mean, deviation and value all count
        for parameter in model.policy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    _, callback = model._setup_learn(T * N)
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, T)
    return model, envs


def sb3_weights(model: Any) -> list[Tensor]:
    """Their parameters in the order of ours: actor, then critic."""
    policy, layers = model.policy, model.policy.mlp_extractor
    actor = [*layers.policy_net.parameters(), *policy.action_net.parameters()]
    critic = [*layers.value_net.parameters(), *policy.value_net.parameters()]
    log_std = [policy.log_std] if hasattr(policy, "log_std") else []
    return [tensor.detach().clone() for tensor in [*log_std, *actor, *critic]]


def rollout_of(model: Any, envs: list[Scripted]) -> Batch:
    """The same rollout as ours would arrive, (N, T), from what happened in the envs."""
    logs = [env.log for env in envs]
    names = ("obs", "next_obs", "reward", "first", "terminated", "truncated", "acted")
    batch = Batch({n: torch.as_tensor(np.array([[step[n] for step in log] for log in logs])) for n in names})
    buffer = model.rollout_buffer
    raw = torch.as_tensor(buffer.actions).transpose(0, 1)  # (N, T, A)
    return batch.replace(
        reward=batch["reward"].float(),
        discount=GAMMA * (1 - batch["terminated"].float()),
        raw_action=raw.squeeze(-1).long() if raw.shape[-1] == 1 else raw,
        log_prob=torch.as_tensor(buffer.log_probs).T,
        mask=torch.ones(N, T, dtype=torch.bool),
        z=torch.zeros(N, T, dtype=torch.int64),
    )


CASES = [
    (gym.spaces.Box(-1, 1, (2,)), BOX, {}),
    (gym.spaces.Discrete(4), CHOICE, {}),
    (gym.spaces.Box(-1, 1, (2,)), BOX, {"ent_coef": 0.05, "clip_range": 0.02, "max_grad_norm": 0.1, "vf_coef": 2.0}),
]


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")  # it leaves a rest: that is tested, too
@pytest.mark.parametrize(("space", "spec", "hyper"), CASES, ids=["box", "discrete", "other-values"])
def test_advantages_and_a_whole_update_are_stable_baselines3s(space, spec, hyper, monkeypatch):
    model, envs = sb3(space, **hyper)
    batch, before = rollout_of(model, envs), sb3_weights(model)
    assert batch["terminated"].sum() > 5 and batch["truncated"].sum() > 5
    agent = make(spec, gamma=GAMMA, gae_lambda=LAMBDA, minibatch_size=32, **hyper)
    ours = [*agent.actor.parameters(), *agent.critic.parameters()]
    for parameter, tensor in zip(ours, before, strict=True):
        parameter.data.copy_(tensor)

    advantage, returns = agent.advantages(batch)
    buffer = model.rollout_buffer
    assert np.allclose(advantage.numpy(), buffer.advantages.T, rtol=0, atol=1e-5)
    assert np.allclose(returns.numpy(), buffer.returns.T, rtol=0, atol=1e-5)
    wrong, _ = agent.advantages(batch.replace(discount=batch["discount"] * ~batch["truncated"]))
    assert (wrong - advantage).abs().max() > 0.1  # it would have noticed truncation without a bootstrap
    log_prob = agent.actor(batch["obs"], batch["z"]).log_prob(batch["raw_action"])
    assert torch.allclose(log_prob, batch["log_prob"], atol=1e-5)
    if spec is BOX:
        assert torch.allclose(batch["acted"], batch["raw_action"].clamp(-1, 1))

    order = Generator().manual_seed(5)
    monkeypatch.setattr(np.random, "permutation", lambda n: torch.randperm(n, generator=order).numpy())
    model.train()
    metrics = agent.update(batch, Generator().manual_seed(5))
    logged = model.logger.name_to_value
    assert metrics["actor/loss"].item() == pytest.approx(logged["train/policy_gradient_loss"], abs=1e-5)
    assert metrics["critic/loss"].item() == pytest.approx(logged["train/value_loss"], abs=1e-5)
    assert metrics["actor/entropy"].item() == pytest.approx(-logged["train/entropy_loss"], abs=1e-5)
    assert metrics["actor/kl"].item() == pytest.approx(logged["train/approx_kl"], abs=1e-5)
    assert metrics["actor/clip_fraction"].item() == pytest.approx(logged["train/clip_fraction"], abs=1e-5)
    explained = logged["train/explained_variance"]
    assert metrics["critic/explained_variance"].item() == pytest.approx(explained, abs=1e-4)
    for parameter, tensor, old in zip(ours, sb3_weights(model), before, strict=True):
        assert torch.allclose(parameter, tensor, rtol=0, atol=1e-5)
        assert (tensor - old).abs().max() > 1e-3  # it did move


def test_the_networks_start_as_stable_baselines3s():
    """Orthogonal, √2 (0.01 for the actor's last layer, 1 for the critic's), no biases, a deviation of 1."""
    for net, gain in ((OnPolicyActor(BOX.obs, BOX.action, Gaussian(2), [16, 8]), 0.01), (make().critic, 1.0)):
        linear = [layer for layer in net.net if isinstance(layer, nn.Linear)]
        for layer, scale in zip(linear, [2**0.5, 2**0.5, gain]):
            w = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
            assert torch.allclose(w @ w.T, scale**2 * torch.eye(len(w)), atol=1e-5)
            assert not layer.bias.any()
    assert not make().actor.log_std.any() and make(CHOICE).actor.log_std is None
    hyper = make()
    assert hyper.optimizer.param_groups[0]["eps"] == 1e-5 and hyper.optimizer.param_groups[0]["lr"] == 3e-4


# ---- by hand


class Read(nn.Module):
    """V is the first number of the observation, plus 100 for each unit of z."""

    def forward(self, obs: Tensor, z: Tensor) -> Tensor:
        return obs[..., 0] + 100 * z

    def parameters(self, recurse: bool = True):
        return iter([nn.Parameter(torch.zeros(1))])


def read_agent(gae_lambda: float = 0.5) -> PPO:
    return PPO(BOX, actor=make().actor, critic=Read(), gae_lambda=gae_lambda)


def row(*steps: dict[str, Any]) -> Batch:
    """One row of a rollout. A step has v, r and d: the value where it begins, reward and discount; w: V(next_obs)."""
    values = [[step.get(key, 0) for step in steps] for key in ("v", "w", "r", "d")]
    v, w, r, d = (torch.tensor([value], dtype=torch.float32) for value in values)
    return Batch(
        obs=v.unsqueeze(-1),
        next_obs=w.unsqueeze(-1),
        reward=r,
        discount=d,
        first=torch.tensor([[step.get("first", False) for step in steps]]),
        mask=torch.tensor([[step.get("mask", True) for step in steps]]),
        z=torch.tensor([[step.get("z", 0) for step in steps]]),
    )


def test_advantages_by_hand_with_each_decisions_own_discount():
    """Three decisions of 2, 3 and 1 env steps, γ = 0.9, λ = 0.5, the last one cut off by the rollout's end."""
    batch = row(
        {"v": 1.0, "w": 2.0, "r": 0.5, "d": 0.9**2},
        {"v": 2.0, "w": 4.0, "r": 1.0, "d": 0.9**3},
        {"v": 4.0, "w": 8.0, "r": 0.0, "d": 0.9},
    )
    last = 0.9 * 8 - 4
    middle = 1 + 0.729 * 4 - 2 + 0.5 * 0.729 * last
    first = 0.5 + 0.81 * 2 - 1 + 0.5 * 0.81 * middle
    advantage, returns = read_agent().advantages(batch)
    assert advantage[0].tolist() == pytest.approx([first, middle, last])
    assert returns[0].tolist() == pytest.approx([first + 1, middle + 2, last + 4])


@pytest.mark.parametrize("end", ["terminated", "truncated", "another skill", "left open", "padding"])
def test_the_sum_stops_at(end: str):
    step = {"v": 1.0, "w": 5.0, "r": 1.0, "d": 0.9}
    after: dict[str, Any] = {"v": 7.0, "w": 9.0, "r": 3.0, "d": 0.9}
    bootstrap = 0.9 * 5
    if end == "terminated":
        step, bootstrap = {**step, "d": 0.0}, 0.0
    after |= {"another skill": {"z": 1}, "padding": {"mask": False}}.get(end, {"first": True})
    advantage, _ = read_agent().advantages(row(step, after))
    assert advantage[0, 0].item() == pytest.approx(1 + bootstrap - 1)
    whole, _ = read_agent().advantages(row(step, {**after, "first": False, "mask": True, "z": 0}))
    assert end == "terminated" or whole[0, 0].item() != pytest.approx(1 + bootstrap - 1)  # its twin goes on


def test_the_sum_goes_on_where_the_next_value_was_of_the_next_skill():
    steps = {"v": 1.0, "w": 5.0, "r": 1.0, "d": 0.9}, {"v": 7.0, "w": 9.0, "r": 3.0, "d": 0.9, "z": 1}
    batch = row(*steps).replace(next_z=torch.tensor([[1, 1]]))
    last = 3 + 0.9 * 109 - 107
    advantage, _ = read_agent().advantages(batch)
    assert advantage[0].tolist() == pytest.approx([1 + 0.9 * 105 - 1 + 0.45 * last, last])
    continuous = batch.replace(z=torch.zeros(1, 2, 3), next_z=torch.zeros(1, 2, 3))
    agent = make(space=Gaussian(3))
    agent.critic = Value(Field((1,)), Gaussian(3), [4])
    one, _ = agent.advantages(continuous)
    continuous["z"][0, 1, 2] = 0.5  # one number of z is another: the sum stops, the first value is as it was
    other, _ = agent.advantages(continuous)
    value, next_value = (agent.critic(continuous[key], torch.zeros(1, 2, 3)) for key in ("obs", "next_obs"))
    assert other[0, 0].item() == pytest.approx((1 + 0.9 * next_value - value)[0, 0].item(), abs=1e-5)
    assert one[0, 0].item() != pytest.approx(other[0, 0].item(), abs=1e-3)


def random_rollout(n: int = 3, t: int = 40, seed: int = 0, space: SkillSpace = Discrete(1)) -> Batch:
    rng = Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(n, t, 3, generator=rng),
        next_obs=torch.randn(n, t, 3, generator=rng),
        raw_action=torch.randn(n, t, 2, generator=rng),
        log_prob=torch.full((n, t), -2.8),
        reward=torch.randn(n, t, generator=rng),
        discount=0.97 * (torch.rand(n, t, generator=rng) < 0.9),
        first=torch.zeros(n, t, dtype=torch.bool),
        mask=torch.ones(n, t, dtype=torch.bool),
        z=space.sample(n * t, rng).unflatten(0, (n, t)),
    )


def updated(batch: Batch, seed: int = 0, **hyper: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    agent = make(minibatch_size=16, n_epochs=2, **hyper)
    metrics = agent.update(batch, Generator().manual_seed(seed))
    return [*agent.parameters()], metrics


def test_padding_teaches_nothing():
    batch = random_rollout()
    batch["mask"][1, 25:] = batch["mask"][2, 3:] = False
    other = Batch({name: value.clone() for name, value in batch.items()})
    for name in ("obs", "next_obs", "raw_action", "log_prob", "reward", "discount"):
        other[name][~batch["mask"]] = 0.5
    (one, metrics), (two, same) = updated(batch), updated(other)
    assert all(torch.equal(a, b) for a, b in zip(one, two)) and metrics == same
    other["mask"][2, 3:] = True  # it would have noticed
    assert not all(torch.equal(a, b) for a, b in zip(one, updated(other)[0]))


def test_z_conditions_actor_and_critic():
    torch.manual_seed(0)
    agent = make(space=Discrete(3))
    obs, z = torch.randn(1, 3).expand(3, 3), torch.arange(3)
    assert len(agent.critic(obs, z).unique()) == 3 and len(agent.actor(obs, z).mean.unique(dim=0)) == 3


def test_state_is_complete():
    agent, twin = make(), make()
    agent.update(random_rollout(), Generator().manual_seed(0))
    twin.load_state_dict(agent.state_dict())
    twin.optimizer.load_state_dict(deepcopy(agent.optimizer.state_dict()))
    for seed in (1, 2):
        ours, theirs = (a.update(random_rollout(seed=seed), Generator().manual_seed(seed)) for a in (agent, twin))
        assert ours == theirs and all(not value.requires_grad and value.dim() == 0 for value in ours.values())
    assert all(torch.equal(a, b) for a, b in zip(agent.parameters(), twin.parameters()))


# ---- what its policy stores


@pytest.mark.parametrize("space", [Discrete(3), Gaussian(2)], ids=["Discrete", "Gaussian"])
def test_its_policy_acts_in_the_box_and_stores_what_it_drew(space: SkillSpace):
    policy, _ = build(PPO, BOX, obs=BOX.obs, action=BOX.action, space=space, hidden_dims=[8])
    assert isinstance(policy, ActorPolicy)
    obs, z = torch.randn(200, 3), space.sample(200)
    action, extras = policy.act(obs, z, generator=Generator().manual_seed(0))
    assert torch.equal(action, extras["raw_action"].clamp(-1, 1)) and (extras["raw_action"].abs() > 1).any()
    assert torch.equal(extras["log_prob"], policy.dist(obs, z).log_prob(extras["raw_action"]))
    with torch.no_grad():
        policy.actor.net[-1].bias.fill_(3.0)
    action, extras = policy.act(obs, z, deterministic=True)
    assert (action == 1).all() and extras == {}


def test_discrete_actions_are_stored_as_they_are():
    policy, _ = build(PPO, CHOICE, obs=CHOICE.obs, action=CHOICE.action, space=Discrete(1), hidden_dims=[8])
    action, extras = policy.act(torch.randn(50, 3), torch.zeros(50, dtype=torch.int64))
    assert torch.equal(action, extras["raw_action"]) and set(action.tolist()) == {0, 1, 2, 3}


# ---- errors


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gamma", 1.1),
        ("lr", 0.0),
        ("gae_lambda", -0.1),
        ("clip_range", 0.0),
        ("n_epochs", 0),
        ("minibatch_size", 2.5),
        ("ent_coef", -1.0),
        ("vf_coef", -0.5),
        ("max_grad_norm", 0.0),
    ],
)
def test_an_impossible_value_is_an_error_of_one_line(key: str, value: float):
    with pytest.raises(ValueError, match=rf"^agent\.{key} is {value}: [^\n]*$"):
        make(**{key: value})


def test_data_that_it_cannot_learn_from_is_an_error_of_one_line():
    batch = random_rollout()
    with pytest.raises(ValueError, match=r"one reward a step, this one has the shape \(3, 40, 2\): take agent sac"):
        make().update(batch.replace(reward=torch.zeros(3, 40, 2)))
    with pytest.raises(ValueError, match="fresh rollouts, this has no mask"):
        make().update(batch.flat())


# ---- under a learner, under a controller


def test_each_agent_says_what_it_learns_from():
    spec, point = Spec.from_env(PointGoal(num_envs=1)), partial(DIAYN, skill_space=Discrete(3), hidden_dims=[8])
    assert point(spec, agent=PPO, batch_size=32).needs() == {"batch": Need("fresh", 32)}
    assert point(spec, agent=SAC, batch_size=32).needs() == {"batch": Need("transitions", 32)}
    skills = ActorPolicy(obs=spec.obs, action=spec.action, space=Discrete(3), hidden_dims=[8])
    assert RL(spec, skills, agent=PPO, batch_size=9).needs() == {"decisions": Need("fresh_decisions", 9)}
    assert RL(spec, skills, batch_size=9).needs() == {"decisions": Need("decisions", 9)}


class Watched(PPO):
    """Keeps what it was given, and how probable its actor held the actions to be before it learnt from them."""

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self.received: list[tuple[Batch, Tensor]] = []

    def update(self, batch: Batch, generator: Generator | None = None) -> Any:
        with torch.no_grad():
            self.received.append((batch, self.actor(batch["obs"], batch["z"]).log_prob(batch["raw_action"])))
        return super().update(batch, generator)


def trained(env: Any, learner: Any, total: int, *hooks: Any, collect: int = 8, seed: int = 0) -> State:
    learner.generator.manual_seed(seed)
    data = Replay(20_000, env.num_envs, gamma=learner.gamma, seed=seed)
    return train(env=env, learner=learner, data=data, schedule=Schedule(total, collect=collect), hooks=hooks, seed=seed)


@pytest.mark.parametrize("space", [Discrete(4), Gaussian(2)], ids=["Discrete", "Gaussian"])
def test_diayn_relabels_each_fresh_rollout(space: Any):
    torch.manual_seed(0)
    env = PointGoal(num_envs=4)

    class Paying(DIAYN):
        def relabel(self, batch: Batch) -> Batch:
            relabelled = super().relabel(batch)
            n, t = batch["mask"].shape
            for i in range(n):
                one = Batch(next_obs=batch["next_obs"][i], z=batch["z"][i])
                assert torch.allclose(relabelled["reward"][i], self.intrinsic_reward(one), atol=1e-6)
            assert (n, t) == (4, 16)
            return relabelled

    learner = Paying(Spec.from_env(env), skill_space=space, hidden_dims=[16], agent=Watched, batch_size=64, hold=20)
    state = trained(env, learner, 640)
    assert state.grad_steps == 10 == len(learner.agent.received)
    for batch, log_prob in learner.agent.received:
        assert torch.allclose(log_prob, batch["log_prob"], atol=1e-5)  # each rollout is of the policy that learns
    assert {"discriminator/loss", "actor/loss", "reward/intrinsic"} <= state.metrics.keys()


SKILLS = [Discrete(4), Gaussian(2), Box(2)]


@pytest.mark.parametrize("space", SKILLS, ids=["Discrete", "Gaussian", "Box"])
def test_a_controller_learns_from_fresh_decisions(space: SkillSpace):
    torch.manual_seed(0)
    env = PointGoal(num_envs=4, horizon=23)
    spec = Spec.from_env(env)
    skills = ActorPolicy(obs=spec.obs.select("xy"), action=spec.action, space=space, hidden_dims=[8])
    controller = RL(spec, skills, agent=Watched, hold=5, hidden_dims=[16], batch_size=32)
    state = trained(env, controller, 1600)
    received = controller.agent.received
    assert state.grad_steps == len(received) > 5
    assert sum(int(batch["mask"].sum()) for batch, _ in received) <= 1600 / 4  # hold 5, and 3 at an episode's end
    for batch, log_prob in received:
        mask = batch["mask"]
        assert mask.sum() >= 32 and set(batch["duration"][mask].tolist()) == {3, 5}
        assert torch.allclose(batch["discount"][mask], controller.gamma ** batch["duration"][mask])
        fresh = torch.cat([torch.zeros(4, 1, dtype=torch.bool), mask[:, 1:]], 1)
        assert torch.allclose(log_prob[fresh], batch["log_prob"][fresh], atol=1e-5)  # a first may be from before


# ---- it learns, and with its advantage turned round it does not


class Flipped(PPO):
    """Twin: what turned out well is made less probable."""

    def advantages(self, batch: Batch) -> tuple[Tensor, Tensor]:
        advantage, returns = super().advantages(batch)
        return -advantage, returns


LEARNT = pytest.mark.learning(
    "skillrl/agents/ppo.py", "skillrl/agents/base.py", "skillrl/learners/flat.py", "skillrl/data"
)
SMALL = {"lr": 1e-3, "minibatch_size": 128}


def last_of(state_of: Any, key: str) -> float:
    """The mean over the last eighth of the episodes of a training."""
    told: list[float] = []
    state_of(lambda state: told.extend(episode[key] for episode in state.episodes))
    return float(np.mean(told[-len(told) // 8 :]))


@LEARNT
@pytest.mark.parametrize("kind", [PPO, Flipped])
def test_it_balances_a_pole(kind: type[PPO]):
    """Chance lasts about 22 steps of 500."""
    torch.manual_seed(0)
    env = Gymnasium(id="CartPole-v1", num_envs=8)
    agent = partial(kind, **SMALL)
    learner = Flat(Spec.from_env(env), agent=agent, hidden_dims=(64, 64), batch_size=512)
    lasted = last_of(lambda hook: trained(env, learner, 12_288, hook, collect=512), "episode/return")
    assert lasted > 80 if kind is PPO else lasted < 22


class Nearer(Flat):
    """Paid for every unit that it comes nearer to the goal."""

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        before, after = ((batch[key][..., :2] - batch[key][..., 2:]).norm(dim=-1) for key in ("obs", "next_obs"))
        return before - after


@LEARNT
@pytest.mark.parametrize("kind", [PPO, Flipped])
def test_it_goes_to_the_goal(kind: type[PPO]):
    """Eight goals, 4 away; 50 steps of 0.2 go 10 far, and those of chance about 1.4."""
    torch.manual_seed(0)
    env = PointGoal(num_envs=8)
    learner = Nearer(Spec.from_env(env), agent=partial(kind, **SMALL), hidden_dims=(64, 64), batch_size=512)
    success = last_of(lambda hook: trained(env, learner, 16_384, hook, collect=512), "episode/success")
    assert success > 0.9 if kind is PPO else success < 0.1
