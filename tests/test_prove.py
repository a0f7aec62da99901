"""docs/results/prove.py: what it runs, what it resumes, and what it refuses."""

import json
import signal
import threading
from pathlib import Path

import prove
import pytest
from made_up_results import OURS, STUDY, a_run, seed_csv
from settings import settings_of

from skillrl.settings import fingerprint

FAKE_TRAIN = """
import json, pathlib, signal, sys, time
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(given.get("resume") or given["hydra.run.dir"])
log = pathlib.Path(__file__).with_name("calls")
def status(name):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"status": name}))
def stop(*_):
    status("stopped")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
status("running")
with log.open("a") as file:
    file.write(" ".join([folder.name, *sorted(given)]) + "\\n")
if "skills" in given:
    assert json.loads((pathlib.Path(given["skills"]) / "run.json").read_text())["status"] == "finished"
time.sleep(60 if folder.name in SLOW else 0)
if folder.name in BROKEN:
    sys.exit("this is what broke")
status("finished")
"""


class Runner:
    """prove.py over a train.py that only pretends."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.taken = folder, list[str]()
        self.behave()
        monkeypatch.setattr(prove, "ROOT", folder)
        monkeypatch.setattr(prove, "POLL_S", 0.02)

    def behave(self, slow: str = "", broken: str = "") -> None:
        (self.folder / "train.py").write_text(f"SLOW, BROKEN = {[slow]}, {[broken]}\n{FAKE_TRAIN}")

    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def proof(self, *arms: str, seeds: tuple[int, ...] = (0, 1)) -> prove.Proof:
        jobs = prove.plan(STUDY, arms, seeds, self.folder)
        return prove.Proof(jobs, [], 2, lambda job: self.taken.append(job.name))


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(tmp_path, monkeypatch)


def test_what_random_choice_needs_is_run_first(runner: Runner):
    assert [job.name for job in runner.proof("random", "flat_sac").jobs] == [
        "flat_sac-s0", "ours-s0", "random-s0", "flat_sac-s1", "ours-s1", "random-s1",
    ]  # fmt: skip
    assert runner.proof("random", "flat_sac").run(every=60)
    assert sorted(runner.taken) == sorted(job.name for job in runner.proof("random", "flat_sac").jobs)
    assert "random-s1 experiment hydra.run.dir runtime.workers seed skills" in runner.calls()
    assert "flat_sac-s1 experiment hydra.run.dir runtime.workers seed" in runner.calls()


def test_what_is_finished_is_not_run_again_and_what_was_interrupted_is_resumed(runner: Runner):
    for name, status in (("ours-s0", "finished"), ("ours-s1", "running")):
        (runner.folder / name).mkdir()
        (runner.folder / name / "run.json").write_text(json.dumps({"status": status}))
    assert runner.proof("ours").run(every=60)
    assert runner.calls() == ["ours-s1 resume"]
    assert sorted(runner.taken) == ["ours-s0", "ours-s1"]  # collected in any case


def test_a_failure_stops_what_needs_it_and_nothing_else(runner: Runner, capsys: pytest.CaptureFixture[str]):
    runner.behave(broken="ours-s0")
    assert not runner.proof("ours", "flat_sac", "random").run(every=60)
    assert sorted(runner.taken) == ["flat_sac-s0", "flat_sac-s1", "ours-s1", "random-s1"]
    said = capsys.readouterr().out
    assert "ours-s0: failed, exit code 1: this is what broke" in said
    assert "random-s0: failed, ours-s0, whose skills it uses, failed" in said


def test_a_signal_lets_the_runs_save_and_the_next_start_goes_on(runner: Runner):
    runner.behave(slow="ours-s0")
    before = signal.signal(signal.SIGINT, prove.interrupt)

    def kill() -> None:
        while "ours-s0 experiment hydra.run.dir runtime.workers seed" not in runner.calls():
            stopper.wait(0.01)
        signal.raise_signal(signal.SIGINT)

    stopper = threading.Event()
    threading.Thread(target=kill).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.proof("ours", seeds=(0,)).run(every=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert json.loads((runner.folder / "ours-s0" / "run.json").read_text()) == {"status": "stopped"}
    runner.behave()
    assert runner.proof("ours", seeds=(0,)).run(every=60)
    assert runner.calls()[-1] == "ours-s0 resume" and runner.taken == ["ours-s0"]


def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a_run(tmp_path / "ours-s0", downstream=OURS["downstream"] | {"updates": 7})
    assert prove.main(["quickstart", "--out", str(tmp_path), "--data", str(tmp_path / "data")]) == 2
    assert "ours-s0 was run with other settings, take it away: downstream.updates is 7" in capsys.readouterr().err


def test_a_seed_whose_csv_is_there_is_not_run_again_unless_its_skills_are_needed(tmp_path: Path):
    jobs = prove.plan(STUDY, ["ours", "flat_sac", "random"], [0, 1], tmp_path)
    for arm, seed in (("ours", 0), ("ours", 1), ("flat_sac", 0), ("random", 1)):
        seed_csv(tmp_path, arm, seed, 0.5, settings=fingerprint(settings_of(STUDY.arms[arm].experiment)))
    assert [job.name for job in prove.left(STUDY, jobs, tmp_path, ())] == ["ours-s0", "random-s0", "flat_sac-s1"]


def test_a_csv_of_other_settings_is_named(tmp_path: Path):
    seed_csv(tmp_path, "ours", 0, 0.5, settings="abc")
    with pytest.raises(ValueError, match=r"ours-s0\.csv was made with other settings than experiment=quickstart"):
        prove.left(STUDY, prove.plan(STUDY, ["ours"], [0], tmp_path), tmp_path, ())


@pytest.mark.parametrize("wrong", [["--arms", "nobody"], ["--seeds", "9"], ["--jobs", "0"]])
def test_the_runner_knows_its_study(wrong: list[str]):
    with pytest.raises(SystemExit):
        prove.main(["quickstart", *wrong])
