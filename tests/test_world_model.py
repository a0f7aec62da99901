"""The world model: its losses against cases worked out by hand, its lines of moments, and what it learns of a system
whose best prediction is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from torch import Generator, Tensor

from skillrl.models.encoder import seen, shown
from skillrl.models.rssm import RSSM, Latent, balanced_divergence, divergence, draw
from skillrl.models.timeline import Timeline, timeline
from skillrl.models.world_model import WorldModel
from skillrl.optim import Adam, descend
from skillrl.spec import Batch, Field

torch.set_num_threads(1)
TINY: dict[str, Any] = {"hidden_dims": [16], "depth": 2, "deter": 6, "stoch": 3, "classes": 4, "hidden": 8}


def logits(*probabilities: list[float]) -> Tensor:
    """Of one state with as many choices: (1, stoch, classes)."""
    return torch.tensor([list(probabilities)]).log()


# ---- the divergence

P, Q = logits([0.5, 0.5], [0.9, 0.1]), logits([0.25, 0.75], [0.6, 0.4])
KL = 0.5 * math.log(2) + 0.5 * math.log(2 / 3) + 0.9 * math.log(1.5) + 0.1 * math.log(0.25)  # 0.3701 nats


def test_divergence_by_hand():
    assert divergence(P, Q).item() == pytest.approx(KL) and divergence(P, P).item() == pytest.approx(0, abs=1e-7)


def of(parameter: Tensor, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, parameter)[0]


@pytest.mark.parametrize("balance", [0.8, 0.5, 0.0])
def test_kl_balance_by_hand(balance: float):
    """The value is the KL whatever the balance is; d KL / d prior logits is q − p, and is shared out by the balance."""
    posterior, prior = P.clone().requires_grad_(), Q.clone().requires_grad_()
    loss, kl = balanced_divergence(posterior, prior, torch.ones(1, dtype=torch.bool), balance=balance, free=0.0)
    assert loss.item() == pytest.approx(KL) and kl.item() == pytest.approx(KL) and not kl.requires_grad
    of_prior, of_posterior = torch.autograd.grad(loss, (prior, posterior))
    torch.testing.assert_close(of_prior, balance * (Q.exp() - P.exp()))
    # d KL / d posterior logits: p (log p/q − KL of that choice)
    ratio = P - Q
    by_hand = P.exp() * (ratio - (P.exp() * ratio).sum(-1, keepdim=True))
    torch.testing.assert_close(of_posterior, (1 - balance) * by_hand)


@pytest.mark.parametrize(("free", "pulls"), [(KL - 0.01, True), (KL + 0.01, False)])
def test_free_nats_by_hand(free: float, pulls: bool):
    posterior, prior = P.clone().requires_grad_(), Q.clone().requires_grad_()
    loss, _ = balanced_divergence(posterior, prior, torch.ones(1, dtype=torch.bool), balance=0.8, free=free)
    assert loss.item() == pytest.approx(max(free, KL))
    gradients = torch.autograd.grad(loss, (prior, posterior))
    assert all(bool((gradient != 0).any()) == pulls for gradient in gradients)


def test_free_nats_are_of_the_mean_over_the_mask():
    """A state of 0 nats and one of KL nats: on average half of that; the padded one does not count."""
    posterior, prior = torch.cat([P, P, P]), torch.cat([Q, P, Q])
    mask = torch.tensor([True, True, False])
    loss, kl = balanced_divergence(posterior, prior, mask, balance=0.8, free=0.0)
    assert loss.item() == pytest.approx(KL / 2) and kl.tolist() == pytest.approx([KL, 0.0, KL], abs=1e-6)
    assert balanced_divergence(posterior, prior, mask, balance=0.8, free=0.2)[0].item() == pytest.approx(0.2)


def test_draws_are_one_hot_with_the_gradient_of_their_probabilities():
    rssm = RSSM(action_dim=1, embed_dim=1, deter=2, stoch=2, classes=2, hidden=2)
    many = P.expand(40_000, 2, 2).clone().requires_grad_()
    drawn = draw(many, rssm.noise((40_000,), Generator().manual_seed(0)))
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(-1) == 1).all()
    torch.testing.assert_close(drawn.detach().mean(0), P[0].exp(), atol=0.01, rtol=0)
    weight = torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    gradient = of(many, (drawn * weight).sum())
    inner = many.detach().clone().requires_grad_()
    torch.testing.assert_close(gradient, of(inner, (inner.softmax(-1) * weight).sum()))
    assert draw(P, None).tolist() == [[[1, 0], [1, 0]]]


# ---- along sequences


def model(obs: Field | None = None, **changes: Any) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(obs or Field((2,)), 1, **(TINY | changes))


def random_line(rows: int, length: int, first: list[int], obs: tuple[int, ...] = (2,)) -> Timeline:
    generator = Generator().manual_seed(1)
    marks = torch.zeros(rows, length, dtype=torch.bool)
    marks[:, first] = True
    return Timeline(
        obs=torch.randn(rows, length, *obs, generator=generator),
        action=torch.randn(rows, length, 1, generator=generator),
        reward=torch.zeros(rows, length),
        terminal=torch.zeros(rows, length, dtype=torch.bool),
        first=marks,
        mask=torch.ones(rows, length, dtype=torch.bool),
    )


def test_observing_a_sequence_is_observing_step_by_step():
    world, line = model(), random_line(3, 5, [0, 3])
    states = world.observe(line, Generator().manual_seed(2))
    noise = world.rssm.noise((5, 3), Generator().manual_seed(2))
    state = world.rssm.initial(3)
    for t in range(5):
        embed = world.embed(line.obs[:, t])
        state = world.rssm.observe_step(state.deter, state.stoch, line.action[:, t], embed, line.first[:, t], noise[t])
        for whole, part in zip(states, state, strict=True):
            torch.testing.assert_close(whole[:, t], part)


def test_an_episode_forgets_what_was_before_it():
    """What is seen from the start on is the same, whatever was before, and whatever action led there."""
    world, line = model(), random_line(2, 6, [0, 3])
    other = line._replace(obs=line.obs.clone(), action=line.action.clone())
    other.obs[:, :3] += 1
    other.action[:, :4] -= 1
    ours, theirs = (world.observe(one, Generator().manual_seed(0)) for one in (line, other))
    torch.testing.assert_close(ours.deter[:, 3:], theirs.deter[:, 3:])
    torch.testing.assert_close(ours.stoch[:, 3:], theirs.stoch[:, 3:])
    assert not torch.equal(ours.stoch[:, :3], theirs.stoch[:, :3])


def test_imagination_is_the_prior_step_by_step():
    world, start = model(), model().observe(random_line(4, 2, [0]), None).take(torch.arange(8)).detach()
    asked: list[Tensor] = []

    def act(feat: Tensor) -> Tensor:
        asked.append(feat)
        return feat[:, :1]

    states = world.imagine(start, act, 3, Generator().manual_seed(3))
    noise = world.rssm.noise((3, 8), Generator().manual_seed(3))
    assert states.deter.shape == (4, 8, 6) and torch.equal(states.deter[0], start.deter)
    assert len(asked) == 3 and not any(feat.requires_grad for feat in asked)
    state = start
    for t in range(3):
        state = world.rssm.imagine_step(state, state.feat()[:, :1], noise[t])
        torch.testing.assert_close(states.deter[t + 1], state.deter)
        torch.testing.assert_close(states.logits[t + 1], world.rssm.prior_logits(state.deter))


def test_the_loss_is_reconstruction_and_divergence_where_nothing_is_padding():
    world, line = model(), random_line(2, 3, [0])
    line = line._replace(mask=torch.tensor([[True, True, True], [True, False, False]]))
    states = world.observe(line, Generator().manual_seed(0))
    loss, kl, _ = world.loss(line, states, balance=0.8, free=0.0)
    square = 0.5 * (world.decoder(states.feat()) - line.obs).square().sum(-1)
    by_hand = divergence(states.logits, world.rssm.prior_logits(states.deter))
    torch.testing.assert_close(kl, by_hand.detach())
    torch.testing.assert_close(loss, ((square + by_hand) * line.mask).sum() / 4)


def test_in_units_of_their_spread_it_does_not_matter_what_states_are_measured_in():
    """One model sees them as they are, with mean 0 and variance 1; the other in other units and from another origin."""
    unit, origin = torch.tensor([1000.0, 0.01]), torch.tensor([-5.0, 3.0])
    line = random_line(50, 6, [0])
    states = line.obs.flatten(0, 1)
    line = line._replace(obs=(line.obs - states.mean(0)) / states.std(0, correction=0))
    other = line._replace(obs=line.obs * unit + origin)
    plain, normal = model(), model(normalize=True)
    assert torch.equal(normal.told(other.obs), other.obs), "until it was shown any"
    normal.units.update(other.obs.flatten(0, 1))
    torch.testing.assert_close(normal.told(other.obs), line.obs, atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.shown(normal.told(other.obs)), other.obs)
    losses = [
        world.loss(seen, world.observe(seen, Generator().manual_seed(2)), balance=0.8, free=1.0)[0]
        for world, seen in ((plain, line), (normal, other))
    ]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match=r"normalize_obs is true, but what is seen, .* is no vector"):
        model(Field((64, 64, 3), "uint8"), normalize=True)


def test_pictures_go_in_and_come_out():
    world = model(Field((64, 64, 3), "uint8"))
    obs = torch.randint(256, (2, 3, 64, 64, 3), generator=Generator().manual_seed(0), dtype=torch.uint8)
    line = random_line(2, 3, [0])._replace(obs=obs)
    states = world.observe(line, None)
    assert world.decoder(states.feat()).shape == (2, 3, 3, 64, 64)
    told = seen(obs, True)
    assert torch.equal(shown(told, True), obs) and torch.equal(shown(told[0, 0], False), told[0, 0])
    assert told[1, 2, 0, 5, 7] == pytest.approx(obs[1, 2, 5, 7, 0].item() / 255 - 0.5)
    loss, _, _ = world.loss(line, states, balance=0.8, free=1.0)
    assert loss > 0.5 * 3 * 64 * 64 * 0.05 and loss.isfinite()
    with pytest.raises(ValueError, match="needs a state"):
        model(Field((32, 32, 3), "uint8"))


def test_a_line_of_moments_has_each_observation_once():
    """Two episodes of 3 and 2 steps, and the begin of a third: o0 a0 o1 a1 o2 a2 o3 | o4 a4 o5 a5 o6 | o7 ..."""
    step = torch.arange(6.0)
    ends = torch.tensor([[False, False, True, False, True, False]])
    obs = torch.tensor([[0.0, 1.0, 2.0, 4.0, 5.0, 7.0]])
    batch = Batch(
        obs=obs[..., None],
        next_obs=obs[..., None] + 1,
        action=step[None, :, None],
        reward=10 * step[None],
        terminated=ends & (step < 3),
        truncated=ends & (step >= 3),
        first=torch.tensor([[False, False, False, True, False, True]]),
        mask=torch.ones(1, 6, dtype=torch.bool),
    )
    line = timeline(batch)
    assert line.obs[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert line.first[0].tolist() == [True, False, False, False, True, False]
    assert line.action[0, ~line.first[0], 0].tolist() == [0, 1, 2, 3]
    assert line.reward[0, ~line.first[0]].tolist() == [0, 10, 20, 30]
    assert line.terminal[0].tolist() == [False, False, False, True, False, False] and line.mask.all()
    short = timeline(batch.replace(mask=torch.tensor([[True, True, True, True, False, False]])))
    assert short.mask[0].tolist() == [True, True, True, True, True, False]


# ---- what it learns: a linear system with normal noise, of which Kalman's filter predicts what can be predicted

TURN, NOISE, BLUR = 0.95, 4.0, 4.0  # how a step turns the state; deviations of what disturbs it, and of what is seen
UPDATES, PICTURES = 1700, 1000
LENGTH, SETTLED = 16, 6  # moments of a sequence, and from which on a filter has settled
A = TURN * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
B, C = np.array([4.0, 2.0]), np.array([1.0, 0.0])


def noise_floor() -> float:
    """The variance of what the settled filter cannot foresee of the next observation, by Riccati's recursion."""
    spread = np.eye(2)
    for _ in range(1000):
        gain = spread @ C / (C @ spread @ C + BLUR**2)
        spread = A @ (spread - np.outer(gain, C @ spread)) @ A.T + NOISE**2 * np.eye(2)
    return float(C @ spread @ C + BLUR**2)


def system(rows: int, generator: Generator) -> Timeline:
    """Sequences of it, in a steady state, under random actions."""
    a, b, c = (torch.tensor(value, dtype=torch.float32) for value in (A, B, C))
    state = torch.randn(rows, 2, generator=generator) * 14
    seen_of, done = list[Tensor](), list[Tensor]()
    for _ in range(LENGTH):
        action = torch.randn(rows, generator=generator)
        state = state @ a.T + action[:, None] * b + NOISE * torch.randn(rows, 2, generator=generator)
        seen_of.append(state @ c + BLUR * torch.randn(rows, generator=generator))
        done.append(action)
    first = torch.zeros(rows, LENGTH, dtype=torch.bool)
    first[:, 0] = True
    nothing = torch.zeros(rows, LENGTH)
    obs, action = torch.stack(seen_of, 1)[..., None], torch.stack(done, 1)[..., None]
    return Timeline(obs, action, nothing, nothing.bool(), first, torch.ones_like(first))


@torch.no_grad()
def prediction_error(world: WorldModel, line: Timeline, draws: int = 32) -> float:
    """The mean squared error of the next observation, as the model expects it by what it saw before: the mean over what
    it may have taken that for, and over what may come of it."""
    generator = Generator().manual_seed(0)
    expected = []
    for _ in range(draws):
        deter = world.observe(line, generator).deter
        expected.append(world.decoder(world.rssm.expected(deter, world.rssm.noise(deter.shape[:2], generator)).feat()))
    return (torch.stack(expected).mean(0) - line.obs)[:, SETTLED:].square().mean().item()


def balanced(world: WorldModel, line: Timeline, states: Latent) -> Tensor:
    return world.loss(line, states, balance=0.8, free=1.0)[0]


@pytest.mark.learning("skillrl/models/*.py")
def test_it_predicts_what_can_be_predicted(seed: int, check: Check):
    """On the seeds 100 to 104 within 2 to 7 % of the noise floor. Without KL balancing within 3 to 7 %: no twin."""
    torch.manual_seed(seed)
    world = WorldModel(Field((1,)), 1, hidden_dims=[64, 64], depth=2, deter=32, stoch=4, classes=8, hidden=32)
    optimizer, generator = Adam(world.parameters(), 2e-3, 1e-5), Generator().manual_seed(seed)
    for update in range(UPDATES):
        if update == UPDATES * 2 // 3:
            optimizer.param_groups[0]["lr"] = 5e-4
        line = system(32, generator)
        descend(optimizer, balanced(world, line, world.observe(line, generator)), max_norm=100.0)
    error = prediction_error(world, system(1024, Generator().manual_seed(1000 + seed))) / noise_floor()
    check({"prediction error, of the noise floor": (error, "<= 1.1")})


# ---- pictures: a bright square that actions push about


def board(rows: int, length: int, generator: Generator) -> Timeline:
    """Sequences of pictures (64, 64, 1) of a square of 16 pixels in one of 5 x 5 places; an action moves it along x."""
    place = torch.randint(5, (rows, 2), generator=generator)
    pictures, actions = list[Tensor](), list[Tensor]()
    for _ in range(length):
        step = torch.randint(-1, 2, (rows,), generator=generator)
        place = torch.stack([(place[:, 0] + step).clamp(0, 4), place[:, 1]], -1)
        picture = torch.zeros(rows, 64, 64, 1, dtype=torch.uint8)
        for row, (x, y) in enumerate((12 * place).tolist()):
            picture[row, y : y + 16, x : x + 16] = 255
        pictures.append(picture)
        actions.append(step.float()[:, None])
    first = torch.zeros(rows, length, dtype=torch.bool)
    first[:, 0] = True
    nothing = torch.zeros(rows, length)
    return Timeline(torch.stack(pictures, 1), torch.stack(actions, 1), nothing, nothing.bool(), first, ~nothing.bool())


@pytest.mark.learning("skillrl/models/*.py")
def test_pictures_are_told_apart(seed: int, check: Check):
    """Beside the mean picture, which is the best that a decoder can do which is told nothing."""
    torch.manual_seed(seed)
    world = WorldModel(
        Field((64, 64, 1), "uint8"), 1, hidden_dims=[32], depth=4, deter=32, stoch=4, classes=8, hidden=32
    )
    optimizer, generator = Adam(world.parameters(), 1e-3, 1e-5), Generator().manual_seed(seed)
    for _ in range(PICTURES):
        line = board(8, 6, generator)
        loss, _, _ = world.loss(line, world.observe(line, generator), balance=0.8, free=1.0)
        descend(optimizer, loss, max_norm=100.0)
    test = board(64, 6, Generator().manual_seed(1000 + seed))
    with torch.no_grad():
        states = world.observe(test, generator)
        pictures = world.told(test.obs)
        error = world.decoder.error(states.feat(), pictures).mean()
        foreseen = world.decoder.error(world.rssm.expected(states.deter).feat(), pictures)[:, 1:].mean()
    by_mean = (pictures - pictures.mean((0, 1))).square().mean()
    check(
        {
            "error of what it sees, of the mean picture's": ((error / by_mean).item(), "<= 0.2"),
            "error of what it foresees, of the mean picture's": ((foreseen / by_mean).item(), "<= 0.5"),
        }
    )
