"""How DIAYN's training goes on every body: the runs, their evaluation, and the page dynamics.md.

    python docs/results/dynamics.py run                # all bodies, views, seeds; stop it and start it as you like
    python docs/results/dynamics.py run --bodies ant hopper --views all --jobs 1
    python docs/results/dynamics.py run --data /tmp/data -- pretrain.env_steps=3008 snapshots=[1,1008,2000,3008]
    python docs/results/dynamics.py evaluate RUN       # one finished run, to its CSV; ``run`` does that by itself
    python docs/results/dynamics.py page

A seed whose CSV is there is not run again. One that was interrupted is resumed; its evaluation begins anew. SIGINT and
SIGTERM let the runs save and end. What stands after -- is given to every run.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from collect import split
from dynamics_page import BODIES, NAME, PHASES, SEEDS, VIEWS, Row, make, name_of, read_seed, views_of, write_seed
from prove import ONE_PROCESS, Proof, interrupt, say
from settings import settings_of, shorten
from studies import DATA, RESULTS, ROOT

from skillrl import skill_library
from skillrl.config import Config
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.curves import read_curves
from skillrl.evaluation.protocol import MAX_ROWS, Deal, evaluate, skill_metrics
from skillrl.evaluation.rollouts import rollouts
from skillrl.record import is_run, locked, make_env, read_config, read_status
from skillrl.run import untrained
from skillrl.runtime import spawn_seeds
from skillrl.settings import differences, fingerprint, settings
from skillrl.skill_policy import SkillPolicy

EXPERIMENT = "diayn/dynamics"
COLUMN = {"discriminator_accuracy": "discriminator/accuracy", "intrinsic_reward": "reward/intrinsic"}
"""What the columns of the training are called in metrics.csv."""


# ---- the runs


@dataclass(frozen=True)
class Training:
    """A run of train.py, for ``prove.Proof``."""

    body: str
    view: str
    seed: int
    folder: Path
    given: tuple[str, ...] = ()
    needs: None = None

    @property
    def name(self) -> str:
        return name_of(self.body, self.view, self.seed)

    def status(self) -> str:
        return read_status(self.folder) if is_run(self.folder) else "new"

    def busy(self) -> bool:
        """Whether a process is at it: what outlived its parent may still be saving."""
        if not self.folder.exists():
            return False
        try:
            with locked(self.folder):
                return False
        except BadInput:
            return True

    def command(self, _: Sequence[str] = ()) -> list[str]:
        train = [sys.executable, str(ROOT / "train.py")]
        if is_run(self.folder):
            return [*train, f"resume={self.folder}"]
        start = [f"experiment={EXPERIMENT}", *choices(self.body, self.view), f"seed={self.seed}", "evaluate=false"]
        return [*train, *start, f"hydra.run.dir={self.folder}", *ONE_PROCESS, *self.given]


@dataclass(frozen=True)
class Evaluation:
    """Of what a training has left; finished when its CSV is there."""

    needs: Training
    csv: Path

    @property
    def name(self) -> str:
        return f"{self.needs.name}-evaluation"

    @property
    def folder(self) -> Path:
        return self.needs.folder.with_name(self.name)  # there is none, but its log stands beside it

    def status(self) -> str:
        return "finished" if self.csv.exists() else "new"

    def busy(self) -> bool:
        return False

    def command(self, _: Sequence[str] = ()) -> list[str]:
        mine = [
            sys.executable,
            str(Path(__file__).resolve()),
            "evaluate",
            str(self.needs.folder),
            "--data",
            str(self.csv.parents[1]),
        ]
        return [*mine, "--", *self.needs.given]


def choices(body: str, view: str) -> tuple[str, ...]:
    """Beyond the experiment."""
    return (f"env={body}", f"learner.discriminator_view={'null' if view == 'all' else view}")


def plan(given: argparse.Namespace) -> list[Training | Evaluation]:
    """What is missing: a view and a seed of it after the other, so that early on there is something of every body.

    Errors: BadInput naming the CSV or the run that was made with other settings than are asked for.
    """
    jobs: list[Training | Evaluation] = []
    for view, seed, body in ((v, s, b) for v in given.views for s in given.seeds for b in given.bodies):
        if view not in views_of(body):
            continue
        training = Training(body, view, seed, given.out.resolve() / name_of(body, view, seed), tuple(given.overrides))
        csv = given.data.resolve() / NAME / f"{training.name}.csv"
        if csv.exists():
            if read_seed(csv).settings != fingerprint(wanted(body, view, training.given)):
                raise BadInput(f"{csv} was made with other settings than experiment={EXPERIMENT} has now: take it away")
            continue
        if is_run(training.folder):
            check(training.folder, training.given)
        jobs += [training, Evaluation(training, csv)]
    return jobs


def wanted(body: str, view: str, given: Sequence[str]) -> dict[str, Any]:
    return settings_of(EXPERIMENT, (*choices(body, view), *given))


def check(folder: Path, given: Sequence[str]) -> tuple[str, str]:
    """Body and view of a run. Errors: BadInput where its settings are not the experiment's."""
    config = read_config(folder)
    body = str(config["env"].get("_target_")).rpartition(".")[0].rpartition(".")[2]  # the module's name is the option's
    view = config["learner"].get("discriminator_view") or "all"
    if body not in BODIES or view not in views_of(body):
        raise BadInput(f"{folder} is of no body or view of this page: {body}, {view}")
    if different := differences(settings(config), wanted(body, view, given)):
        raise BadInput(f"{folder} was run with other settings, take it away: {shorten(different)}")
    return body, view


# ---- their evaluation


def evaluate_run(folder: Path, data: Path, given: Sequence[str] = ()) -> Path:
    """Write the CSV of a finished run, and return its path. Errors: BadInput naming the run."""
    body, view = check(folder, given)
    if (status := read_status(folder)) != "finished":
        raise BadInput(f"{folder} is not finished but {status}: go on with python train.py resume={folder}")
    config = read_config(folder)
    path = data / NAME / f"{name_of(body, view, config['seed'])}.csv"
    scores, measured = evaluations(folder, config)
    constant = {
        "body": body,
        "view": view,
        "seed": str(config["seed"]),
        "settings": fingerprint(settings(config)),
        "num_skills": str(scores["num_skills"]),
        "coverage_cell": repr(scores["coverage_cell"]),
    }
    fresh = {name: repr(scores[f"{name}_untrained"]) for name in PHASES["untrained"]}
    rows = [*training_rows(folder), *measured, {"phase": "untrained", "env_steps": "0", **fresh}]
    write_seed(path, [constant | row for row in rows])
    return path


def training_rows(folder: Path) -> list[Row]:
    """Where there were updates. Numbers stand as the run wrote them."""
    return [
        {"phase": "training", "env_steps": row["env_steps"], **{name: row[COLUMN[name]] for name in PHASES["training"]}}
        for row in read_curves(folder / "metrics.csv")
        if row["phase"] == "pretrain" and row.get(COLUMN["intrinsic_reward"])
    ]


def evaluations(folder: Path, config: Config) -> tuple[dict[str, Any], list[Row]]:
    """What the whole evaluation says of the final skills, and a row for each snapshot, these included.

    Rollouts begin alike for all of them: the seed is that of the run's evaluation.
    """
    seed = spawn_seeds(config["seed"])["evaluation"]
    final = skill_library.load(folder)
    whole = evaluate(
        make_env=lambda num_envs: make_env(folder, num_envs=num_envs),
        policy=final,
        run_dir=folder,
        seed=seed,
        make_untrained=partial(untrained, final),
        video=False,
    )
    last = skill_library.about(folder)["about"]["env_steps"]
    earlier = {steps: skill_library.load(path) for steps, path in snapshots(folder) if steps < last}
    scores = {steps: measure(folder, policy, seed) for steps, policy in earlier.items()} | {last: whole}
    return whole, [
        {"phase": "evaluation", "env_steps": str(steps), **{name: repr(of[name]) for name in PHASES["evaluation"]}}
        for steps, of in scores.items()
    ]


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """(env steps, skills) of each that was saved while training, in their order."""
    return sorted((int(path.parent.name), path.parent) for path in (folder / "skills").glob("*/config.json"))


def measure(folder: Path, policy: SkillPolicy, seed: int) -> dict[str, Any]:
    """The part of the evaluation that is about the skills themselves."""
    deal = Deal.of(policy.space)
    with closing(make_env(folder, num_envs=min(len(deal.z), MAX_ROWS))) as env:
        told = rollouts(env, policy, deal.z, seed=seed)
        scores, _ = skill_metrics(told, deal, policy.space.count, env.metadata["coverage"]["cell"], seed=seed)
    return {name: scores[name] for name in PHASES["evaluation"]}


# ---- the command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """``overrides`` are what stands after ``--``."""
    mine, overrides = split(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    run, one, page = (what.add_parser(name) for name in ("run", "evaluate", "page"))
    run.add_argument("--bodies", nargs="+", choices=list(BODIES), default=list(BODIES))
    run.add_argument("--views", nargs="+", choices=list(VIEWS), default=list(VIEWS), help="what the discriminator sees")
    run.add_argument("--seeds", nargs="+", type=int, choices=list(SEEDS), default=list(SEEDS))
    run.add_argument("--jobs", type=int, default=2, help="processes at once, each on one thread")
    run.add_argument("--out", type=Path, default=ROOT / "outputs" / NAME, help="where the runs are")
    run.add_argument("--every", type=float, default=60.0, help="seconds between two lines of progress")
    one.add_argument("folder", type=Path, metavar="RUN")
    page.add_argument("--out", type=Path, default=RESULTS, help="where the page goes")
    for each in (run, one, page):
        each.add_argument("--data", type=Path, default=DATA, help="where the CSVs are")
    given = parser.parse_args(mine)
    given.overrides = overrides
    if given.what == "run" and given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: it must be at least 1")
    if overrides and given.data.resolve() == DATA.resolve():
        parser.error("runs of other settings than the page's do not belong into docs/results/data: name a --data")
    return given


def run(given: argparse.Namespace) -> bool:
    """All that is missing. Returns whether it is there now."""
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        return Proof(plan(given), (), given.jobs, tell).run(given.every)


def tell(job: Any) -> None:
    if isinstance(job, Evaluation):
        say(str(job.csv))


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 all is there, 1 something failed, 2 bad input, 130 or 143 stopped by a signal."""
    given = parse(arguments)
    try:
        if given.what == "run":
            signal.signal(signal.SIGTERM, interrupt)
            return 0 if run(given) else 1
        if given.what == "evaluate":
            print(evaluate_run(given.folder, given.data, given.overrides))
        else:
            print(make(given.data, given.out))
    except (Exception, KeyboardInterrupt) as error:
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
