"""Finished runs → one CSV a seed, under docs/results/data. The arm is found by the run's settings, not by its name.

    python docs/results/collect.py outputs/proof/*
    python docs/results/collect.py --data /tmp/data outputs/tiny/* -- downstream.env_steps=2000

What stands after -- is what the runs were given beyond their experiment.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from seeds import Row, write_seed
from settings import settings_of, shorten
from studies import DATA, STUDIES

from skillrl import skill_library
from skillrl.config import Config
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.curves import read_curves
from skillrl.record import read_config, read_status
from skillrl.settings import differences, fingerprint, settings


def collect(folder: Path, data: Path, overrides: Sequence[str] = ()) -> Path:
    """Write the CSV of a finished run, and return its path.

    Errors: BadInput naming the run, where it is not finished or is no seed of a study.
    """
    status = read_status(folder)
    if status != "finished":
        raise BadInput(f"{folder} is not finished but {status}: go on with python train.py resume={folder}")
    config = read_config(folder)
    study, arm = identify(folder, config, overrides)
    seeds = STUDIES[study].seeds
    if config["seed"] not in seeds:
        raise BadInput(f"{folder} has seed {config['seed']}: those of the study {study} are {seeds}")
    path = data / study / f"{arm}-s{config['seed']}.csv"
    write_seed(path, rows_of(folder, config, arm))
    return path


def identify(folder: Path, config: Config, overrides: Sequence[str]) -> tuple[str, str]:
    """Study and arm whose settings the run has. Errors: BadInput, with what is different from the nearest."""
    found = settings(config)
    arms = [(name, key, arm.experiment) for name, study in STUDIES.items() for key, arm in study.arms.items()]
    different = {which: differences(found, settings_of(which[2], overrides)) for which in arms}
    same = [which for which in arms if not different[which]]
    if len(same) == 1:
        return same[0][:2]
    if same:
        raise BadInput(f"{folder} could be any of {', '.join(which[1] for which in same)}: their settings are the same")
    nearest = min(arms, key=lambda which: len(different[which]))
    told = shorten(different[nearest])
    raise BadInput(f"{folder} has the settings of no arm; beside experiment={nearest[2]}, {told}")


def rows_of(folder: Path, config: Config, arm: str) -> list[Row]:
    """Training in control, where an episode ended, and then the evaluation. Numbers stand as the run wrote them."""
    skills = skill_library.about(config["skills"] or folder)
    constant = {
        "arm": arm,
        "seed": str(config["seed"]),
        "settings": fingerprint(settings(config)),
        "pretrain_env_steps": str(skills["about"]["env_steps"]),
    }
    control = [row for row in read_curves(folder / "metrics.csv") if row["phase"] == "control"]
    rows = [
        {
            "phase": "control",
            "env_steps": row["env_steps"],
            "success": row["episode/success"],
            "episode_return": row["episode/return"],
            "episode_length": row["episode/length"],
        }
        for row in control
        if row.get("episode/success")
    ]
    return [constant | row for row in [*rows, evaluation(folder, control)]]


def evaluation(folder: Path, control: Sequence[Row]) -> Row:
    """The last row. Errors: BadInput where the run was not evaluated, or its task knows no success."""
    path = folder / "eval" / "metrics.json"
    if not path.exists():
        raise BadInput(f"{folder} was not evaluated: python eval.py run={folder}")
    scores = json.loads(path.read_text())
    if scores["success_rate"] is None:
        raise BadInput(f"{folder} has no success_rate: its task tells of no success")
    return {
        "phase": "evaluation",
        "env_steps": control[-1]["env_steps"] if control else "0",
        "success": repr(scores["success_rate"]),
        "episode_return": repr(scores["return_mean"]),
        "episode_length": repr(scores["episode_length"]),
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
            print(collect(run, given.data, overrides))
        except Exception as error:
            code = exit_code(error)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
