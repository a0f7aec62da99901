"""Runs and CSVs of the quickstart's study that nobody ran, as far as docs/results reads them."""

import json
from pathlib import Path

import yaml
from seeds import write_seed
from settings import compose
from studies import STUDIES

from skillrl import skill_library

STUDY = STUDIES["quickstart"]
OURS = compose("quickstart")


def a_run(folder: Path, experiment: str = "quickstart", *, seed: int = 0, status: str = "finished", **changes) -> Path:
    """A run's folder, as far as it is read."""
    config = compose(experiment) | {"seed": seed} | changes
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps({"status": status, "cwd": "/home/me", "machine": {"host": "mine"}}))
    (folder / "skills").mkdir()
    about = {"format": skill_library.FORMAT, "about": {"env_steps": config["pretrain"]["env_steps"]}}
    (folder / "skills" / "config.json").write_text(json.dumps(about))
    (folder / "metrics.csv").write_text(
        "env_steps,grad_steps,phase,time/elapsed_s,episode/return,episode/length,episode/success\n"
        "1000,0,pretrain,1.5,3.5,200.0,\n"
        "1000,0,control,2.5,,,\n"
        "2000,9,control,3.5,0.125,150.0,0.125\n"
    )
    scores = {"success_rate": 0.8125, "return_mean": 0.75, "episode_length": 71.5}
    (folder / "eval").mkdir()
    (folder / "eval" / "metrics.json").write_text(json.dumps(scores))
    return folder


def seed_csv(folder: Path, arm: str, seed: int, evaluated: float, *, env_steps: int = 4000, settings="abc") -> Path:
    learns = arm != "random"
    constant = {"arm": arm, "seed": str(seed), "settings": settings, "pretrain_env_steps": "8000"}
    rest = {"episode_return": "0", "episode_length": "9"}
    training = [
        {"phase": "control", "env_steps": str(steps), "success": str(steps / env_steps)}
        for steps in (range(1000, env_steps + 1, 1000) if learns else ())
    ]
    end = {"phase": "evaluation", "env_steps": str(env_steps if learns else 0), "success": str(evaluated)}
    path = folder / f"{arm}-s{seed}.csv"
    write_seed(path, [constant | row | rest for row in [*training, end]])
    return path
