"""Runs and CSVs of the studies that nobody ran, as far as docs/results reads them."""

import json
from pathlib import Path

import yaml
from seeds import write_seed
from settings import compose
from studies import STUDIES
from study import Study

from skillrl import skill_library

STUDY = STUDIES["quickstart"]
OURS = compose("quickstart")


def a_run(
    folder: Path,
    experiment: str = "quickstart",
    *,
    seed: int = 0,
    status: str = "finished",
    phase: str = "control",
    success: bool = True,
    **changes,
) -> Path:
    """A run's folder, as far as it is read. phase: in which it learnt its task. success: whether that knows any."""
    config = compose(experiment) | {"seed": seed} | changes
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps({"status": status, "cwd": "/home/me", "machine": {"host": "mine"}}))
    (folder / "skills").mkdir()
    about = {"format": skill_library.FORMAT, "about": {"env_steps": config["pretrain"]["env_steps"]}}
    (folder / "skills" / "config.json").write_text(json.dumps(about))
    (folder / "metrics.csv").write_text(
        "env_steps,grad_steps,phase,time/elapsed_s,episode/return,episode/length,episode/success\n"
        + ("" if phase == "pretrain" else "1000,0,pretrain,1.5,3.5,200.0,\n")
        + f"1000,0,{phase},2.5,,,\n"
        + f"2000,9,{phase},3.5,0.125,150.0,{0.125 if success else ''}\n"
    )
    scores = {"success_rate": 0.8125 if success else None, "return_mean": 0.75, "episode_length": 71.5}
    (folder / "eval").mkdir()
    (folder / "eval" / "metrics.json").write_text(json.dumps(scores))
    return folder


def seed_csv(
    folder: Path, arm: str, seed: int, score: float, *, env_steps: int = 4000, settings="abc", study: Study = STUDY
) -> Path:
    """Of four rows of training; a success rises to 1, anything else to the score. random learns nothing."""
    learns, top = arm != "random", 1.0 if study.measure.share else score
    pretrained = "8000" if study.pretraining else "0"
    constant = {"arm": arm, "seed": str(seed), "settings": settings, "pretrain_env_steps": pretrained}
    rest = {"success": "", "episode_return": "0", "episode_length": "9"}
    column = study.measure.column
    training = [
        {"phase": study.arms[arm].phase if arm in study.arms else "control", "env_steps": str(steps)}
        | rest
        | {column: str(top * steps / env_steps)}
        for steps in (range(env_steps // 4, env_steps + 1, env_steps // 4) if learns else ())
    ]
    end = {"phase": "evaluation", "env_steps": str(env_steps if learns else 0)} | rest
    end |= {column: str(-score if study.last_tenth else score)}  # which a score of the last tenth does not look at
    path = folder / f"{arm}-s{seed}.csv"
    write_seed(path, [constant | row for row in [*training, end]])
    return path


def study_csvs(data: Path, name: str = "quickstart", *, ours: float = 0.8, other: float = 0.2, **means: float) -> Path:
    """All seeds of all arms, 0.02 apart around the means; returns ``data``."""
    study = STUDIES[name]
    for i, arm in enumerate(study.arms):
        for seed in study.seeds:
            mean = means.get(arm, ours if arm == study.ours else other)
            seed_csv(data / name, arm, seed, mean + 0.02 * (seed - 2), settings=f"arm{i}", study=study)
    return data
