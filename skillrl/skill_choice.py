"""Which of K skills pays best, in as few rollouts as that takes: successive elimination.

Even-Dar, Mannor & Mansour 2006 (JMLR 7, algorithm 3): every skill that is left gets one rollout a stage, and a skill
goes as soon as its upper confidence bound lies below another's lower one.

Assumed is that the returns of one skill are independent and normal; neither their range nor their std is known, and
skills may differ in both. With ν = n − 1 and Student's T of n returns, P(|T| > t) = I_x(ν/2, 1/2) ≤ x^(ν/2) at
x = ν / (ν + t²), hence the radius

    r_n(δ') = s_n √( ν (δ'^(−2/ν) − 1) / n )        (for large n: s_n √(2 log(1/δ') / n), the sub-Gaussian one)

With δ' = 2δ / (K n (n + 1)) all bounds hold at once, over skills and stages n ≥ 2, with probability 1 − δ.
Where the returns of a skill were all equal so far (success or failure, say) s is the others'.
"""

from collections.abc import Sequence

import numpy as np


def radius(std: np.ndarray, n: int, arms: int, delta: float) -> np.ndarray:
    """Half the width of each arm's interval after ``n`` returns of it. std: (K,), unbiased. n = 1: no bound at all."""
    if n < 2:
        return np.full(len(std), np.inf)
    freedom, share = n - 1, 2 * delta / (arms * n * (n + 1))
    return std * np.sqrt(freedom * (share ** (-2 / freedom) - 1) / n)


class SuccessiveElimination:
    """Play each of ``left`` once, ``tell`` what they paid, until ``decided``.

    Args:
        arms: how many.
        confidence: probability that the best one is among those that are left.
    """

    def __init__(self, arms: int, *, confidence: float = 0.95):
        if not 0 < confidence < 1:
            raise ValueError(f"confidence is {confidence!r}: it must be a number in (0, 1)")
        self.delta = 1 - confidence
        self.returns: list[list[float]] = [[] for _ in range(arms)]
        self.left = list(range(arms))
        self.decided = arms == 1

    def tell(self, returns: Sequence[float]) -> None:
        """What each of ``left`` paid in one more stage, in their order."""
        for arm, value in zip(self.left, returns, strict=True):
            self.returns[arm].append(float(value))
        means, radii = self._bounds()
        stays = means + radii >= (means - radii).max()
        if len(self.left) > 1:
            self.left = [arm for arm, stay in zip(self.left, stays, strict=True) if stay]
        # radii of 0: nothing here is left to chance, and those that are left pay the same
        self.decided = len(self.left) == 1 or not radii.any()

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        table = np.array([self.returns[arm] for arm in self.left])  # (left, n)
        std = np.zeros(len(table))
        moves = np.ptp(table, 1) > 0
        if moves.any():
            std[moves] = table[moves].std(1, ddof=1)
            std[~moves] = np.sqrt(np.square(std[moves]).mean())
        return table.mean(1), radius(std, table.shape[1], len(self.returns), self.delta)

    @property
    def best(self) -> int:
        """Of those left, the one of the highest mean; the first where several have it."""
        return max(self.left, key=lambda arm: float(np.mean(self.returns[arm] or [0.0])))

    @property
    def alike(self) -> bool:
        """Whether there were several, and no return was above another, so that ``best`` is but the first."""
        return len(self.returns) > 1 and len({value for returns in self.returns for value in returns}) < 2

    @property
    def stages(self) -> int:
        return len(self.returns[self.left[0]])

    @property
    def rollouts(self) -> int:
        """Rollouts so far."""
        return sum(map(len, self.returns))

    @property
    def rollouts_uniform(self) -> int:
        """What a uniform trial would have needed, which plays every arm until the same bounds tell the best one."""
        return len(self.returns) * self.stages
