"""SAC: one update is Stable-Baselines3's; its target and its twins are right by hand; it solves a bandit."""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Generator, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from skillrl.agents.base import build
from skillrl.agents.sac import SAC
from skillrl.networks import Actor, Critic
from skillrl.skill_spaces import Discrete, Gaussian, SkillSpace
from skillrl.spec import Batch, Field, Spec
from skillrl.spec import Discrete as DiscreteAction

torch.set_num_threads(1)
SPEC, ONE_SKILL = Spec(Field((3,)), Field((2,))), Discrete(1)


def make(spec: Spec = SPEC, *, space: SkillSpace = ONE_SKILL, channels: int = 1, **hyper) -> SAC:
    actor = Actor(spec.obs, spec.action, space, [16, 16])
    critic = Critic(spec.obs, spec.action, space, [16, 16], channels=channels)
    return SAC(spec, actor=actor, critic=critic, **hyper)


def random_batch(n: int = 64, seed: int = 0) -> Batch:
    rng = Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(n, 3, generator=rng),
        next_obs=torch.randn(n, 3, generator=rng),
        action=2 * torch.rand(n, 2, generator=rng) - 1,
        reward=torch.randn(n, generator=rng),
        discount=0.97 * (torch.rand(n, generator=rng) < 0.7),
        z=torch.zeros(n, dtype=torch.int64),
    )


class Env(gym.Env):
    """Spaces for Stable-Baselines3 to read; it is never stepped."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,))


def sb3(**hyper):
    from stable_baselines3 import SAC as Reference
    from stable_baselines3.common.logger import configure

    networks = {"net_arch": [16, 16]}
    model = Reference(
        "MlpPolicy", Env(), gamma=0.97, seed=1, device="cpu", buffer_size=8, policy_kwargs=networks, **hyper
    )
    model.actor.action_dist.epsilon = 0.0  # the exact log-density, as ours
    model.set_logger(configure(format_strings=[]))
    with torch.no_grad():
        for parameter in model.critic_target.parameters():  # a target that has fallen behind
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def sb3_train(model, batch: Batch, seed: int) -> dict[str, float]:
    """One update of theirs on this batch, and what it logs."""
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    done = (batch["discount"] == 0).float().unsqueeze(-1)
    reward = batch["reward"].unsqueeze(-1)
    sample = ReplayBufferSamples(batch["obs"], batch["action"], batch["next_obs"], done, reward, None)
    model.replay_buffer.sample = lambda *_, **__: sample
    torch.manual_seed(seed)
    model.train(1, len(done))
    return dict(model.logger.name_to_value)


def sb3_weights(model) -> dict[str, list[torch.Tensor]]:
    """Their parameters in the order of ours; our actor's last layer is their two, one above the other."""
    a = model.actor
    layers = [*a.latent_pi.parameters()]
    layers += [torch.cat([a.mu.weight, a.log_std.weight]), torch.cat([a.mu.bias, a.log_std.bias])]
    critics = [[*net.parameters()] for net in (model.critic, model.critic_target)]
    weights = {"actor": layers, "critic": critics[0], "target_critic": critics[1]}
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in weights.items()}


@pytest.mark.parametrize("alpha", [None, 0.2], ids=["tuned", "fixed"])
def test_update_is_stable_baselines3s(alpha):
    reference = sb3(ent_coef="auto" if alpha is None else alpha)
    agent, before = make(gamma=0.97, alpha=alpha), sb3_weights(reference)
    for name, tensors in before.items():
        for parameter, tensor in zip(getattr(agent, name).parameters(), tensors, strict=True):
            parameter.data.copy_(tensor)
    for seed in range(3):
        batch = random_batch(seed=seed)
        theirs = sb3_train(reference, batch, seed)
        ours = agent.update(batch, Generator().manual_seed(seed))  # the same stream, drawn in the same order
        pairs = {"critic/loss": "critic_loss", "actor/loss": "actor_loss", "alpha/value": "ent_coef"}
        pairs |= {"alpha/loss": "ent_coef_loss"} if alpha is None else {}
        for mine, their in pairs.items():
            assert ours[mine].item() == pytest.approx(theirs[f"train/{their}"], abs=1e-5), mine
        for name, tensors in sb3_weights(reference).items():
            for parameter, tensor in zip(getattr(agent, name).parameters(), tensors, strict=True):
                assert torch.allclose(parameter, tensor, rtol=0, atol=1e-5), name
    if alpha is None:
        assert agent.log_alpha.item() == pytest.approx(reference.log_ent_coef.item(), abs=1e-6)
        assert agent.log_alpha.item() != 0
    for parameter, tensor in zip(agent.actor.parameters(), before["actor"]):
        assert (parameter - tensor).abs().max() > 1e-4  # it did move


class Known(nn.Module):
    """An actor that always plays 0, with log-probability −2."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1, 1))

    def forward(self, obs, z):
        self.n = len(obs)
        return self

    def sample(self, generator=None):
        return self.zero.expand(self.n, 1), torch.full((self.n,), -2.0)


class Table(nn.Module):
    """Q read from the observation: obs (B, ensemble, C)."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels, self.scale = channels, nn.Parameter(torch.ones(()))

    def forward(self, obs, z, action):
        return self.scale * obs.transpose(0, 1)

    def reduce(self, q, z):
        return (q * z).sum(-1) if self.channels > 1 else q.squeeze(-1)


def by_hand(channels: int, **hyper) -> SAC:
    return SAC(Spec(Field((2, channels)), Field((1,))), actor=Known(), critic=Table(channels), **hyper)


def test_target_by_hand():
    batch = Batch(
        obs=torch.zeros(3, 2, 1),
        next_obs=torch.tensor([[[4.0], [3.0]], [[1.0], [7.0]], [[5.0], [5.0]]]),
        reward=torch.tensor([1.0, 2.0, 3.0]),
        discount=torch.tensor([0.9, 0.9**4, 0.0]),  # one step, four steps, terminated
        z=torch.zeros(3, dtype=torch.int64),
    )
    alpha = torch.tensor(0.5)
    with_entropy = [1 + 0.9 * (3 + 1), 2 + 0.9**4 * (1 + 1), 3]
    without = [1 + 0.9 * 3, 2 + 0.9**4 * 1, 3]
    assert by_hand(1).target(batch, alpha).squeeze(-1).tolist() == pytest.approx(with_entropy)
    off = by_hand(1, entropy_in_target=False)
    assert off.target(batch, alpha).squeeze(-1).tolist() == pytest.approx(without)


def test_a_critic_with_channels_takes_the_twin_of_the_lower_projection_whole():
    features = torch.tensor([[1.0, 5.0], [2.0, 3.0]])  # ψ of both members
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # ψ·z: 1 against 2, then 5 against 3
    batch = Batch(
        obs=features.expand(2, 2, 2),
        next_obs=features.expand(2, 2, 2),
        reward=torch.tensor([[0.1, 0.2], [0.3, 0.4]]),
        discount=torch.tensor([0.5, 0.5]),
        action=torch.zeros(2, 1),
        z=z,
    )
    agent = by_hand(2, entropy_in_target=False, alpha=0.5)
    target = agent.target(batch, torch.tensor(0.5))
    assert target.tolist() == [pytest.approx([0.1 + 0.5, 0.2 + 2.5]), pytest.approx([0.3 + 1.0, 0.4 + 1.5])]
    # the actor's own loss: 0.5 · (−2) − min ψ·z, at 1 and at 3
    loss = agent.actor_loss(batch, torch.tensor(0.5), torch.zeros(2, 1), torch.full((2,), -2.0))
    assert loss.item() == pytest.approx(-1 - 2)
    # ½ Σ over members of the mean squared error over batch and channels
    errors = features.expand(2, 2, 2).transpose(0, 1) - target
    expected = 0.5 * sum(error.square().mean() for error in errors)
    assert agent.critic_loss(batch, torch.tensor(0.5))[0].item() == pytest.approx(expected.item())


def test_the_bootstrap_reads_the_next_skill():
    batch = random_batch().replace(z=torch.zeros(64, dtype=torch.int64))
    agent = make(space=Discrete(2))
    targets = [
        agent.target(batch.replace(**changes), torch.tensor(0.1), Generator().manual_seed(0))
        for changes in ({}, {"next_z": batch["z"]}, {"next_z": 1 - batch["z"]})
    ]
    assert torch.equal(targets[0], targets[1])
    assert not torch.allclose(targets[0], targets[2])


def test_reward_and_critic_must_have_the_same_channels():
    agent = make(channels=2, entropy_in_target=False)
    with pytest.raises(ValueError, match="the reward has 1 channels, the critic has 2"):
        agent.update(random_batch())
    with pytest.raises(ValueError, match=r"agent\.entropy_in_target is true, the critic has 2 channels"):
        make(channels=2)


def test_the_actors_step_differentiates_no_critic_weight():
    agent, calls = make(), []
    for parameter in agent.critic.parameters():
        parameter.register_hook(lambda grad: calls.append(1))
    agent.update(random_batch(), Generator().manual_seed(0))
    assert len(calls) == len([*agent.critic.parameters()])  # once, in the critic's own step


class Watch(TorchDispatchMode):
    """Counts the reads of a tensor's value by Python."""

    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_update_reads_no_tensor_value():
    agent = make(alpha_min=0.01)
    for optimizer in (agent.actor_optimizer, agent.critic_optimizer, agent.alpha_optimizer):

        def step(original=optimizer.step):
            with _disable_current_modes():  # Adam's own counter lives on the host
                return original()

        optimizer.step = step
    with Watch() as watch:
        metrics = agent.update(random_batch(), Generator().manual_seed(0))
        assert watch.reads == 0
        metrics["critic/loss"].item()
        assert watch.reads == 1  # it would have noticed
    assert all(not value.requires_grad and value.dim() == 0 for value in metrics.values())


def test_temperature_is_tuned_to_its_target_and_stays_above_its_floor():
    low, high = torch.full((64,), 5.0), torch.full((64,), -5.0)  # log π: entropy of −5, and of +5
    agent = make(lr=0.1, alpha_init=0.5, alpha_min=0.4, target_entropy_multiplier=0.5)
    assert agent.target_entropy == -1.0
    agent.update_alpha(low)
    assert agent.log_alpha.exp().item() == pytest.approx(0.5 * np.exp(0.1), rel=1e-4)
    for _ in range(20):
        agent.update_alpha(high)
    assert agent.log_alpha.exp().item() == pytest.approx(0.4)
    assert make().target_entropy == -2.0
    assert make(alpha=0.0).update(random_batch(), Generator().manual_seed(0))["alpha/value"].item() == 0.0


def test_agents_that_share_parameters():
    """(B, A, ...) is the same as (B · A, ...), with one z for all agents of a row."""
    n, agents, space = 8, 4, Gaussian(2)
    flat = random_batch(n * agents)
    z = space.sample(n, Generator().manual_seed(0))
    flat["z"] = z.repeat_interleave(agents, 0)
    grouped = Batch({key: value.unflatten(0, (n, agents)) for key, value in flat.items()}).replace(z=z)
    torch.manual_seed(0)
    one = make(space=space)
    other = deepcopy(one)
    other.actor_optimizer = torch.optim.Adam(other.actor.parameters(), 3e-4)
    other.critic_optimizer = torch.optim.Adam(other.critic.parameters(), 3e-4)
    other.alpha_optimizer = torch.optim.Adam([other.log_alpha], 3e-4)
    expected = one.update(flat, Generator().manual_seed(0))
    for name, value in other.update(grouped, Generator().manual_seed(0)).items():
        assert value.item() == pytest.approx(expected[name].item(), abs=1e-5), name
    for a, b in zip(one.parameters(), other.parameters()):
        assert torch.allclose(a, b, atol=1e-5)


def test_state_is_complete():
    agent, twin = make(), make()
    agent.update(random_batch(), Generator().manual_seed(0))
    twin.load_state_dict(agent.state_dict())
    for name in ("actor_optimizer", "critic_optimizer", "alpha_optimizer"):
        getattr(twin, name).load_state_dict(deepcopy(getattr(agent, name).state_dict()))
    for seed in (1, 2):
        rngs = [Generator().manual_seed(seed) for _ in range(2)]
        assert agent.update(random_batch(seed=seed), rngs[0]) == twin.update(random_batch(seed=seed), rngs[1])
    for a, b in zip(agent.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def learned_action(reward_of) -> float:
    """What it plays after learning a one-step problem from 1,000 random actions."""
    torch.manual_seed(0)
    rng, spec = Generator().manual_seed(0), Spec(Field((1,)), Field((1,)))
    agent = make(spec, lr=1e-2, alpha=0.01)
    action = 2 * torch.rand(1000, 1, generator=rng) - 1
    reward, zeros = reward_of(action.squeeze(-1)), torch.zeros(1000)
    data = Batch(obs=zeros[:, None], next_obs=zeros[:, None], action=action, reward=reward, discount=zeros)
    data["z"] = zeros.long()
    for _ in range(500):
        rows = torch.randint(1000, (64,), generator=rng)
        agent.update(Batch({key: value[rows] for key, value in data.items()}), rng)
    return agent.actor(data["obs"][:1], data["z"][:1]).mode().item()


def test_it_solves_a_bandit():
    def near(action):
        return -(action - 0.5).square()

    assert abs(learned_action(near) - 0.5) < 0.1
    assert abs(learned_action(lambda action: near(-action)) - 0.5) > 0.5  # its twin: paid for the opposite action


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gamma", -0.1),
        ("gamma", float("nan")),
        ("tau", 0.0),
        ("tau", 1.5),
        ("lr", 0.0),
        ("lr", True),
        ("alpha", -0.1),
        ("alpha_init", 0.0),
        ("alpha_min", -1.0),
        ("target_entropy_multiplier", float("inf")),
    ],
)
def test_an_impossible_value_is_an_error_of_one_line(key, value):
    with pytest.raises(ValueError, match=rf"^agent\.{key} is {value}: [^\n]*$"):
        make(**{key: value})


def test_wrong_type_and_wrong_action_are_errors_of_one_line():
    with pytest.raises(ValueError, match=r"^agent\.tau is 'slow': it must be a number in \(0, 1\]$"):
        make(tau="slow")
    with pytest.raises(ValueError, match=r"^agent\.alpha_init is 0\.1: it must be a number in \[0\.5, inf\)$"):
        make(alpha_init=0.1, alpha_min=0.5)
    spec = Spec(Field((3,)), DiscreteAction(4))
    with pytest.raises(ValueError, match="box action"):
        build(SAC, spec, obs=spec.obs, action=spec.action, space=Discrete(1), hidden_dims=[8])
