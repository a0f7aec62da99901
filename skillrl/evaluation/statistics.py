"""What may be claimed from a few seeds. The unit is the seed: a list holds one number for each.

With 3 seeds, or by overlapping intervals, a method at half of the other's score is often called equal, and noise is
often called a gap; 3 pooled standard errors with 5 seeds are wrong about once in a hundred (simulated).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

FEWEST_SEEDS, ERRORS = 5, 3.0
RESAMPLES, LEVEL = 5000, 0.95


@dataclass(frozen=True)
class Claim:
    """gap: ours − other, of the means. se: its pooled standard error. holds: large enough, and surely so."""

    gap: float
    se: float
    holds: bool

    @property
    def gap_in_se(self) -> float:
        """The gap in standard errors; infinite where no seed differs from its mean."""
        return self.gap / self.se if self.se > 0 else math.copysign(math.inf, self.gap) if self.gap else 0.0


def mean_and_se(points: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and its standard error, which is nan for a single seed."""
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"seeds' points are {list(points)}: they must be finite numbers, at least one")
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def pooled_se(ours: Sequence[float], other: Sequence[float]) -> float:
    """Standard error of the difference of two means, with one variance estimated from both groups."""
    n, m = len(ours), len(other)
    if min(n, m) < 2:
        raise ValueError(f"a pooled standard error of {n} and {m} seeds: each group needs at least 2")
    squares = sum(float(np.square(np.asarray(group) - np.mean(group)).sum()) for group in (ours, other))
    return math.sqrt(squares / (n + m - 2) * (1 / n + 1 / m))


def claim(ours: Sequence[float], other: Sequence[float], effect: float) -> Claim | None:
    """Whether ours is above other by ``effect`` (at least 0) and by 3 pooled standard errors. Under 5 seeds: None."""
    if effect < 0:
        raise ValueError(f"effect is {effect}: it is how much better ours must be, so at least 0")
    if min(len(ours), len(other)) < FEWEST_SEEDS:
        return None
    gap, se = mean_and_se(ours)[0] - mean_and_se(other)[0], pooled_se(ours, other)
    return Claim(gap, se, gap > 0 and gap >= effect and gap >= ERRORS * se)


@dataclass(frozen=True)
class Estimate:
    """The interquartile mean over seeds, and the bounds of its 95 % interval; numbers, or arrays (...) alike."""

    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(points: np.ndarray) -> np.ndarray:
    """(n, ...) → (...): the mean without the lowest and the highest floor(n / 4) seeds (Agarwal et al. 2021)."""
    values = np.sort(np.asarray(points, dtype=np.float64), axis=0)
    cut = len(values) // 4
    return values[cut : len(values) - cut].mean(axis=0)


def estimate(points: np.ndarray) -> Estimate | None:
    """IQM over seeds, (n, ...), with its percentile-bootstrap interval. Under 5 seeds, or where one is nan: None.

    Seeds are drawn anew within one group on one task, which is the stratum of Agarwal et al. (2021). Only the ranks of
    what is drawn matter to an IQM, so all resamples are one matrix product with the sorted seeds.
    """
    values = np.sort(np.asarray(points, dtype=np.float64), axis=0)
    if len(values) < FEWEST_SEEDS or not np.isfinite(values).all():
        return None
    resampled = np.tensordot(_weights(len(values)), values, axes=1)  # (RESAMPLES, ...)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Estimate(iqm(values), low, high)


@cache
def _weights(n: int) -> np.ndarray:
    """(RESAMPLES, n): what each rank of n seeds counts for in the IQM of a resample. The same each time."""
    drawn = np.sort(np.random.default_rng(0).integers(0, n, (RESAMPLES, n)), axis=1)
    kept = drawn[:, n // 4 : n - n // 4]
    return (kept[..., None] == np.arange(n)).mean(axis=1)


def profile(points: Sequence[float], taus: np.ndarray) -> np.ndarray:
    """(len(taus),): the fraction of seeds above each threshold, a performance profile (Agarwal et al. 2021)."""
    return (np.asarray(points, dtype=np.float64)[:, None] > taus).mean(axis=0)
