"""Running moments, and what is measured in units of them."""

import torch
from torch import Tensor, nn

HARDLY = 1e-6  # a variance below which a column counts as one that did not vary


class Moments(nn.Module):
    """Mean and variance of all that was seen, of values of ``shape``, whatever the batches it came in."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.zeros(shape))  # by the count, not by one less
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Take in values (B, *shape) (Chan et al. 1979)."""
        self.count += len(values)
        share = len(values) / self.count  # of these in all
        off = values.mean(0) - self.mean
        self.var.lerp_(values.var(0, correction=0), share)
        self.var += share * (1 - share) * off.square()
        self.mean += share * off


class Standardizer(Moments):
    """Values as deviations from their mean, in units of their spread; what hardly varied keeps its own unit.

    Until it was shown any, values stay as they are.
    """

    def __init__(self, *shape: int):
        super().__init__(*shape)
        self.var.fill_(1.0)  # the first update leaves nothing of it

    def forward(self, values: Tensor) -> Tensor:
        """(..., *shape) → the same."""
        return (values - self.mean) / self.unit()

    def back(self, values: Tensor) -> Tensor:
        """What ``forward`` took, (..., *shape)."""
        return self.mean + values * self.unit()

    def unit(self) -> Tensor:
        """(*shape)."""
        return torch.where(self.var > HARDLY, self.var, 1.0).sqrt()
