"""The pages in docs/results: made from the committed numbers, which come from finished runs of the right settings."""

import csv
import math
from pathlib import Path

import curves
import make
import numpy as np
import prove
import pytest
from collect import collect, split
from collect import main as collect_main
from made_up_results import OURS, STUDY, a_run, seed_csv, study_csvs
from seeds import Seed, read_seed, read_study
from settings import compose, settings_of
from studies import DATA, RESULTS, STUDIES

from skillrl.settings import differences, fingerprint, settings

# ---- what is committed


def test_the_committed_pages_are_made_from_the_committed_numbers(tmp_path: Path):
    elsewhere = {"README", "dynamics", "checks", "learners", "board", "downstream"}  # which have tests of their own
    pages = {path.stem for path in RESULTS.glob("*.md")} - elsewhere
    assert pages == {path.parent.name for path in DATA.glob("*/*.csv")} - elsewhere  # both may be empty
    assert pages <= set(STUDIES)
    for name in pages:
        assert make.make(name, DATA, tmp_path).read_text() == (RESULTS / f"{name}.md").read_text()
        for drawn in (tmp_path / "figures").glob(f"{name}*.png"):
            assert (RESULTS / "figures" / drawn.name).stat().st_size > 1000


def test_the_committed_numbers_have_the_settings_of_their_experiments():
    for path in (path for name in STUDIES for path in (DATA / name).glob("*.csv")):
        study = STUDIES[path.parent.name]
        found = read_seed(path, study)
        assert found.settings == fingerprint(settings_of(study.arms[found.arm].experiment)), path


def test_no_machine_is_named_in_the_committed_numbers():
    for path in DATA.glob("*/*.csv"):
        assert "/" not in path.read_text()


# ---- the arms


def test_keys_that_came_later_leave_the_settings_of_earlier_runs_as_they_were():
    config = compose("quickstart")
    older = {key: value for key, value in config.items() if key != "data"}
    older["pretrain"] = {key: value for key, value in config["pretrain"].items() if key != "grad_steps"}
    assert fingerprint(settings(older)) == fingerprint(settings(config)) == fingerprint(settings_of("quickstart"))
    assert not {"data", "pretrain.grad_steps"} & settings(config).keys()
    offline = config | {"data": "x.npz", "pretrain": config["pretrain"] | {"grad_steps": 5}}
    assert set(differences(settings(offline), settings(config))) == {
        "data is x.npz, not not set",
        "pretrain.grad_steps is 5, not not set",
    }


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
    assert mine["hold"] == {"flat_sac": 1, "action_repeat": 20}[arm]
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


def test_a_finished_run_becomes_a_csv(tmp_path: Path):
    path, twin = collect(a_run(tmp_path / "any name", seed=3), tmp_path / "data")
    assert twin == tmp_path / "data" / "discriminator_noise" / "ours-s3.csv"  # a seed of that study too
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
    assert read_seed(collect(run, tmp_path / "data")[0], STUDY).arm == arm


def test_skills_that_were_loaded_bring_their_own_pretraining(tmp_path: Path):
    ours = a_run(tmp_path / "ours", pretrain=OURS["pretrain"] | {"env_steps": 123})
    run = a_run(tmp_path / "random", "quickstart/random", skills=str(ours))
    assert read_seed(collect(run, tmp_path / "data")[0], STUDY).pretrain_env_steps == 123


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
    assert collect(run, tmp_path / "data", tiny)[0].stem == "ours-s0"
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
    same = f"controller.hold={compose('quickstart/action_repeat')['controller']['hold']}"
    with pytest.raises(ValueError, match=r"x could be any of flat_sac, action_repeat: their settings are the same"):
        collect(run, tmp_path / "data", [same])


# ---- the CSVs


def test_a_csv_is_read_as_it_was_written(tmp_path: Path):
    found = read_seed(seed_csv(tmp_path, "ours", 2, 0.5), STUDY)
    assert (found.arm, found.seed, found.pretrain_env_steps, found.env_steps) == ("ours", 2, 8000, 4000)
    assert found.score == 0.5
    np.testing.assert_array_equal(found.steps, [1000, 2000, 3000, 4000])
    np.testing.assert_array_equal(found.curve, [0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("old", "new"),
    [("evaluation", "control"), ("ours,2,abc,8000,control", "ours,3,abc,8000,control"), (",0.5,", ",1.5,")],
)
def test_a_csv_that_is_none_is_named(old: str, new: str, tmp_path: Path):
    path = seed_csv(tmp_path, "ours", 2, 0.5, env_steps=1000)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"ours-s2\.csv is not the CSV of a seed"):
        read_seed(path, STUDY)


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


def test_env_steps_are_equal_but_for_the_last_round(tmp_path: Path):
    data = study_csvs(tmp_path)
    for steps, settled in ((4003, True), (4005, False)):
        for seed in STUDY.seeds:
            seed_csv(data / "quickstart", "flat_sac", seed, 0.1, env_steps=steps, settings="arm2")
        assert ("Not settled" in page_of(data)) != settled


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
