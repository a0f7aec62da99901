"""Comparing runs: by config, with nothing left out in silence, and nothing claimed from too few seeds."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared_runs import copy_run

import eval as eval_script
import train as train_script
from skillrl.comparison import compare, figures, text, write_comparison
from skillrl.comparison.groups import group, names
from skillrl.comparison.runs import LeftOut, Scored
from skillrl.comparison.tables import each_seed
from skillrl.evaluation.statistics import estimate
from skillrl.evaluation.theme import INK

LIGHT = INK["light"]
TINY = ["pretrain.env_steps=160", "pretrain.warmup=80", "learner.hidden_dims=[8]", "learner.batch_size=8"]
TINY += ["learner.skill_space.n=2", "env.horizon=10", "logger.every=40"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained and evaluated."""
    folder = tmp_path_factory.mktemp("real") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *TINY, f"hydra.run.dir={folder}"])
        assert train_script.main() == 0
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """eval.py in this process, somewhere else: exit code, what it said, what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setattr(sys, "argv", ["eval.py", *arguments])
        capsys.readouterr()
        code = eval_script.main()
        assert not list((tmp_path / "elsewhere").iterdir())
        return code, *capsys.readouterr()

    return run


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ---- from the command line


def test_two_hundred_runs_are_told_apart_by_their_configs(real: Path, tmp_path: Path, call: Any):
    """40 groups of 5 seeds, in folders whose names say nothing, at different depths."""
    value = {}
    for i in np.random.default_rng(0).permutation(200).tolist():
        seed, n, rate = i % 5, 2 ** (i // 5 % 4 + 1), 1e-4 * (i // 20 + 1)
        value[n, rate, seed] = n + rate + 0.01 * seed**2
        config = {"learner.skill_space.n": n, "learner.discriminator_lr": rate}
        place = tmp_path / "sweep" / (f"{i}" if i % 2 else f"deeper/{i}")
        copy_run(real, place, seed=seed, config=config, scores={"return_mean": value[n, rate, seed]})
    code, said, _ = call(f"runs={tmp_path}/sweep/*")
    assert code == 0 and said.startswith("200 runs in 40 groups\n")
    assert said.splitlines()[-1] == f"comparison: {tmp_path / 'sweep' / 'comparison' / 'comparison.html'}"
    found = [row for row in rows_of(tmp_path / "sweep" / "comparison") if row["metric"] == "return_mean"]
    assert len(found) == 200
    told = {(row["name"], int(row["seed"])): float(row["value"]) for row in found}
    assert told == {
        (f"learner.skill_space.n={n}, learner.discriminator_lr={rate}", seed): score
        for (n, rate, seed), score in value.items()
    }
    page = (tmp_path / "sweep" / "comparison" / "comparison.md").read_text()
    assert "curves and profiles of more than 12 groups" in page and "curves and profiles of more" in said
    middle = 2 + 1e-4 + 0.01 * (1 + 4 + 9) / 3  # of 0, 1, 4, 9, 16 the middle three
    assert f"| A | learner.skill_space.n=2, learner.discriminator_lr=0.0001 | 5 | {middle:.3g} [" in page


def test_what_is_not_counted_is_named(real: Path, tmp_path: Path, call: Any):
    runs = tmp_path / "runs"
    for seed in (0, 1, 2):
        copy_run(real, runs / f"a{seed}", seed=seed, scores={"return_mean": 1.5 + seed})
        copy_run(real, runs / f"b{seed}", seed=seed, config={"learner.skill_space.n": 4})
    copy_run(real, runs / "a3", seed=3, status="running")
    copy_run(real, runs / "a4", seed=4, status="failed")
    copy_run(real, runs / "twin", seed=1, scores={"return_mean": 99.0}, started="2030-01-02T00:00:00+00:00")
    (copy_run(real, runs / "b5", seed=5, config={"learner.skill_space.n": 4}) / "eval" / "metrics.json").unlink()
    (copy_run(real, runs / "broken", seed=6) / "config.yaml").write_text("- 1")
    copy_run(real, runs / "c0", seed=0, config={"learner.skill_space.n": 8}, status="stopped")
    (runs / "b2" / "run.json").unlink()  # not a run
    code, said, _ = call(f"runs={runs}", f"out={tmp_path / 'out'}")
    assert code == 0 and said.startswith("5 runs in 3 groups, 6 left out")
    page = (tmp_path / "out" / "comparison.md").read_text()
    html = (tmp_path / "out" / "comparison.html").read_text()
    for note in (
        f"left out: {runs / 'a3'} is not finished but running",
        f"left out: {runs / 'a4'} is not finished but failed",
        f"left out: {runs / 'c0'} is not finished but stopped",
        f"left out: {runs / 'b5'} is not evaluated: python eval.py run={runs / 'b5'}",
        f"left out: {runs / 'twin'} is seed 1 once more: {runs / 'a1'} was started first",
        f"left out: {runs / 'broken'} is its record cannot be read",
        "missing: B (learner.skill_space.n=4) has no seed 2",
        "missing: C (learner.skill_space.n=8) has no seed 0, 1, 2",
    ):
        assert note in said and note in page and note in html
    found = rows_of(tmp_path / "out")
    assert {(row["group"], row["seed"]) for row in found} == {
        ("A", "0"),
        ("A", "1"),
        ("A", "2"),
        ("B", "0"),
        ("B", "1"),
    }
    assert [row["value"] for row in found if row["metric"] == "return_mean" and row["group"] == "A"] == [
        "1.5", "2.5", "3.5"
    ]  # fmt: skip
    assert "missing" in page and "[" not in text(compare(str(runs))[0]).split("left out:")[0]


def test_every_number_and_figure_is_there_and_nothing_is_asked_of_the_network(real: Path, tmp_path: Path):
    for seed in range(5):
        copy_run(real, tmp_path / "runs" / str(seed), seed=seed)
    comparison, out = write_comparison(str(tmp_path / "runs" / "**"), tmp_path / "out")
    assert [one.name for one in comparison.groups] == ["learner=diayn, env=point"]
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"{stem}{theme}.png" for stem in ("scores", "pretrain_curves", "profiles") for theme in ("", ".dark")
    }
    html, page = (out / "comparison.html").read_text(), (out / "comparison.md").read_text()
    assert html.count("data:image/png;base64,") == 6 and "http" not in html.replace("http-equiv", "")
    for metric in ("state_coverage", "discriminability_untrained", "return_mean", "chance", "episode_length"):
        assert f"### {metric}\n" in page and metric in comparison.metrics
    for path in (line.split('"')[1] for line in page.splitlines() if "<img" in line):
        assert (out / path).is_file()


def test_nothing_finished_is_an_error_in_one_line(real: Path, tmp_path: Path, call: Any):
    copy_run(real, tmp_path / "runs" / "a", status="stopped")
    code, _, complaint = call(f"runs={tmp_path}/runs/*")
    (line,) = complaint.splitlines()
    assert code == 2 and line.startswith("error: runs=")
    assert f"of 1 runs none can be counted; {tmp_path / 'runs' / 'a'} is not finished but stopped" in complaint
    copy_run(real, tmp_path / "runs" / "b")
    code, _, complaint = call(f"runs={tmp_path}/runs/*", f"out={tmp_path}/runs/b")
    assert code == 2 and "is a run: name another folder" in complaint


# ---- groups


def test_what_does_not_matter_makes_no_group(real: Path, tmp_path: Path):
    same = [
        {"runtime.workers": 4, "runtime.threads": 2}, {"logger.every": 7}, {"evaluate": False}, {"snapshots": [8]},
        {"checkpoint_every": 5}, {"env.workers": 3}, {"learner.discriminator_noise": 0},
    ]  # fmt: skip
    for seed, config in enumerate(same):
        copy_run(real, tmp_path / str(seed), seed=seed, config=config)
    copy_run(real, tmp_path / "other", config={"learner.hold": 5})
    comparison, _ = compare(str(tmp_path / "*"))
    assert [(one.name, sorted(one.seeds)) for one in comparison.groups] == [
        ("learner.hold=5", [0]), ("learner.hold=null", list(range(len(same)))),
    ]  # fmt: skip


def test_loaded_skills_are_what_they_were_trained_as(real: Path, tmp_path: Path):
    """Two runs that load skills of different learners have the same config, but are not the same."""
    folders = {}
    for n in (2, 4):
        folders[n] = copy_run(real, tmp_path / "skills" / str(n), config={"learner.skill_space.n": n})
        (folders[n] / "skills").mkdir()
        told = (real / "skills" / "config.json").read_text().replace('"n": 2', f'"n": {n}')
        (folders[n] / "skills" / "config.json").write_text(told)
        for seed in (0, 1):
            place = tmp_path / "uses" / f"{n}-{seed}"
            copy_run(real, place, seed=seed, config={"skills": str(folders[n]), "learner.batch_size": 512})
    copy_run(real, tmp_path / "uses" / "own", seed=2)
    copy_run(real, tmp_path / "uses" / "lost", seed=3, config={"skills": "/nowhere/at.all"})
    comparison, _ = compare(str(tmp_path / "uses" / "*"))
    assert {one.name: sorted(one.seeds) for one in comparison.groups} == {
        "learner=/nowhere/at.all": [3],
        "learner=diayn, learner.skill_space.n=2": [0, 1, 2],
        "learner=diayn, learner.skill_space.n=4": [0, 1],
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{"a.n": 4, "b": 1}, {"a.n": 16, "b": 1}], ["a.n=4", "a.n=16"]),
        (
            [
                {"learner._target_": "skillrl.learners.diayn.DIAYN", "learner.lr": 0.1, "learner.noise": 0.0},
                {"learner._target_": "x.y.HalfMetra", "learner.lr": 0.2, "learner.dim": 2},
                {"learner._target_": "x.y.HalfMetra", "learner.lr": 0.2, "learner.dim": 4},
            ],
            ["learner=diayn", "learner=half_metra, learner.dim=2", "learner=half_metra, learner.dim=4"],
        ),
        (
            [{"task": None}, {"task._target_": "envs.goal.PointGoal", "task.goals": 8}],
            ["task=null", "task=point_goal"],
        ),
        ([{"env._target_": "a.Env"}, {"env._target_": "b.Env"}], ["env=a.Env", "env=b.Env"]),
        ([{"x": 1, "new": 2}, {"x": 1}], ["new=2", "new=not set"]),
        ([{"x": [3, 4.0], "y": True}, {"x": [3, 5], "y": True}], ["x=[3,4]", "x=[3,5]"]),
    ],
)
def test_names_are_what_differs(settings: list[dict], expected: list[str]):
    assert names(settings) == expected


# ---- what is drawn and told


def scored(n: int, seed: int, level: float, **scores: float) -> Scored:
    rows = [
        {"env_steps": str(step), "phase": "pretrain", "episode/return": str(level), "time/s": "1", "alpha/v": "3"}
        for step in range(100, 1100, 100)
    ]
    return Scored(Path(f"{n}-{seed}"), seed, {"n": n}, "", {"return_mean": level} | scores, rows)


def made_up(seeds: int) -> Any:
    """Two groups; seed i of the first scores i, of the second 10 + i."""
    return group([scored(n, seed, 10.0 * n + seed) for n in (0, 1) for seed in range(seeds)])


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_curves_show_every_seed_and_an_interval_only_from_five_on(seeds: int):
    comparison = made_up(seeds)
    found = figures.curves_of(comparison, "pretrain")
    assert list(found) == ["episode/return"]  # no times, and nothing that never moves
    (axes,) = (one for one in figures.learning_curves(comparison, found, LIGHT).axes if one.get_visible())
    levels = sorted({float(np.asarray(line.get_ydata())[0]) for line in axes.lines})
    assert levels == sorted([*map(float, range(seeds)), *(10.0 + i for i in range(seeds))])
    assert len(axes.collections) == (2 if seeds >= 5 else 0)  # bands
    assert len(axes.lines) == 2 * seeds + (2 if seeds >= 5 else 0)
    assert [text.get_text() for text in axes.texts] == ["A", "B"]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_scores_show_every_seed_and_an_interval_only_from_five_on(seeds: int):
    axes = figures.scores(made_up(seeds), LIGHT).axes[0]
    dots = [sorted(np.asarray(cloud.get_offsets())[:, 0].tolist()) for cloud in axes.collections]
    assert dots == [[float(i) for i in range(seeds)], [10.0 + i for i in range(seeds)]]
    marks = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    expected = estimate(np.arange(5.0))
    assert expected is not None
    assert marks[:2] == ([[expected.low, expected.high], [2.0, 2.0]] if seeds >= 5 else [])


def test_profiles_fall_from_all_to_none_at_the_seeds_scores():
    axes = figures.profiles(made_up(3), LIGHT).axes[0]
    for line, first in zip(axes.lines, (0, 10), strict=True):
        taus, shares = (np.asarray(values) for values in line.get_data())
        assert shares[0] == 1.0 and shares[-1] == 0.0
        for i, share in ((0.5, 2 / 3), (1.5, 1 / 3)):
            assert shares[np.searchsorted(taus, first + i)] == pytest.approx(share)


def test_seeds_that_ended_at_different_steps_are_compared_where_all_were():
    grid, values = figures.over_seeds(
        [(np.array([1, 2, 3, 4]), np.array([0.0, 1, 2, 3])), (np.array([2, 4, 5]), np.array([3.0, 5, 9]))]
    ) or (None, None)
    assert grid.tolist() == [2, 3, 4] and values.tolist() == [[1, 2, 3], [3, 4, 5]]
    assert figures.over_seeds([(np.array([1]), np.array([0.0])), (np.array([2]), np.array([0.0]))]) is None


def test_letters_keep_their_distance_and_their_order():
    moved = figures.spread([0.5, 0.5, 0.1, 1.0], gap=0.2, low=0.0, high=1.0)
    assert np.argsort(moved, kind="stable").tolist() == [2, 0, 1, 3]
    assert np.diff(sorted(moved)).min() > 0.199 and min(moved) >= -0.1 and max(moved) <= 1.1


def test_a_diverged_seed_counts_and_is_named():
    comparison = group([scored(0, seed, float("nan") if seed == 3 else float(seed)) for seed in range(5)])
    head, (row,) = each_seed(comparison, "return_mean")
    assert head[2:] == ["seed 0", "seed 1", "seed 2", "seed 3", "seed 4", "IQM [95 %]"]
    assert row[2:] == ["0", "1", "2", "nan", "4", ""]
    assert any("return_mean of seed 3 is nan" in note for note in comparison.notes())
    figures.scores(comparison, LIGHT)
    figures.profiles(comparison, LIGHT)


def test_the_terminals_table_folds():
    runs = [scored(n, 0, 1.0, success_rate=0.25, discriminability=0.5, state_coverage=7) for n in (0, 1)]
    wide, narrow = text(group(runs)), text(group(runs), 40)
    assert any("success rate" in line and "state coverage" in line for line in wide.splitlines())
    assert all(len(line) <= 40 for line in narrow.splitlines())
    for number in ("0.25", "0.5", "7"):
        assert narrow.count(f" {number}") >= 2


def test_the_first_started_of_two_is_counted():
    early, late = scored(0, 0, 1.0), scored(0, 0, 2.0)
    object.__setattr__(early, "started", "2030-01-01")
    object.__setattr__(late, "started", "2030-01-02")
    object.__setattr__(late, "folder", Path("0"))
    comparison = group([late, early, LeftOut(Path("x"), "no run")])
    assert comparison.groups[0].points("return_mean") == [1.0]
    assert [run.folder.name for run in comparison.left_out] == ["0", "x"]
