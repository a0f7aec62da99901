"""What a study is made of: arms, what is measured of them, and what is claimed."""

from dataclasses import dataclass

from claims import Claim


@dataclass(frozen=True)
class Arm:
    """experiment: of ``train.py``. skills_of: the arm whose skills of the same seed it uses, instead of pretraining.

    phase: of its metrics.csv, in which it learns the task; "pretrain" is ordinary RL, which pretrains nothing.
    """

    experiment: str
    title: str
    skills_of: str | None = None
    phase: str = "control"


@dataclass(frozen=True)
class Measure:
    """What an episode is worth.

    Args:
        column: of a seed's CSV. training: the column of metrics.csv behind it. evaluation: the key of
            eval/metrics.json.
        title: "the {title} is ...". short: of figures. share: of episodes, from 0 to 1, drawn in per cent.
        digits: behind the point.
    """

    column: str
    training: str
    evaluation: str
    title: str
    short: str
    share: bool = False
    digits: int = 3

    def told(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


SUCCESS = Measure("success", "episode/success", "success_rate", "success rate", "success", share=True)


def returns(counts: str | None = None, *, digits: int) -> Measure:
    """The return, by the name of what it ``counts``."""
    title = f"number of {counts}" if counts else "return"
    return Measure("episode_return", "episode/return", "return_mean", title, counts or "return", digits=digits)


@dataclass(frozen=True)
class Study:
    """``claim``: of ``ours`` against every other arm, or those of ``against``, over ``seeds``.

    Arms stand in the order in which they are run, told and drawn. about: what is done, for the page.
    last_tenth: a seed's score is the mean of the last tenth of its training curve; else its final evaluation.
    pretraining: whether any arm learnt skills before.
    """

    title: str
    about: str
    arms: dict[str, Arm]
    ours: str
    measure: Measure
    claim: Claim
    last_tenth: bool = False
    pretraining: bool = True
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    against: tuple[str, ...] = ()

    @property
    def others(self) -> list[str]:
        """The arms that the claim is against."""
        return [name for name in self.arms if name != self.ours and (not self.against or name in self.against)]
