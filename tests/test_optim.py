"""Adam without torch's host work must be torch's Adam, bit for bit."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from skillrl.layers import linear
from skillrl.optim import Adam, descend, polyak


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int, *, part: int | None = None) -> None:
    """Steps down a loss of fresh inputs; of one layer's output, so that what lies behind gets no gradient."""
    generator = torch.Generator().manual_seed(count)
    for _ in range(count):
        out = (module if part is None else module[:part])(torch.randn(5, 3, generator=generator))
        descend(optimizer, out.square().mean())


def pair(**hyper: float) -> tuple[nn.Module, Adam, nn.Module, torch.optim.Adam]:
    ours = net()
    theirs = deepcopy(ours)
    return ours, Adam(ours.parameters(), **hyper), theirs, torch.optim.Adam(theirs.parameters(), **hyper, fused=True)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, yours)


@pytest.mark.parametrize("hyper", [{"lr": 3e-2}, {"lr": 1e-2, "eps": 1e-3}])
def test_adam_is_torchs_bit_for_bit(hyper: dict[str, float]):
    ours, adam, theirs, reference = pair(**hyper)
    before = deepcopy(ours)
    steps(ours, adam, 20)
    steps(theirs, reference, 20)
    assert_same(ours, theirs)
    assert not torch.equal(next(ours.parameters()), next(before.parameters()))


def test_what_has_no_gradient_stays_and_counts_no_step():
    ours, adam, theirs, reference = pair(lr=1e-2)
    for module, optimizer in ((ours, adam), (theirs, reference)):
        steps(module, optimizer, 3)
        steps(module, optimizer, 4, part=1)
        steps(module, optimizer, 2)
    assert_same(ours, theirs)
    assert [int(adam.state[parameter]["step"]) for parameter in ours.parameters()] == [9, 9, 5, 5]


def test_its_state_is_torchs_both_ways():
    ours, adam, theirs, reference = pair(lr=1e-2)
    steps(ours, adam, 5)
    steps(theirs, reference, 5)
    state = deepcopy(adam.state_dict())
    adam.load_state_dict(deepcopy(reference.state_dict()))
    reference.load_state_dict(state)
    steps(ours, adam, 6)
    steps(theirs, reference, 6)
    assert_same(ours, theirs)


def test_a_learning_rate_that_is_changed_counts():
    ours, adam, theirs, reference = pair(lr=1e-2)
    for module, optimizer in ((ours, adam), (theirs, reference)):
        steps(module, optimizer, 2)
        optimizer.param_groups[0]["lr"] = 1e-1
        steps(module, optimizer, 2)
    assert_same(ours, theirs)


def test_a_loss_moves_no_weights_but_the_optimisers_own():
    first, second = nn.Linear(3, 4), nn.Linear(4, 1)
    before = deepcopy(second)
    descend(Adam(first.parameters(), lr=0.1), second(first(torch.ones(2, 3))).mean())
    assert_same(second, before)
    assert all(parameter.grad is None for parameter in second.parameters())


def test_the_gradient_is_clipped_to_a_norm():
    layer = nn.Linear(3, 1, bias=False)
    descend(torch.optim.SGD(layer.parameters(), lr=1.0), 100 * layer(torch.ones(1, 3)).sum(), max_norm=0.5)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad.norm(), torch.tensor(0.5), rtol=1e-4, atol=0)


def test_a_target_moves_by_tau():
    target, source = nn.Linear(2, 2), nn.Linear(2, 2)
    wanted = 0.9 * target.weight + 0.1 * source.weight
    polyak(target, source, 0.1)
    torch.testing.assert_close(target.weight, wanted)


def test_weight_decay_is_a_share_of_the_weights_whatever_the_learning_rate():
    ours = net()
    theirs = deepcopy(ours)
    adam, plain = Adam(ours.parameters(), lr=1e-3), Adam(theirs.parameters(), lr=1e-3)
    inputs, before = torch.randn(5, 3), deepcopy(ours)
    descend(adam, ours(inputs).square().mean(), weight_decay=0.1)
    descend(plain, theirs(inputs).square().mean())
    for old, mine, yours in zip(before.parameters(), ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, yours - 0.1 * old)


def test_averages_that_lie_otherwise_in_memory_than_their_parameters_count_as_they_are():
    """A fused step walks through memory; those of a checkpoint may be from when a layer lay the other way round."""
    layer = linear(3, 8)
    plain = nn.Linear(3, 8)
    plain.load_state_dict(layer.state_dict())
    assert layer.weight.stride() != plain.weight.stride()
    inputs, before = torch.randn(5, 3), Adam(plain.parameters(), 0.1)
    descend(before, plain(inputs).square().mean())
    layer.load_state_dict(plain.state_dict())
    after = Adam(layer.parameters(), 0.1)
    after.load_state_dict(deepcopy(before.state_dict()))
    for optimizer, one in ((before, plain), (after, layer)):
        descend(optimizer, one(inputs).square().mean())
    torch.testing.assert_close(layer.weight, plain.weight)
