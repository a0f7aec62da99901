"""What finetuning keeps: an actor as it was, or in its units alone; a critic, of one channel where it had many."""

from typing import Any

import torch
from torch import Tensor

from skillrl.networks import Critic
from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import SkillSpace


def copy_of(skills: SkillPolicy, kept: bool, **arguments: Any) -> SkillPolicy:
    """A policy of the same architecture, fresh or with the same weights, that can be trained.

    What observations are measured in is kept in either case.
    """
    fresh = type(skills)(**arguments)
    fresh.load_state_dict(skills.state_dict() if kept else fresh.state_dict() | units_of(skills))
    return fresh


def units_of(skills: SkillPolicy) -> dict[str, Tensor]:
    """What the state dict holds of ``normalizer``."""
    return {name: value for name, value in skills.state_dict().items() if name.startswith("normalizer.")}


def one_channel(tensors: dict[str, Tensor], space: SkillSpace, z: Tensor) -> dict[str, Tensor]:
    """A successor-feature critic as a critic of one value, what its ``reduce`` says for ``z``: of ψ·z the last layers,
    which are linear, become one channel. Any other critic stays as it is."""
    if "along" not in tensors:
        return tensors
    kept = {name: value for name, value in tensors.items() if name != "along"}
    weights = tensors["along"].cpu() @ torch.cat([space.direction(z), torch.ones(1)])  # (C,)
    last: dict[str, int] = {}  # nets.<i> → its last layer
    for net, layer, _ in (name.rsplit(".", 2) for name in kept):
        last[net] = max(last.get(net, 0), int(layer))
    for net, at in last.items():
        for name in (f"{net}.{at}.weight", f"{net}.{at}.bias"):  # (C, width) and (C,)
            kept[name] = torch.tensordot(weights, kept[name].cpu(), 1).unsqueeze(0)
    return kept


def with_tensors(critic: Critic, tensors: dict[str, Tensor] | None) -> Critic:
    """The critic, its weights exchanged where there are others. Errors: ValueError where they do not fit."""
    if tensors is not None:
        try:
            critic.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(
                "downstream.keep: the critic of these skills is of another shape, keep the actor"
            ) from error
    return critic
