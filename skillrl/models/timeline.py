"""Transitions as a line of moments: what a model that runs along observations wants.

A transition begins at an observation and leads to the next; at an episode's end what it leads to is no transition's
beginning. Here each observation is a moment, the last one of an episode too, with the action that led to it, and with
what that action brought.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from skillrl.spec import Batch


class Timeline(NamedTuple):
    """obs (B, T, ...); action (B, T, ...) that led to it, reward (B, T) that it brought, terminal (B, T) whether it is
    an end. first (B, T): nothing led here, as at an episode's or the sequence's start. mask (B, T): no padding."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminal: Tensor
    first: Tensor
    mask: Tensor


def timeline(batch: Batch) -> Timeline:
    """The moments of sequences (B, T) of transitions, in order, as many as there are transitions.

    An episode's end takes a moment of its own, so that as many transitions fall off at the end of the sequence.
    """
    ends = batch["terminated"] | batch["truncated"]
    length = ends.shape[1]
    steps = torch.arange(length, device=ends.device)
    place = steps + ends.cumsum(1) - ends.long()  # (B, T): the moment at which each transition begins
    at = (place.unsqueeze(1) <= steps[:, None]).sum(-1) - 1  # (B, T): the newest transition that has begun by a moment
    is_end = _at(place, at) < steps
    before = (at - 1).clamp(min=0)
    led = torch.where(is_end, at, before)  # the transition that leads to the moment
    wide = is_end.reshape(*is_end.shape, *[1] * (batch["obs"].dim() - 2))
    first = ~is_end & (_at(batch["first"], at) | (steps == 0))
    return Timeline(
        obs=torch.where(wide, _at(batch["next_obs"], at), _at(batch["obs"], at)),
        action=_at(batch["action"], led),
        reward=_at(batch["reward"], led),
        terminal=is_end & _at(batch["terminated"], at),
        first=first,
        mask=_at(batch["mask"], at),
    )


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Of each row (T, ...) those at its ``index`` (B, T)."""
    rows = torch.arange(len(values), device=values.device).unsqueeze(-1)
    return values[rows, index]
