"""Finished runs → one CSV a seed, under docs/results/data. The arm is found by the run's settings, not by its name.

    python docs/results/collect.py outputs/proof/quickstart/*
    python docs/results/collect.py --data /tmp/data outputs/tiny/* -- downstream.env_steps=2000

What stands after -- is what the runs were given beyond their experiment.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from seeds import Row, write_seed
from settings import composes, settings_of, shorten
from studies import DATA, STUDIES
from study import Measure, Study

from skillrl import skill_library
from skillrl.config import Config
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.curves import read_curves
from skillrl.record import read_config, read_status
from skillrl.settings import differences, fingerprint, settings

EPISODE = {"success": "success", "episode_return": "return", "episode_length": "length"}
"""Columns of a seed's CSV, and what they are called in metrics.csv."""


def collect(
    folder: Path, data: Path, overrides: Sequence[str] = (), studies: Iterable[str] = tuple(STUDIES)
) -> list[Path]:
    """Write the CSV of a finished run into each of the ``studies`` that it is a seed of, and return their paths.

    Errors: BadInput naming the run, where it is not finished or is no seed of a study.
    """
    status = read_status(folder)
    if status != "finished":
        raise BadInput(f"{folder} is not finished but {status}: go on with python train.py resume={folder}")
    config = read_config(folder)
    written = {}
    for name, arm in identify(folder, config, overrides, studies).items():
        if config["seed"] not in STUDIES[name].seeds:
            raise BadInput(f"{folder} has seed {config['seed']}: those of the study {name} are {STUDIES[name].seeds}")
        written[data / name / f"{arm}-s{config['seed']}.csv"] = rows_of(folder, config, STUDIES[name], arm)
    for path, rows in written.items():
        write_seed(path, rows)
    return list(written)


def identify(folder: Path, config: Config, overrides: Sequence[str], studies: Iterable[str]) -> dict[str, str]:
    """The arm, study by study, whose settings the run has.

    Errors: BadInput where there is none, with what is different from the nearest, or more than one in a study.
    """
    found = settings(config)
    arms = [
        (name, key, arm.experiment)
        for name in studies
        for key, arm in STUDIES[name].arms.items()
        if composes(arm.experiment, overrides)
    ]
    different = {which: differences(found, settings_of(which[2], overrides)) for which in arms}
    same = [which for which in arms if not different[which]]
    found_in = {study: arm for study, arm, _ in same}
    if same and len(found_in) == len(same):
        return found_in
    if same:
        raise BadInput(f"{folder} could be any of {', '.join(which[1] for which in same)}: their settings are the same")
    nearest = min(arms, key=lambda which: len(different[which]))
    told = shorten(different[nearest])
    raise BadInput(f"{folder} has the settings of no arm; beside experiment={nearest[2]}, {told}")


def rows_of(folder: Path, config: Config, study: Study, name: str) -> list[Row]:
    """Training on the task, where an episode ended, then the evaluation. Numbers stand as the run wrote them."""
    phase = study.arms[name].phase
    constant = {
        "arm": name,
        "seed": str(config["seed"]),
        "settings": fingerprint(settings(config)),
        "pretrain_env_steps": str(0 if phase == "pretrain" else pretrained(folder, config)),
    }
    training = [row for row in read_curves(folder / "metrics.csv") if row["phase"] == phase]
    rows = [
        {"phase": phase, "env_steps": row["env_steps"]}
        | {column: row.get(f"episode/{end}", "") for column, end in EPISODE.items()}
        for row in training
        if row.get(study.measure.training)
    ]
    end = {"phase": "evaluation", "env_steps": training[-1]["env_steps"] if training else "0"}
    return [constant | row for row in [*rows, end | evaluation(folder, study.measure)]]


def pretrained(folder: Path, config: Config) -> int:
    """Env steps in which the skills were learnt."""
    return skill_library.about(config["skills"] or folder)["about"]["env_steps"]


def evaluation(folder: Path, measure: Measure) -> Row:
    """Of the final episodes. Errors: BadInput where the run was not evaluated, or its task knows no such measure."""
    path = folder / "eval" / "metrics.json"
    if not path.exists():
        raise BadInput(f"{folder} was not evaluated: python eval.py run={folder}")
    scores = json.loads(path.read_text())
    if scores[measure.evaluation] is None:
        raise BadInput(f"{folder} has no {measure.evaluation}: its task does not tell it")
    return {
        column: "" if scores[key] is None else repr(scores[key])
        for column, key in zip(EPISODE, ("success_rate", "return_mean", "episode_length"), strict=True)
    }


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ours, and the overrides after ``--``."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return list(arguments[:end]), list(arguments[end + 1 :])


def main(arguments: Sequence[str]) -> int:
    """Collect all that can be, name what cannot, and return 2 if there was such a run."""
    mine, overrides = split(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args(mine)
    if overrides and given.data == DATA:
        parser.error("runs of other settings than the study's do not belong into docs/results/data: name a --data")
    code = 0
    for run in given.runs:
        try:
            print(*collect(run, given.data, overrides), sep="\n")
        except Exception as error:
            code = exit_code(error)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
