"""The board: every learner on the same bodies, on equal terms. The runs, and the page board.md.

    python docs/results/board.py run     # all bodies, learners, seeds; stop it and start it as you like
    python docs/results/board.py run --bodies point --learners metra csf --jobs 1
    python docs/results/board.py run --data /tmp/data -- pretrain.env_steps=2016
    python docs/results/board.py page

A seed whose CSV is there is not run again; one that was interrupted is resumed, and each is collected as it finishes.
What stands after -- is given to every run.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from board_page import make
from board_seeds import BODIES, NAME, PATHS, POINTS, SCORES, SEEDS, Body, name_of, read_seed, write_seed
from collect import split
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from prove import Job, Proof, interrupt, say
from settings import compose, settings_of, shorten
from studies import DATA, RESULTS, ROOT

sys.path.insert(0, str(ROOT))  # train.py, wherever this is started from
from skillrl import skill_library
from skillrl.controllers.zero_shot import ZeroShot
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.curves import read_curves
from skillrl.evaluation.rollouts import rollout
from skillrl.record import is_run, locked, read_config
from skillrl.runtime import spawn_seeds
from skillrl.settings import differences, fingerprint, settings
from skillrl.skill_policy import ReachesGoals
from skillrl.spec import Spec

GOALS = 32  # episodes of the zero-shot distance
SWEEP = "hydra.sweeper.params.learner"


def learners() -> list[str]:
    """Those of the preset sweep=learners_x_seeds, which need no reward, no family of tasks, and no team."""
    preset = OmegaConf.select(OmegaConf.load(ROOT / "conf/sweep/learners_x_seeds.yaml"), SWEEP)
    names = sorted(path.stem for path in (ROOT / "conf/learner").glob("*.yaml"))
    return OverridesParser.create().parse_override(f"learner={preset}").value().filter(names)  # type: ignore[union-attr]


LEARNERS = learners()
"""Of a body that names none."""
EVERY = sorted({*LEARNERS, *(name for body in BODIES.values() for name in body.learners or ())})


@dataclass(frozen=True)
class Entry(Job):
    """A seed of a learner on a body."""

    body: str = ""
    learner: str = ""

    def command(self, overrides: Sequence[str]) -> list[str]:
        return [*super().command(overrides), *([] if is_run(self.folder) else [f"learner={self.learner}"])]

    def wanted(self, overrides: Sequence[str]) -> dict[str, Any]:
        return settings_of(self.experiment, (*overrides, f"learner={self.learner}"))

    def check(self, overrides: tuple[str, ...]) -> None:
        if is_run(self.folder) and (
            different := differences(settings(read_config(self.folder)), self.wanted(overrides))
        ):
            raise BadInput(f"{self.folder} was run with other settings, take it away: {shorten(different)}")


def experiment_of(body: str, learner: str) -> str:
    """Its own, where it has one."""
    own = f"{NAME}/{body}/{learner}"
    return own if (ROOT / f"conf/experiment/{own}.yaml").exists() else f"{NAME}/{body}"


def plan(given: argparse.Namespace) -> list[Entry]:
    """What is missing, seed by seed. Errors: BadInput naming a CSV or run of other settings, or where none is meant."""
    of = {body: BODIES[body].learners or LEARNERS for body in given.bodies}
    if not any(set(given.learners) & set(learners) for learners in of.values()):
        told = "; ".join(f"{body} has {', '.join(learners)}" for body, learners in of.items())
        raise BadInput(f"--learners {' '.join(given.learners)}: {told}")
    jobs = []
    for seed, body in ((s, b) for s in given.seeds for b in given.bodies if s in BODIES[b].seeds):
        for learner in given.learners:
            if learner not in of[body]:
                continue
            name = name_of(body, learner, seed)
            job = Entry(name, seed, experiment_of(body, learner), given.out.resolve() / name, None, body, learner)
            csv = given.data.resolve() / NAME / f"{name}.csv"
            if not csv.exists():
                job.check(given.overrides)
                jobs.append(job)
            elif read_seed(csv).settings != fingerprint(job.wanted(given.overrides)):
                raise BadInput(f"{csv} was made with other settings than {job.experiment} has now: take it away")
    return jobs


# ---- what is kept of a run


def collect(job: Entry, data: Path) -> Path:
    """Its CSV: the scores of its evaluation, the cells that training had been to, and some paths."""
    config, folder = read_config(job.folder), job.folder
    scores = json.loads((folder / "eval" / "metrics.json").read_text())
    curve = [row for row in read_curves(folder / "metrics.csv") if row.get("coverage/visited")]
    found = {name: scores[name] for name in SCORES if name in scores}
    found |= {"visited": float(curve[-1]["coverage/visited"]), "seconds": float(curve[-1]["time/elapsed_s"])}
    found["discriminability_alone"] = max(scores["discriminability_agents"] or [None])
    found["goal_distance"] = goal_distance(job, config)
    constant = {
        "body": job.body,
        "learner": job.learner,
        "seed": str(job.seed),
        "settings": fingerprint(settings(config)),
    }
    told = {name: repr(found[name]) for name in SCORES if found[name] is not None}
    rows = [{"phase": "end", "env_steps": curve[-1]["env_steps"], **told}]
    rows += [{"phase": "training", "env_steps": r["env_steps"], "visited": r["coverage/visited"]} for r in curve]
    path = data / NAME / f"{job.name}.csv"
    write_seed(path, [constant | row for row in rows + paths(folder, BODIES[job.body])])
    return path


def paths(folder: Path, body: Body) -> list[dict[str, str]]:
    """Of rollouts with skills dealt evenly: ``POINTS`` places each. On a line there is no y, though 0 is told."""
    arrays = dict(np.load(folder / "eval" / "trajectories.npz"))
    spread = np.array(sorted(arrays["spread"], key=lambda row: hue(arrays, row)))  # some of every skill
    chosen = spread[np.linspace(0, len(spread) - 1, PATHS).astype(int)]
    rows = []
    for number, rollout_ in enumerate(chosen):
        steps = np.linspace(0, arrays["length"][rollout_], POINTS).astype(int)
        for step in steps:
            told = [f"{arrays['coordinates'][rollout_, step, column]:.3f}" for _, column in body.axes]
            place = dict(zip("xy", (*told, ""), strict=False))
            rows.append({"phase": "path", "path": str(number), "hue": f"{hue(arrays, rollout_):.3f}", **place})
            rows[-1]["env_steps"] = str(step)
    return rows


def hue(arrays: dict[str, np.ndarray], row: int) -> float:
    """In [0, 1): a skill's own, or the direction of a continuous z in its first two axes."""
    z = arrays["z"][row]
    if arrays["z"].ndim == 1 or np.issubdtype(arrays["z"].dtype, np.integer):
        flat = arrays["z"].reshape(len(arrays["z"]), -1)
        kinds = np.unique(flat, axis=0)
        return float(np.flatnonzero((kinds == flat[row]).all(1))[0] / len(kinds))
    angle = np.arctan2(z[1] if len(z) > 1 else 0.0, z[0])
    return float(angle / (2 * np.pi) % 1.0)


def goal_distance(job: Entry, config: Any) -> float | None:
    """How far from its goal an episode ends, in units of how far it began; the median. None for who knows no way."""
    from train import build

    skills = skill_library.load(job.folder)
    if not isinstance(skills, ReachesGoals):
        return None
    task = compose(job.experiment, (f"learner={job.learner}", f"task={BODIES[job.body].env}_goal"))["task"]
    with closing(build(task | {"num_envs": GOALS})) as env:
        spec = Spec.from_env(env)
        seed = spawn_seeds(config["seed"])["evaluation"]
        told = rollout(env, skills, ZeroShot(spec, skills, part=BODIES[job.body].part).prior(), seed=seed)
    goal = told.obs[:, 0, slice(*spec.obs.names["goal"])]
    ends = told.coordinates[np.arange(GOALS), told.length]
    start = told.coordinates[:, 0]
    return float(np.median(np.linalg.norm(ends - goal, axis=1) / np.linalg.norm(start - goal, axis=1)))


# ---- the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """``overrides`` are what stands after ``--``."""
    mine, overrides = split(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    run, page = (what.add_parser(name) for name in ("run", "page"))
    run.add_argument("--bodies", nargs="+", choices=list(BODIES), default=list(BODIES))
    run.add_argument("--learners", nargs="+", choices=EVERY, default=EVERY)
    run.add_argument("--seeds", nargs="+", type=int, choices=list(SEEDS), default=list(SEEDS))
    run.add_argument("--jobs", type=int, default=2, help="processes at once, each on one thread")
    run.add_argument("--out", type=Path, default=ROOT / "outputs" / NAME, help="where the runs are")
    run.add_argument("--every", type=float, default=60.0, help="seconds between two lines of progress")
    page.add_argument("--out", type=Path, default=RESULTS, help="where the page goes")
    for each in (run, page):
        each.add_argument("--data", type=Path, default=DATA, help="where the CSVs are")
    given = parser.parse_args(mine)
    given.overrides = tuple(overrides)
    if given.what == "run" and given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: it must be at least 1")
    if overrides and given.data.resolve() == DATA.resolve():
        parser.error("runs of other settings than the board's do not belong into docs/results/data: name a --data")
    return given


def run(given: argparse.Namespace) -> bool:
    """All that is missing. Returns whether it is there now."""
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        jobs, data = plan(given), given.data.resolve()
        return Proof(jobs, given.overrides, given.jobs, lambda job: say(str(collect(job, data)))).run(given.every)


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 all is there, 1 something failed, 2 bad input, 130 or 143 stopped by a signal."""
    given = parse(arguments)
    try:
        if given.what == "run":
            signal.signal(signal.SIGTERM, interrupt)
            return 0 if run(given) else 1
        print(make(given.data, given.out))
    except (Exception, KeyboardInterrupt) as error:
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
