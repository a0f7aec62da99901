"""What an observation looks like to a model: layers for states, DreamerV2's convolutions for pictures.

Choreographer's code normalises the first layer of a state too. What is left of a state of few columns then is hardly
more than its direction: here the first layer is not normalised.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn, uint8

from skillrl.spec import Field

SIDE = 64  # of a picture
KERNELS = (4, 4, 4, 4)


def layers(in_dim: int, hidden_dims: Sequence[int]) -> nn.Sequential:
    """Normalised layers with ELU, also after the last."""
    widths = [in_dim, *hidden_dims]
    parts: list[nn.Module] = []
    for before, width in pairwise(widths):
        parts += [nn.Linear(before, width), nn.LayerNorm(width), nn.ELU()]
    return nn.Sequential(*parts)


def is_picture(obs: Field) -> bool:
    """Whether it is one. Errors: ValueError where it is neither that nor a state."""
    if len(obs.shape) == 1:
        return False
    if len(obs.shape) != 3 or obs.dtype != "uint8" or obs.shape[:2] != (SIDE, SIDE):
        raise ValueError(
            f"an observation {obs.shape} of {obs.dtype}: a world model needs a state, (n,), or a picture, "
            f"({SIDE}, {SIDE}, channels) of uint8"
        )
    return True


def seen(obs: Tensor, picture: bool) -> Tensor:
    """As the model's losses measure it: float, a picture with its channels first and its colours in [-0.5, 0.5]."""
    return obs.movedim(-1, -3).float() / 255 - 0.5 if picture else obs.float()


def shown(mean: Tensor, picture: bool) -> Tensor:
    """What ``seen`` takes: a picture in whole colours again, (..., channels, 64, 64) to (..., 64, 64, channels)."""
    return (255 * (mean + 0.5)).clamp(0, 255).round().to(uint8).movedim(-3, -1) if picture else mean


class Encoder(nn.Module):
    """Observations as a world model is ``told`` → (..., out_dim). hidden_dims: of states. depth: channels of the first
    layer of a picture's."""

    def __init__(self, obs: Field, hidden_dims: Sequence[int], depth: int):
        super().__init__()
        self.picture = is_picture(obs)
        if self.picture:
            self.net = convolutions(obs.shape[-1], depth)
        else:
            self.net = nn.Sequential(
                nn.Linear(obs.dim, hidden_dims[0]), nn.ELU(), *layers(hidden_dims[0], hidden_dims[1:])
            )
        self.out_dim = 2 * 2 * 8 * depth if self.picture else hidden_dims[-1]

    def forward(self, obs: Tensor) -> Tensor:
        if not self.picture:
            return self.net(obs)
        return self.net(obs.flatten(0, -4)).reshape(*obs.shape[:-3], -1)


def convolutions(channels: int, depth: int) -> nn.Sequential:
    """(n, channels, 64, 64) → (n, 8 depth, 2, 2)."""
    parts: list[nn.Module] = []
    for i, kernel in enumerate(KERNELS):
        parts += [nn.Conv2d(channels, depth * 2**i, kernel, stride=2), nn.ELU()]
        channels = depth * 2**i
    return nn.Sequential(*parts)
