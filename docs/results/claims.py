"""The kinds of claims: each knows how it is judged, over the seeds, and how it is told.

A claim is about ours and one other arm; a study's claim must hold against every other arm.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from skillrl.evaluation.statistics import ERRORS, claim, mean_and_se

Told = Callable[[float], str]
"""A measure's number, as it is written."""
OTHERS = "that of every other arm"
SURELY = f"at least {ERRORS:g} pooled standard errors"


@dataclass(frozen=True)
class Judged:
    """cells: of the table, under the claim's ``head``."""

    holds: bool
    cells: list[str]


class Claim(Protocol):
    head: tuple[str, ...]

    def rule(self, what: str, told: Told, other: str = OTHERS) -> str:
        """What is claimed of the measure ``what`` beside ``other``, as the end of a sentence."""
        ...

    def judge(self, ours: Sequence[float], other: Sequence[float], told: Told) -> Judged:
        """Of one score a seed."""
        ...


@dataclass(frozen=True)
class Gap:
    """Ours is above the other by ``effect`` at least, and by 3 pooled standard errors. Errors: under 5 seeds."""

    effect: float
    head = ("Gap", "Pooled SE", "Gap / SE")

    def rule(self, what: str, told: Told, other: str = OTHERS) -> str:
        if not self.effect:
            return f"the {what} is above {other} by {SURELY}"
        return f"the {what} is at least {self.effect:g} above {other}, and {SURELY}"

    def judge(self, ours: Sequence[float], other: Sequence[float], told: Told) -> Judged:
        found = claim(ours, other, self.effect)
        if found is None:
            raise ValueError(f"a gap is claimed from {len(ours)} and {len(other)} seeds: too few")
        sign = "+" if found.gap >= 0 else ""
        return Judged(found.holds, [sign + told(found.gap), told(found.se), f"{found.gap_in_se:.1f}"])


@dataclass(frozen=True)
class Ratio:
    """The mean of ours is at least ``least`` times that of the other. Of a mean that is not above 0 there is none."""

    least: float
    head = ("Ratio",)

    def rule(self, what: str, told: Told, other: str = OTHERS) -> str:
        return f"the mean {what} is at least {self.least:g} times {other}, which must be above 0"

    def judge(self, ours: Sequence[float], other: Sequence[float], told: Told) -> Judged:
        mean, base = mean_and_se(ours)[0], mean_and_se(other)[0]
        ratio = mean / base if base > 0 else math.nan
        return Judged(ratio >= self.least, [f"{ratio:.2f}" if base > 0 else "none"])


@dataclass(frozen=True)
class SureRatio(Ratio):
    """A ratio, and a gap of 3 pooled standard errors. Errors: under 5 seeds."""

    head = (*Ratio.head, *Gap.head)  # type: ignore[assignment]

    def rule(self, what: str, told: Told, other: str = OTHERS) -> str:
        return f"{super().rule(what, told, other)}, and above it by {SURELY}"

    def judge(self, ours: Sequence[float], other: Sequence[float], told: Told) -> Judged:
        ratio, gap = super().judge(ours, other, told), Gap(0).judge(ours, other, told)
        return Judged(ratio.holds and gap.holds, [*ratio.cells, *gap.cells])
