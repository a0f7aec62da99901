"""What the env gave, on its way to the learner's device."""

from collections.abc import Mapping

import torch
from torch import Tensor


def moved(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """All of it on ``device``. What is on the host goes there in one copy: each costs as much as a kernel."""
    if device.type == "cpu":
        return {name: value.to(device) for name, value in batch.items()}
    host = [name for name, value in batch.items() if value.device.type == "cpu"]
    host.sort(key=lambda name: -batch[name].itemsize)  # so that each begins where its own width allows it to
    if not host:
        return dict(batch)
    packed = torch.cat([batch[name].contiguous().view(-1).view(torch.uint8) for name in host]).to(device)
    parts = packed.split([batch[name].nbytes for name in host])
    there = {name: part.view(batch[name].dtype).view(batch[name].shape) for name, part in zip(host, parts, strict=True)}
    return {name: there.get(name, value) for name, value in batch.items()}
