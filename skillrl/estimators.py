"""What papers share: dual variables and estimates, each tested by itself."""

import math

import torch
from torch import Tensor, nn

from skillrl.optim import Adam


class DualVariable(nn.Module):
    """λ > 0 of a constraint "slack ≥ 0", by descent on log λ: it rises while the constraint is violated.

    Args:
        init: λ at the start. lr: Adam's, on log λ. tolerance: ε; slack beyond it does not count, so that λ does not
            sink without end where the constraint holds (METRA, Park et al. 2024, eq. 9 and algorithm 1).
    """

    def __init__(self, *, init: float, lr: float, tolerance: float):
        super().__init__()
        if not init > 0:
            raise ValueError(f"a dual variable starts at {init!r}: it must be above 0")
        self.tolerance = tolerance
        self.log_value = nn.Parameter(torch.tensor(math.log(init)))
        self.optimizer = Adam([self.log_value], lr)

    def value(self) -> Tensor:
        """λ, (), without gradient."""
        return self.log_value.detach().exp()

    def penalty(self, slack: Tensor) -> Tensor:
        """min(ε, slack), (B,): what λ multiplies in the objective that is maximised."""
        return slack.clamp(max=self.tolerance)

    def update(self, penalty: Tensor) -> None:
        """One step down log λ · E[penalty]."""
        self.log_value.grad = penalty.detach().mean()
        self.optimizer.step()
