"""From a model's state back to an observation: layers for states, DreamerV2's convolutions for pictures."""

from collections.abc import Sequence

from torch import Tensor, nn

from skillrl.models.encoder import is_picture, layers
from skillrl.spec import Field

KERNELS = (5, 5, 6, 6)


class Decoder(nn.Module):
    """(..., in_dim) → the mean of an observation, as ``seen`` has it; its deviation is 1."""

    def __init__(self, in_dim: int, obs: Field, hidden_dims: Sequence[int], depth: int):
        super().__init__()
        self.picture = is_picture(obs)
        if self.picture:
            self.net: nn.Module = transposed(in_dim, obs.shape[-1], depth)
        else:
            self.net = nn.Sequential(*layers(in_dim, hidden_dims), nn.Linear(hidden_dims[-1], obs.dim))

    def forward(self, feat: Tensor) -> Tensor:
        if not self.picture:
            return self.net(feat)
        picture = self.net(feat.flatten(0, -2))
        return picture.reshape(*feat.shape[:-1], *picture.shape[1:])

    def loss(self, feat: Tensor, obs: Tensor) -> Tensor:
        """−log p(obs | feat) up to a constant: half the squared error, summed over the observation, (...). ``obs`` as
        the world model's ``told`` has it."""
        square = (self(feat) - obs).square()
        return 0.5 * square.flatten(feat.dim() - 1).sum(-1)

    def error(self, feat: Tensor, obs: Tensor) -> Tensor:
        """The squared error of ``obs``, its mean over the observation, (...)."""
        square = (self(feat) - obs).square()
        return square.flatten(feat.dim() - 1).mean(-1)


def transposed(in_dim: int, channels: int, depth: int) -> nn.Sequential:
    """(n, in_dim) → (n, channels, 64, 64)."""
    parts: list[nn.Module] = [nn.Linear(in_dim, 32 * depth), nn.Unflatten(-1, (32 * depth, 1, 1))]
    widths = [32 * depth, 4 * depth, 2 * depth, depth, channels]
    for i, kernel in enumerate(KERNELS):
        parts += [nn.ConvTranspose2d(widths[i], widths[i + 1], kernel, stride=2), nn.ELU()]
    return nn.Sequential(*parts[:-1])
