"""Run a study: every seed of every arm, as runs of train.py that can be stopped and gone on with at any time.

    python docs/results/prove.py quickstart
    python docs/results/prove.py sac --seeds 0 1 --arms ours --jobs 1 --out outputs/sac
    python docs/results/prove.py quickstart --data /tmp/data -- downstream.env_steps=2000      # tiny, for a look

A seed whose CSV is there is not run again, whether or not its run still is; nor is a run that is finished. One that was
interrupted is resumed. Each finished seed is collected at once.
What stands after -- is given to every run, but a budget that an arm has not, or has at 0, stays as it is. SIGINT and
SIGTERM let the runs save and end; after a SIGKILL they do the same by themselves (on Linux).
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from collect import collect, split
from seeds import read_seed
from settings import applied, settings_of, shorten
from studies import DATA, ROOT, STUDIES, find_study
from study import Study

from skillrl.errors import BadInput, Stopped, exit_code
from skillrl.evaluation.curves import read_curves
from skillrl.record import is_run, locked, read_config, read_status
from skillrl.settings import differences, fingerprint, settings

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ONE_PROCESS = ("runtime.workers=0",)  # runs beside each other share the cores better than workers do
PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.5


@dataclass(frozen=True)
class Job:
    """A seed of an arm. needs: the job whose skills it uses."""

    name: str
    seed: int
    experiment: str
    folder: Path
    needs: "Job | None" = None

    def status(self) -> str:
        """new, running, finished, stopped or failed; running is also what was killed."""
        return read_status(self.folder) if is_run(self.folder) else "new"

    def busy(self) -> bool:
        """Whether a process is at it: what outlived its parent may still be saving."""
        try:
            with locked(self.folder):
                return False
        except FileNotFoundError:
            return False
        except BadInput:
            return True

    def command(self, overrides: Sequence[str]) -> list[str]:
        train = [sys.executable, str(ROOT / "train.py")]
        if is_run(self.folder):
            return [*train, f"resume={self.folder}"]
        skills = [f"skills={self.needs.folder}"] if self.needs else []
        start = [f"experiment={self.experiment}", f"seed={self.seed}", *skills, f"hydra.run.dir={self.folder}"]
        return [*train, *start, *ONE_PROCESS, *applied(self.experiment, overrides)]

    def check(self, overrides: tuple[str, ...]) -> None:
        """Errors: BadInput where the folder holds a run of other settings than the experiment has now."""
        if is_run(self.folder):
            found, wanted = settings(read_config(self.folder)), settings_of(self.experiment, overrides)
            if different := differences(found, wanted):
                raise BadInput(f"{self.folder} was run with other settings, take it away: {shorten(different)}")


def plan(study: Study, arms: Sequence[str], seeds: Sequence[int], out: Path) -> list[Job]:
    """All jobs, seed by seed, each after the one that it needs, which is added where it was not asked for."""
    jobs: list[Job] = []
    for seed in seeds:
        mine: dict[str, Job] = {}

        def add(name: str, seed: int = seed, mine: dict[str, Job] = mine) -> Job:
            if name not in mine:
                arm = study.arms[name]
                needs = add(arm.skills_of) if arm.skills_of else None
                mine[name] = Job(f"{name}-s{seed}", seed, arm.experiment, out / f"{name}-s{seed}", needs)
                jobs.append(mine[name])
            return mine[name]

        for name in study.arms:
            if name in arms:
                add(name)
    return jobs


def left(study: Study, jobs: Sequence[Job], data: Path, overrides: Sequence[str]) -> list[Job]:
    """Those whose CSV is not in the folder ``data``, and those that they need.

    Errors: BadInput where a CSV was made with other settings than the experiment has now.
    """
    missing = [job for job in jobs if not collected(study, job, data / f"{job.name}.csv", overrides)]
    return [job for job in jobs if job in missing or any(one.needs == job for one in missing)]


def collected(study: Study, job: Job, csv: Path, overrides: Sequence[str]) -> bool:
    """Whether the job's seed is there. Errors: BadInput where it was made with other settings."""
    if not csv.exists():
        return False
    if read_seed(csv, study).settings != fingerprint(settings_of(job.experiment, overrides)):
        raise BadInput(f"{csv} was made with other settings than experiment={job.experiment} has now: take it away")
    return True


class Proof:
    """Runs jobs, ``most`` at once. taken: called with each that is finished."""

    def __init__(self, jobs: Sequence[Job], overrides: Sequence[str], most: int, taken: Callable[[Job], None]):
        self.jobs, self.overrides, self.most, self.taken = list(jobs), overrides, most, taken
        self.waiting = list(jobs)
        self.running: dict[Job, subprocess.Popen[bytes]] = {}
        self.finished: set[Job] = set()
        self.failed: set[Job] = set()

    def run(self, every: float) -> bool:
        """To the end, with a line of progress every so many seconds. Returns whether all is finished."""
        told = time.monotonic()
        try:
            while self.waiting or self.running:
                self.step()
                if time.monotonic() - told >= every:
                    told = time.monotonic()
                    say(self.progress())
                time.sleep(POLL_S)
        finally:
            self.stop()
        return not self.failed

    def step(self) -> None:
        """See what has ended, and start what can be started."""
        for job, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[job]
                self.ended(job, process.returncode)
        for job in list(self.waiting):
            if job.needs in self.failed:
                self.waiting.remove(job)
                self.fail(job, f"{job.needs.name if job.needs else ''}, whose skills it uses, failed")
            elif job.status() == "finished" and not job.busy():
                self.waiting.remove(job)
                self.take(job)
            elif len(self.running) < self.most and (not job.needs or job.needs in self.finished) and not job.busy():
                self.waiting.remove(job)
                self.start(job)

    def start(self, job: Job) -> None:
        say(f"{job.name}: {'resumed' if is_run(job.folder) else 'started'}")
        with log_of(job).open("ab") as log:
            self.running[job] = subprocess.Popen(
                job.command(self.overrides),
                cwd=ROOT,
                env=os.environ | ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ctrl-C reaches it once, through us: a second signal would not let it save
                preexec_fn=end_with_parent,
            )

    def ended(self, job: Job, code: int) -> None:
        if code == 0 and job.status() == "finished":
            self.take(job)
        else:
            lines = log_of(job).read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "no output")
            self.fail(job, f"exit code {code}: {last.strip()} ({log_of(job)})")

    def take(self, job: Job) -> None:
        self.finished.add(job)
        self.taken(job)
        say(f"{job.name}: finished ({len(self.finished)} of {len(self.jobs)})")

    def fail(self, job: Job, why: str) -> None:
        self.failed.add(job)
        say(f"{job.name}: failed, {why}")

    def progress(self) -> str:
        """Where everything stands."""
        parts = [f"{len(self.finished)} of {len(self.jobs)} finished"]
        for job in self.running:
            rows = read_curves(job.folder / "metrics.csv")
            parts.append(f"{job.name} {rows[-1]['phase']} {int(rows[-1]['env_steps']):,}" if rows else f"{job.name} …")
        return " · ".join(parts)

    def stop(self) -> None:
        """Let what runs save and end."""
        for process in self.running.values():
            process.terminate()
        for job, process in self.running.items():
            process.wait()
            say(f"{job.name}: {job.status()}")


def end_with_parent() -> None:
    """In the child: SIGTERM when we are gone, however we went. Where there is no prctl, it just goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def log_of(job: Job) -> Path:
    return job.folder.with_name(f"{job.name}.log")


def say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def interrupt(number: int, frame: object) -> None:
    raise Stopped(number)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; ``overrides`` are what stands after ``--``."""
    mine, overrides = split(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=int, help="default: all of the study's")
    parser.add_argument("--arms", nargs="+", help="default: all of the study's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each on one thread")
    parser.add_argument("--out", type=Path, help="where the runs are; default: outputs/proof/<study>")
    parser.add_argument("--data", type=Path, default=DATA, help="where the CSVs go")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines of progress")
    given = parser.parse_args(mine)
    study = find_study(given.study)
    given.out = given.out or ROOT / "outputs" / "proof" / given.study
    given.overrides = tuple(overrides)
    given.arms, given.seeds = given.arms or list(study.arms), given.seeds or list(study.seeds)
    for name, asked, known in (("--arms", given.arms, list(study.arms)), ("--seeds", given.seeds, list(study.seeds))):
        if strange := [one for one in asked if one not in known]:
            parser.error(f"{name} {strange[0]}: the study has {', '.join(map(str, known))}")
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: it must be at least 1")
    if overrides and given.data == DATA:
        parser.error("runs of other settings than the study's do not belong into docs/results/data: name a --data")
    return given


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 all is there, 1 something failed, 2 bad input, 130 or 143 stopped by a signal."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out):
            study = find_study(given.study)
            jobs = plan(study, given.arms, given.seeds, out)
            for job in jobs:
                job.check(given.overrides)
            jobs = left(study, jobs, given.data / given.study, given.overrides)
            proof = Proof(jobs, given.overrides, given.jobs, lambda job: say(str(taken(job, given))))
            return 0 if proof.run(given.every) else 1
    except (Exception, KeyboardInterrupt) as error:
        return exit_code(error)


def taken(job: Job, given: argparse.Namespace) -> Path:
    return collect(job.folder, given.data, given.overrides, [given.study])[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
