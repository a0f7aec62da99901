"""The pages in docs/results: made from the committed numbers, which come from finished runs of the right settings."""

import csv
import json
import math
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from skillrl import skill_library

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "results"))

import curves  # noqa: E402
import make  # noqa: E402
import prove  # noqa: E402
from collect import collect, split  # noqa: E402
from collect import main as collect_main  # noqa: E402
from seeds import Seed, read_seed, read_study, write_seed  # noqa: E402
from settings import compose, fingerprint, settings_of  # noqa: E402
from studies import DATA, RESULTS, STUDIES  # noqa: E402

STUDY = STUDIES["quickstart"]
OURS = compose("quickstart")


# ---- what is committed


def test_the_committed_pages_are_made_from_the_committed_numbers(tmp_path: Path):
    pages = {path.stem for path in RESULTS.glob("*.md")} - {"README"}
    assert pages == {path.parent.name for path in DATA.glob("*/*.csv")}  # both empty, until there are results
    assert pages <= set(STUDIES)
    for name in pages:
        assert make.make(name, DATA, tmp_path).read_text() == (RESULTS / f"{name}.md").read_text()
        for drawn in (tmp_path / "figures").glob(f"{name}*.png"):
            assert (RESULTS / "figures" / drawn.name).stat().st_size > 1000


def test_no_machine_is_named_in_the_committed_numbers():
    for path in DATA.glob("*/*.csv"):
        assert "/" not in path.read_text()


# ---- the arms


def test_each_arm_differs_from_ours_only_in_what_it_is_there_for():
    changed = {
        arm: {key for key, value in settings_of(STUDY.arms[arm].experiment).items() if ours.get(key, ...) != value}
        for ours in [settings_of("quickstart")]
        for arm in STUDY.others
    }
    assert changed["untrained"] == {"pretrain.env_steps"}
    assert changed["random"] == {"controller._target_", "downstream.env_steps"}
    for arm in ("flat_sac", "action_repeat"):
        strange = {key for key in changed[arm] if key.split(".")[0] not in ("learner", "pretrain", "controller")}
        assert strange <= {"downstream.updates"}, arm


@pytest.mark.parametrize("arm", ["flat_sac", "action_repeat"])
def test_the_arms_without_skills_get_at_least_our_care(arm: str):
    config = compose(STUDY.arms[arm].experiment)
    mine, ours = config["controller"], OURS["controller"]
    assert config["learner"] == {"_target_": "skillrl.learners.primitive.Primitive"}
    assert config["pretrain"]["env_steps"] == 0
    assert mine["hold"] == (1 if arm == "flat_sac" else ours["hold"])
    assert mine["hidden_dims"] == ours["hidden_dims"] and mine["obs_view"] == ours["obs_view"]
    assert mine["batch_size"] >= ours["batch_size"]
    assert config["downstream"]["updates"] >= OURS["downstream"]["updates"]
    assert mine["agent"]["gamma"] == ours["agent"]["gamma"]


def test_random_choice_keeps_our_hold():
    assert compose("quickstart/random")["controller"] == {
        "_target_": "skillrl.controllers.random.Random",
        "hold": OURS["controller"]["hold"],
    }


# ---- collect


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


def test_a_finished_run_becomes_a_csv(tmp_path: Path):
    path = collect(a_run(tmp_path / "any name", seed=3), tmp_path / "data")
    assert path == tmp_path / "data" / "quickstart" / "ours-s3.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["env_steps"], row["success"]) for row in rows] == [
        ("control", "2000", "0.125"),  # the rows of the pretraining and those without an episode's end are not there
        ("evaluation", "2000", "0.8125"),
    ]
    assert (rows[1]["episode_return"], rows[1]["episode_length"]) == ("0.75", "71.5")
    assert {row["pretrain_env_steps"] for row in rows} == {str(OURS["pretrain"]["env_steps"])}
    for word in ("/", "mine", "time", "2.5"):
        assert word not in path.read_text()


@pytest.mark.parametrize("arm", list(STUDY.arms))
def test_the_arm_is_told_by_the_settings(arm: str, tmp_path: Path):
    run = a_run(tmp_path / "x", STUDY.arms[arm].experiment)
    assert read_seed(collect(run, tmp_path / "data")).arm == arm


def test_skills_that_were_loaded_bring_their_own_pretraining(tmp_path: Path):
    ours = a_run(tmp_path / "ours", pretrain=OURS["pretrain"] | {"env_steps": 123})
    run = a_run(tmp_path / "random", "quickstart/random", skills=str(ours))
    assert read_seed(collect(run, tmp_path / "data")).pretrain_env_steps == 123


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "running"}, r"x is not finished but running: go on with .* resume=.*x"),
        ({"status": "failed"}, r"x is not finished but failed"),
        ({"seed": 7}, r"x has seed 7: those of the study quickstart are"),
        ({"downstream": OURS["downstream"] | {"env_steps": 1}}, r"x has .* no arm; .* downstream.env_steps is 1, n"),
    ],
)
def test_what_is_no_seed_of_a_study_is_refused_by_name(changes: dict, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        collect(a_run(tmp_path / "x", **changes), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_run_without_evaluation_is_refused(tmp_path: Path):
    run = a_run(tmp_path / "x")
    (run / "eval" / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"x was not evaluated: python eval.py run="):
        collect(run, tmp_path / "data")


def test_the_command_collects_what_it_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bad, good = a_run(tmp_path / "bad", status="stopped"), a_run(tmp_path / "good")
    assert collect_main([str(bad), str(good), "--data", str(tmp_path / "data")]) == 2
    said = capsys.readouterr()
    assert "ours-s0.csv" in said.out and "bad is not finished but stopped" in said.err


def test_runs_with_other_overrides_stay_out_of_the_committed_numbers(tmp_path: Path):
    tiny = ["downstream.env_steps=16"]
    run = a_run(tmp_path / "x", downstream=OURS["downstream"] | {"env_steps": 16})
    assert split(["a", "--", *tiny]) == (["a"], tiny)
    assert collect(run, tmp_path / "data", tiny).stem == "ours-s0"
    with pytest.raises(SystemExit):
        collect_main([str(run), "--", *tiny])
    with pytest.raises(SystemExit):
        prove.main(["quickstart", "--", *tiny])


def test_a_budget_that_makes_an_arm_what_it_is_stays(tmp_path: Path):
    tiny = ["pretrain.env_steps=16", "downstream.env_steps=24"]
    budgets = {arm: settings_of(STUDY.arms[arm].experiment, tiny) for arm in STUDY.arms}
    found = {arm: (one["pretrain.env_steps"], one["downstream.env_steps"]) for arm, one in budgets.items()}
    assert found["ours"] == (16, 24) and found["random"] == (16, 0)
    assert found["untrained"] == found["flat_sac"] == found["action_repeat"] == (0, 24)


def test_a_run_that_could_be_of_two_arms_is_of_none(tmp_path: Path):
    run = a_run(tmp_path / "x", "quickstart/flat_sac", controller=compose("quickstart/action_repeat")["controller"])
    same = f"controller.hold={OURS['controller']['hold']}"
    with pytest.raises(ValueError, match=r"x could be any of flat_sac, action_repeat: their settings are the same"):
        collect(run, tmp_path / "data", [same])


# ---- the CSVs


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


def study_csvs(data: Path, **means: float) -> Path:
    """All seeds of all arms, around means of 0.2, and 0.8 for ours."""
    for i, arm in enumerate(STUDY.arms):
        for seed in STUDY.seeds:
            mean = means.get(arm, 0.8 if arm == STUDY.ours else 0.2)
            seed_csv(data / "quickstart", arm, seed, mean + 0.02 * (seed - 2), settings=f"arm{i}")
    return data


def test_a_csv_is_read_as_it_was_written(tmp_path: Path):
    found = read_seed(seed_csv(tmp_path, "ours", 2, 0.5))
    assert (found.arm, found.seed, found.pretrain_env_steps, found.env_steps) == ("ours", 2, 8000, 4000)
    assert found.evaluated == 0.5
    np.testing.assert_array_equal(found.steps, [1000, 2000, 3000, 4000])
    np.testing.assert_array_equal(found.success, [0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("old", "new"),
    [("evaluation", "control"), ("ours,2,abc,8000,control", "ours,3,abc,8000,control"), (",0.5,", ",1.5,")],
)
def test_a_csv_that_is_none_is_named(old: str, new: str, tmp_path: Path):
    path = seed_csv(tmp_path, "ours", 2, 0.5, env_steps=1000)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"ours-s2\.csv is not the CSV of a seed"):
        read_seed(path)


def test_seeds_of_different_settings_are_not_thrown_together(tmp_path: Path):
    seed_csv(tmp_path, "ours", 0, 0.5)
    seed_csv(tmp_path, "ours", 1, 0.5, settings="def")
    with pytest.raises(ValueError, match=r"ours-s1\.csv and ours-s0\.csv were made with different settings"):
        read_study(STUDY, tmp_path)


def test_a_csv_of_no_arm_is_named(tmp_path: Path):
    seed_csv(tmp_path, "stranger", 0, 0.5)
    with pytest.raises(ValueError, match=r"stranger-s0\.csv is not of the study"):
        read_study(STUDY, tmp_path)


# ---- the page


def page_of(data: Path) -> str:
    return make.page("quickstart", STUDY, read_study(STUDY, data / "quickstart"))


def test_the_page_tells_every_seed_and_the_claim(tmp_path: Path):
    text = page_of(study_csvs(tmp_path))
    se = math.sqrt(0.001 / 5)  # the variance of 0.02 * (-2, -1, 0, 1, 2) is 0.001
    assert f"| 8,000 | 4,000 | 0.760 | 0.780 | 0.800 | 0.820 | 0.840 | 0.800 ± {se:.3f} |" in text
    pooled = math.sqrt(0.001 * 2 / 5)
    assert f"| Flat SAC | +0.600 | {pooled:.3f} | {0.6 / pooled:.1f} | yes |" in text
    assert "**It holds.**" in text and "Not settled" not in text and "missing" not in text


def test_the_page_says_where_the_claim_does_not_hold(tmp_path: Path):
    text = page_of(study_csvs(tmp_path, action_repeat=0.52))  # 14 standard errors above, but only by 0.28
    assert "**It does not hold** against: SAC with action repeat." in text
    assert "**It holds.**" not in text
    assert "+0.280" in text and text.count("**no**") == 1 and text.count("| yes |") == 3


def test_the_page_says_what_is_missing(tmp_path: Path):
    data = study_csvs(tmp_path)
    for seed in (1, 3):
        (data / "quickstart" / f"flat_sac-s{seed}.csv").unlink()
    for seed in STUDY.seeds:
        (data / "quickstart" / f"random-s{seed}.csv").unlink()
    text = page_of(data)
    assert "**Not settled.** Flat SAC: no seed 1, 3 yet; Pretrained skills chosen at random: no seed 0, 1, 2" in text
    assert "| Flat SAC | 8,000 | 4,000 | 0.160 | missing | 0.200 | missing | 0.240 |  |" in text
    assert "It holds" not in text and "| yes |" not in text and text.count("| not settled |") == 4


def test_unequal_env_steps_settle_nothing(tmp_path: Path):
    data = study_csvs(tmp_path)
    for seed in STUDY.seeds:
        seed_csv(data / "quickstart", "flat_sac", seed, 0.1, env_steps=3000, settings="arm2")
    assert "**Not settled.** the arms had unequal env steps on the task: 3,000 (Flat SAC) and 4,000" in page_of(data)


def test_page_and_figures_are_written(tmp_path: Path):
    data = study_csvs(tmp_path / "data")
    path = make.make("quickstart", data, tmp_path / "out")
    linked = {line.split('src="')[1].split('"')[0] for line in path.read_text().splitlines() if "<img" in line}
    assert len(linked) == 2
    for name in linked:
        for file in (path.parent / name, (path.parent / name).with_suffix(".dark.png")):
            assert file.read_bytes().startswith(b"\x89PNG")


def test_no_data_is_an_error_that_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert make.main(["quickstart", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "run python docs/results/prove.py quickstart" in capsys.readouterr().err
    assert make.main(["quickstrat", "--data", str(tmp_path)]) == 2
    assert "the studies are quickstart" in capsys.readouterr().err


# ---- the curves


def test_the_mean_curve_spans_what_all_seeds_span():
    steps, values = curves.mean_curve(
        [(np.array([1, 2, 3, 4]), np.array([0.0, 1.0, 2.0, 3.0])), (np.array([2, 4, 5]), np.array([3.0, 5.0, 9.0]))]
    )
    np.testing.assert_array_equal(steps, [2, 3, 4])
    np.testing.assert_array_equal(values, [2.0, 3.0, 4.0])


@pytest.mark.parametrize("pretraining", [False, True])
def test_pretraining_moves_the_curves_and_the_level_of_random_choice(pretraining: bool):
    learnt = [Seed("ours", i, "a", 8000, np.arange(1, 5) * 1000, np.full(4, 0.5), 4000, 0.9) for i in range(2)]
    chance = [Seed("random", 0, "a", 8000, np.zeros(0), np.zeros(0), 0, 0.25)]
    found = {"ours": dict(enumerate(learnt)), "random": {0: chance[0]}}
    figure = curves.learning_curves(STUDY, found, pretraining, {"text": "#000", "faint": "#777", "line": "#eee"})
    lines = [np.asarray(line.get_xydata()) for line in figure.axes[0].lines]
    shift = 8000 if pretraining else 0
    assert len(lines) == 2 + 1 + 1 + pretraining  # seeds, their mean, the level, the end of the pretraining
    np.testing.assert_array_equal(lines[0], np.column_stack([shift + np.arange(1, 5) * 1000, np.full(4, 0.5)]))
    np.testing.assert_array_equal(lines[3], [[shift, 0.25], [shift + 4000, 0.25]])


# ---- the runner

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
    assert [job.name for job in prove.left(jobs, tmp_path, ())] == ["ours-s0", "random-s0", "flat_sac-s1"]


def test_a_csv_of_other_settings_is_named(tmp_path: Path):
    seed_csv(tmp_path, "ours", 0, 0.5, settings="abc")
    with pytest.raises(ValueError, match=r"ours-s0\.csv was made with other settings than experiment=quickstart"):
        prove.left(prove.plan(STUDY, ["ours"], [0], tmp_path), tmp_path, ())


@pytest.mark.parametrize("wrong", [["--arms", "nobody"], ["--seeds", "9"], ["--jobs", "0"]])
def test_the_runner_knows_its_study(wrong: list[str]):
    with pytest.raises(SystemExit):
        prove.main(["quickstart", *wrong])
