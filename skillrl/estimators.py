"""What papers share: dual variables and estimates, each tested by itself."""

import math

import torch
from torch import Tensor, nn

from skillrl.optim import Adam


def knn_distances(points: Tensor, k: int) -> Tensor:
    """From each of ``points`` (B, D) to the ``k`` nearest of the others, nearest first: (B, k). The point itself, at
    distance 0, is none of them. The log of such a distance is, but for constants, how rare a place is: their mean is an
    estimate of the entropy (Singh et al. 2003). Errors: ValueError if there are not that many others."""
    if k >= len(points):
        raise ValueError(f"{k} nearest others are asked for, of {len(points)} points: take more points or fewer others")
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # exact for what is near
    return distances.fill_diagonal_(torch.inf).topk(k, largest=False).values


def contrastive_bound(own: Tensor, others: Tensor, weight: float = 1.0) -> Tensor:
    """E[f(x, y)] − ``weight`` · E[log Σ_y' exp f(x, y')], (), from f of pairs that belong together (B,) and of each x
    with all that y' may be (B, N). With a weight of 1, and y among the y', it is InfoNCE less log N, and so at most
    I(X; Y) − log N (van den Oord et al. 2018, arXiv:1807.03748)."""
    return own.mean() - weight * others.logsumexp(-1).mean()


def regression(features: Tensor, wanted: Tensor) -> Tensor:
    """argmin_w Σ (w·features − wanted)², (D,), from features (n, D) and wanted (n,). Where many w are as good, the
    shortest on a CPU. Errors: ValueError if ``wanted`` is 0 throughout."""
    if not wanted.any():
        raise ValueError("the reward is 0 in all samples: no skill earns it better than another")
    driver = "gelsd" if features.device.type == "cpu" else None  # that alone copes with features which depend
    solution = torch.linalg.lstsq(features.double(), wanted.double().unsqueeze(-1), driver=driver).solution
    return solution.squeeze(-1).float()


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


def neighbour_distance(points: Tensor, k: int, *, rows: int = 2048) -> Tensor:
    """The mean distance of each of points (N, D) to its ``k`` nearest others, (N,): large where points are few.

    The gradient reaches each point as one that is measured, not as another's neighbour. rows: measured at a time, which
    bounds the memory.
    """
    fixed = points.detach()
    with torch.no_grad():  # the nearest is the point itself
        found = [torch.cdist(part, fixed).topk(k + 1, largest=False).indices[:, 1:] for part in fixed.split(rows)]
    others = fixed[torch.cat(found)]  # (N, k, D)
    square = (points.unsqueeze(1) - others).square().sum(-1)
    return square.clamp(min=1e-12).sqrt().mean(-1)
