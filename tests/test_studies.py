"""The studies in docs/results beyond the quickstart's: arms held equal, and each kind of measure, score and claim."""

import csv
import math
from pathlib import Path

import curves
import judge
import make
import numpy as np
import pytest
from claims import Gap, Ratio, SureRatio
from collect import collect
from made_up_results import a_run, seed_csv, study_csvs
from matplotlib.ticker import PercentFormatter
from seeds import last_tenth, read_seed, read_study
from settings import applied, compose, settings_of
from studies import STUDIES

HIERARCHIES = ("half_cheetah_goal", "ant_multi_goals", "point_maze")
FLAT = ("flat_sac", "flat_ppo", "action_repeat")
INK = {"text": "#000", "faint": "#777", "line": "#eee"}


# ---- the arms


def test_both_sacs_have_the_same_numbers():
    ours, theirs = (compose(STUDIES["sac"].arms[arm].experiment) for arm in ("ours", "sb3"))
    learner, agent, given = ours["learner"], ours["learner"]["agent"], theirs["controller"]["kwargs"]
    assert ours["env"] == theirs["env"] and ours["task"] is theirs["task"] is None
    assert (ours["env"]["horizon"], ours["env"]["observe"]) == (1000, ["joints", "velocities"])
    budget, use = ours["pretrain"], theirs["downstream"]
    assert budget["env_steps"] == use["env_steps"] == 100_000 and theirs["pretrain"]["env_steps"] == 0
    assert budget["updates"] / budget["collect"] == 1 / 4
    assert given["gradient_steps"] / (given["train_freq"] * theirs["env"]["num_envs"]) == 1 / 4
    assert theirs["controller"]["algorithm"] == "SAC" and theirs["controller"]["hold"] == 1
    assert learner["hidden_dims"] == given["policy_kwargs"]["net_arch"] == [128, 128]
    assert learner["batch_size"] == given["batch_size"] == 128
    assert budget["warmup"] == given["learning_starts"]
    assert (agent["lr"], agent["tau"], agent["gamma"]) == (
        given["learning_rate"], given["tau"], theirs["controller"]["gamma"],
    )  # fmt: skip
    assert agent["alpha"] is None and given["ent_coef"] == f"auto_{agent['alpha_init']}"
    assert agent["target_entropy_multiplier"] == 1  # Stable-Baselines3's "auto"


def test_from_scratch_differs_from_finetuning_only_in_what_is_kept():
    ours, scratch = (settings_of(STUDIES["finetune"].arms[arm].experiment) for arm in ("ours", "scratch"))
    changed = {key: value for key, value in scratch.items() if ours[key] != value}
    assert changed == {"pretrain.env_steps": 0, "downstream.keep": "none"} and ours.keys() == scratch.keys()
    assert ours["downstream.env_steps"] == 100_000
    assert ours["downstream.updates"] / ours["downstream.collect"] == 1 / 4


@pytest.mark.parametrize("name", HIERARCHIES)
@pytest.mark.parametrize("arm", FLAT)
def test_the_arms_of_a_hierarchy_are_equal_in_what_must_be(name: str, arm: str):
    study = STUDIES[name]
    ours, flat = compose(study.arms["ours"].experiment), compose(study.arms[arm].experiment)
    assert ours["env"] == flat["env"] and ours["task"] == flat["task"]
    assert ours["downstream"] == flat["downstream"] and ours["downstream"]["env_steps"] == 300_000
    assert ours["downstream"]["updates"] / ours["downstream"]["collect"] == 1 / 16
    assert flat["pretrain"]["env_steps"] == 0
    mine, theirs = ours["controller"], flat["controller"]
    assert mine["hidden_dims"] == theirs["hidden_dims"] == ours["learner"]["hidden_dims"]
    assert mine["obs_view"] == theirs["obs_view"] and mine["agent"]["gamma"] == theirs["agent"]["gamma"]
    assert theirs["batch_size"] >= mine["batch_size"]
    assert flat["learner"] == {"_target_": "skillrl.learners.primitive.Primitive"}
    assert (theirs["hold"] == 1) == (arm != "action_repeat")
    alike = (name, arm) == ("point_maze", "action_repeat")  # an action of the point's leads as far as a skill does
    assert theirs["hold"] == mine["hold"] if alike else theirs["hold"] < mine["hold"]


@pytest.mark.parametrize("name", HIERARCHIES)
def test_skills_are_told_apart_by_place(name: str):
    learner = compose(STUDIES[name].arms["ours"].experiment)["learner"]
    assert (learner["_target_"], learner["discriminator_view"]) == ("skillrl.learners.diayn.DIAYN", "xy")


@pytest.mark.parametrize("name", HIERARCHIES)
def test_an_untrained_arm_differs_only_in_pretraining(name: str):
    ours, untrained = (settings_of(STUDIES[name].arms[arm].experiment) for arm in ("ours", "untrained"))
    changed = {key: value for key, value in untrained.items() if ours[key] != value}
    assert changed == {"pretrain.env_steps": 0} and ours.keys() == untrained.keys()


@pytest.mark.parametrize("name", HIERARCHIES)
def test_an_on_policy_arm_takes_as_many_gradient_steps_as_the_others(name: str):
    config = compose(STUDIES[name].arms["flat_ppo"].experiment)
    agent, rollout = config["controller"]["agent"], config["controller"]["batch_size"]
    assert agent["n_epochs"] * rollout / agent["minibatch_size"] / rollout == 1 / 16
    assert rollout % agent["minibatch_size"] == 0 and rollout % config["downstream"]["collect"] == 0


def test_a_budget_that_an_arm_does_not_have_is_not_given_to_it():
    tiny = ("pretrain.env_steps=16", "downstream.env_steps=24", "env.horizon=8")
    assert applied("sac/half_cheetah", tiny) == ("pretrain.env_steps=16", "env.horizon=8")
    assert applied("sac/half_cheetah_sb3", tiny) == ("downstream.env_steps=24", "env.horizon=8")


def test_no_two_arms_of_a_study_are_drawn_alike():
    assert len(set(curves.COLOURS)) == len(curves.COLOURS) >= max(len(study.arms) for study in STUDIES.values())


# ---- collect


@pytest.mark.parametrize(
    ("name", "arm", "pretrained"),
    [("sac", "ours", 0), ("sac", "sb3", 0), ("finetune", "ours", 200_000), ("finetune", "scratch", 0)],
)
def test_the_phase_in_which_an_arm_learns_is_collected(name: str, arm: str, pretrained: int, tmp_path: Path):
    study = STUDIES[name]
    phase = study.arms[arm].phase
    run = a_run(tmp_path / "x", study.arms[arm].experiment, phase=phase, success=False)
    (path,) = collect(run, tmp_path / "data")
    assert path == tmp_path / "data" / name / f"{arm}-s0.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["env_steps"], row["success"], row["episode_return"]) for row in rows] == [
        (phase, "2000", "", "0.125"),
        ("evaluation", "2000", "", "0.75"),
    ]
    found = read_seed(path, study)
    assert (found.pretrain_env_steps, found.env_steps) == (pretrained, 2000)
    assert found.score == (0.125 if study.last_tenth else 0.75)


def test_a_success_that_is_measured_must_be_known(tmp_path: Path):
    with pytest.raises(ValueError, match=r"x has no success_rate: its task does not tell it"):
        collect(a_run(tmp_path / "x", success=False), tmp_path / "data", (), ["quickstart"])


def test_a_run_of_another_study_is_not_taken_for_one(tmp_path: Path):
    run = a_run(tmp_path / "x", "diayn/ant_multi_goals")
    assert collect(run, tmp_path / "data", (), HIERARCHIES)[0].parent.name == "ant_multi_goals"
    with pytest.raises(ValueError, match=r"x has the settings of no arm"):
        collect(run, tmp_path / "data", (), ["half_cheetah_goal"])


# ---- scores and claims


def test_the_last_tenth_is_that_of_the_env_steps(tmp_path: Path):
    path = seed_csv(tmp_path, "ours", 0, 500.0, study=STUDIES["sac"])  # rows at 1/4, 2/4, 3/4 and all of the steps
    assert read_seed(path, STUDIES["sac"]).score == 500.0
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "pretrain,4000" not in line))
    with pytest.raises(ValueError, match=r"ours-s0\.csv is not .*: no training episode ended in the last tenth"):
        read_seed(path, STUDIES["sac"])


def test_the_last_tenth_begins_after_nine_tenths():
    steps, curve = np.arange(10, 101, 10), np.arange(10.0)
    assert last_tenth(steps, curve, 100) == 9.0
    assert last_tenth(steps - 5, curve, 100) == 9.0
    assert last_tenth(np.array([90, 91, 100]), np.array([0.0, 1.0, 3.0]), 100) == 2.0


@pytest.mark.parametrize(
    ("ours", "other", "holds", "told"),
    [
        ([70.0] * 5, [100.0] * 5, True, "0.70"),
        ([69.0] * 5, [100.0] * 5, False, "0.69"),
        ([0, 0, 0, 0, 350.0], [100.0] * 5, True, "0.70"),  # of the means
        ([10.0] * 5, [-100.0] * 5, False, "none"),
        ([-10.0] * 5, [-100.0] * 5, False, "none"),
        ([-70.0] * 5, [100.0] * 5, False, "-0.70"),
    ],
)
def test_a_ratio(ours: list[float], other: list[float], holds: bool, told: str):
    found = Ratio(0.7).judge(ours, other, str)
    assert (found.holds, found.cells) == (holds, [told])


def test_a_gap_of_any_size_must_still_be_one():
    ours, other = [1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 3.0, 4.0]
    se = math.sqrt(2.5 * 2 / 5)
    found = Gap(0).judge(ours, other, "{:.1f}".format)
    assert not found.holds and found.cells == ["+1.0", "1.0", f"{1 / se:.1f}"]
    assert Gap(0).judge([10 + x for x in ours], other, str).holds
    assert not Gap(12).judge([10 + x for x in ours], other, str).holds
    assert not Gap(0).judge(other, [10 + x for x in ours], str).holds
    with pytest.raises(ValueError, match="1 and 5 seeds: too few"):
        Gap(0).judge([1.0], other, str)


def test_a_sure_ratio_is_large_enough_and_no_chance():
    other, told = [1.0, 2.0, 3.0, 4.0, 5.0], "{:.1f}".format
    assert SureRatio(1.5).judge([4 * x for x in (2.8, 2.9, 3.0, 3.1, 3.2)], other, told).holds
    by_chance, too_little = [0.0, 0.0, 0.0, 0.0, 50.0], [1.4 * 3] * 5
    assert Ratio(1.5).judge(by_chance, other, told).holds and not SureRatio(1.5).judge(by_chance, other, told).holds
    even = [3.0, 3.1, 2.9, 3.05, 2.95]
    assert Gap(0).judge(too_little, even, told).holds and not SureRatio(1.5).judge(too_little, even, told).holds
    assert "at least 1.5 times that of diayn" in SureRatio(1.5).rule("coverage", told, "that of diayn")


# ---- pages


def page_of(data: Path, name: str) -> str:
    return make.page(name, STUDIES[name], read_study(STUDIES[name], data / name))


def test_a_page_that_claims_a_ratio(tmp_path: Path):
    text = page_of(study_csvs(tmp_path, "sac", ours=4200, other=5000), "sac")
    assert "Claim: at equal env steps on the task, the mean return is at least 0.7 times that of every other" in text
    assert "**It holds.**" in text and "| SAC, Stable-Baselines3's | 0.84 | yes |" in text
    assert "| SAC, ours | 4,000 | 4,200 | 4,200 | 4,200 | 4,200 | 4,200 | 4,200 ± 0 |" in text
    assert "last tenth of the env steps" in text and "deterministic" not in text
    assert "retraining" not in text and text.count("<img") == 1


def test_a_page_whose_ratio_is_too_small(tmp_path: Path):
    text = page_of(study_csvs(tmp_path, "sac", ours=3400, other=5000), "sac")
    assert "**It does not hold** against: SAC, Stable-Baselines3's." in text and "| 0.68 | **no** |" in text


@pytest.mark.parametrize(
    ("name", "what", "row"),
    [
        ("finetune", "return", "| From scratch | 8,000 | 4,000 | 300.0 |"),
        ("ant_multi_goals", "number of env steps inside a goal", "| Flat PPO | 8,000 | 4,000 | 300.0 |"),
        ("half_cheetah_goal", "number of env steps inside the goal", "| Flat PPO | 8,000 | 4,000 | 300.0 |"),
    ],
)
def test_a_page_that_claims_a_gap_in_returns(name: str, what: str, row: str, tmp_path: Path):
    text = page_of(study_csvs(tmp_path, name, ours=700, other=300), name)
    assert f", pretraining not counted, the {what} is above that of every other arm by at least 3 pooled" in text
    assert f"{what.capitalize()} in 48 deterministic episodes after training" in text
    assert row in text and "**It holds.**" in text and "+400.0" in text


@pytest.mark.parametrize("name", ["finetune", *HIERARCHIES])
def test_a_page_whose_gap_is_noise(name: str, tmp_path: Path):
    text = page_of(study_csvs(tmp_path, name, ours=0.34, other=0.3), name)  # 2 pooled standard errors
    assert "**It does not hold** against" in text and "| 2.0 | **no** |" in text and "It holds" not in text


@pytest.mark.parametrize("name", ["sac", "finetune", *HIERARCHIES])
def test_a_page_of_an_unfinished_study(name: str, tmp_path: Path):
    data, last = study_csvs(tmp_path, name), STUDIES[name].others[-1]
    (data / name / f"{last}-s4.csv").unlink()
    text = page_of(data, name)
    assert f"**Not settled.** {STUDIES[name].arms[last].title}: no seed 4 yet." in text
    assert "| missing |  |" in text and "It holds" not in text and "not hold" not in text
    assert text.count("| not settled |") == len(STUDIES[name].others)


def test_an_arm_that_the_claim_is_not_about_does_not_keep_it_open(tmp_path: Path):
    data = study_csvs(tmp_path, "ant_multi_goals", ours=700, other=300)
    for seed in range(5):
        (data / "ant_multi_goals" / f"untrained-s{seed}.csv").unlink()
    text = page_of(data, "ant_multi_goals")
    assert "(Flat SAC, Flat PPO, SAC with action repeat)" in text and "**It holds.**" in text
    assert "| Same controller, untrained skill network |  |  | missing |" in text
    (data / "ant_multi_goals" / "flat_ppo-s0.csv").unlink()
    assert "**Not settled.**" in page_of(data, "ant_multi_goals")


# ---- figures


@pytest.mark.parametrize(
    ("name", "share", "what"),
    [
        ("quickstart", True, "Success"),
        ("sac", False, "Return"),
        ("half_cheetah_goal", False, "Env steps inside the goal"),
    ],
)
def test_only_a_share_is_drawn_in_per_cent(name: str, share: bool, what: str, tmp_path: Path):
    study = STUDIES[name]
    found = read_study(study, study_csvs(tmp_path, name, ours=4200 if not share else 0.8) / name)
    left, right = curves.learning_curves(study, found, False, INK).axes
    assert isinstance(left.yaxis.get_major_formatter(), PercentFormatter) == share
    assert (left.get_ylim() == (-0.03, 1.03)) == share and (share or left.get_ylim()[1] > 4200)
    assert left.get_title("left") == f"{what} in training"
    assert right.get_title("left") == ("Last tenth" if study.last_tenth else "Evaluation")
    dots = right.collections[0].get_offsets()[:, 1]
    assert dots.tolist() == judge.scores_of(found[study.ours])


def test_pretraining_is_drawn_where_there_is_any(tmp_path: Path):
    for name in ("sac", "finetune"):
        make.make(name, study_csvs(tmp_path / "data", name), tmp_path)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"sac.png", "finetune.png", "finetune-with-pretraining.png"} <= drawn
    assert "sac-with-pretraining.png" not in drawn
