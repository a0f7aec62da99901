"""What is compared with what: the arms of each study, the experiment that each one runs, and what is claimed."""

from dataclasses import dataclass
from pathlib import Path

from skillrl.errors import BadInput

RESULTS = Path(__file__).parent
ROOT = RESULTS.parents[1]
DATA = RESULTS / "data"  # <study>/<arm>-s<seed>.csv


@dataclass(frozen=True)
class Arm:
    """experiment: of ``train.py``. skills_of: the arm whose skills of the same seed it uses, instead of pretraining."""

    experiment: str
    title: str
    skills_of: str | None = None


@dataclass(frozen=True)
class Study:
    """The claim: ``ours`` is better than every other arm by ``effect`` and by 3 pooled standard errors, over ``seeds``.

    Arms stand in the order in which they are run, told and drawn. about: what is done, for the page.
    """

    title: str
    about: str
    arms: dict[str, Arm]
    ours: str
    effect: float
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    @property
    def others(self) -> list[str]:
        return [name for name in self.arms if name != self.ours]


STUDIES = {
    "quickstart": Study(
        title="Quickstart: a controller over DIAYN skills, on a sparse goal task",
        about=(
            "Skills are pretrained without reward; then a controller learns which one to use when, on a task that pays "
            "1 where the goal is reached and 0 everywhere else. The settings are `experiment=quickstart`, and "
            "`conf/experiment/quickstart/` for the other arms; all of them get the same env steps on the task, and the "
            "flat ones twice as many updates. Settings and task were chosen on seeds 100 to 102. What was seen there: "
            "with goals 2 away and decisions of 10 s for both, action repeat reached as many as skills did (0.87 and "
            "0.81 of the last training episodes, one seed each); with 2.5 away it reached none. So the goals are 3 "
            "away, and each kind of choice is held as long as suits it: a skill 40 s, an action 10 s. Before that, "
            "nearer goals and shorter pretraining had been tried on seeds 0 and 1, and given up."
        ),
        arms={
            "ours": Arm("quickstart", "Controller over pretrained skills"),
            "untrained": Arm("quickstart/untrained", "Same controller, untrained skill network"),
            "flat_sac": Arm("quickstart/flat_sac", "Flat SAC"),
            "action_repeat": Arm("quickstart/action_repeat", "SAC with action repeat"),
            "random": Arm("quickstart/random", "Pretrained skills chosen at random", skills_of="ours"),
        },
        ours="ours",
        effect=0.3,
    )
}


def find_study(name: str) -> Study:
    """Errors: BadInput where there is none."""
    if name not in STUDIES:
        raise BadInput(f"there is no study {name!r}: the studies are {', '.join(STUDIES)}")
    return STUDIES[name]
