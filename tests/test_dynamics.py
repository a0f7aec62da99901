"""docs/results/dynamics.py: what it runs, what it measures, and the page made of it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import dynamics
import dynamics_page
import hydra
import numpy as np
import pytest
from dynamics_page import BODIES, PHASES, SEEDS, name_of, read_all, read_seed, views_of, write_seed
from omegaconf import OmegaConf
from settings import compose
from studies import DATA, RESULTS, ROOT

from skillrl import skill_library
from skillrl.evaluation.theme import INK

TINY = ["pretrain.env_steps=640", "pretrain.warmup=160", "learner.hidden_dims=[8,8]"]
SNAPSHOTS = ["snapshots=[1,320,640]", "logger.every=160"]

# ---- what is committed


def test_the_committed_page_is_made_from_the_committed_numbers(tmp_path: Path):
    page, figures = RESULTS / "dynamics.md", {path.name for path in (RESULTS / "figures").glob("dynamics-*.png")}
    if not list((DATA / "dynamics").glob("*.csv")):
        assert not page.exists() and not figures
        return
    assert dynamics_page.make(DATA, tmp_path).read_text() == page.read_text()
    assert figures == {path.name for path in (tmp_path / "figures").iterdir()}
    assert all((RESULTS / "figures" / name).stat().st_size > 1000 for name in figures)


def test_the_committed_numbers_have_the_settings_of_the_experiment():
    for views in read_all(DATA / "dynamics").values():
        for one in (one for seeds in views.values() for one in seeds.values()):
            assert one.settings == dynamics.fingerprint(dynamics.wanted(one.body, one.view, ()))


# ---- what is run


@pytest.mark.parametrize("body", BODIES)
def test_the_experiment_is_for_any_body(body: str):
    config = compose(dynamics.EXPERIMENT, (f"env={body}",))
    assert config["env"]["_target_"].startswith(f"envs.{body}.")
    assert config["pretrain"]["env_steps"] == config["snapshots"][-1] == config["pretrain"]["capacity"] == 300_000
    assert config["pretrain"]["updates"] / config["pretrain"]["collect"] == 1 / 16
    assert np.diff(config["snapshots"][1:]).tolist() == [50_000] * 5
    # the first round's snapshot comes before the first update
    assert config["snapshots"][0] <= config["pretrain"]["collect"] < config["pretrain"]["warmup"]


def test_of_the_papers_settings_only_the_number_of_skills_is_another():
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        papers: Any = OmegaConf.to_container(hydra.compose("train", ["learner=diayn"]).learner, resolve=True)
    ours = compose(dynamics.EXPERIMENT)["learner"]
    assert ours == papers | {"skill_space": papers["skill_space"] | {"n": 8}} != papers


def parsed(tmp_path: Path, *more: str) -> Any:
    return dynamics.parse(["run", "--out", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), *more])


def test_all_bodies_views_and_seeds_are_run_and_each_is_evaluated_at_once(tmp_path: Path):
    jobs = dynamics.plan(parsed(tmp_path))
    trained, evaluated = jobs[::2], jobs[1::2]
    assert [job.needs for job in evaluated] == trained
    names = [job.name for job in trained]
    assert len(names) == len(set(names)) == (2 * len(BODIES) - 1) * len(SEEDS)  # the point has one view
    assert names[: len(BODIES)] == [f"{body}-s0" for body in BODIES]
    ant = next(job for job in trained if job.name == "ant-xy-s2")
    assert {"env=ant", "learner.discriminator_view=xy", "seed=2", "evaluate=false"} <= set(ant.command())


def test_what_was_begun_is_resumed_and_what_has_its_csv_is_left_out(tmp_path: Path):
    given = ["--bodies", "ant", "hopper", "--views", "xy", "--seeds", "1", "--", *TINY]
    first, evaluation, *_ = dynamics.plan(parsed(tmp_path, *given))
    begin(first)
    assert first.command()[-1] == f"resume={first.folder}"
    assert evaluation.status() == "new"
    made_up(evaluation.csv.parent, "ant", "xy", 1, settings=fingerprint_of("ant", "xy"))
    assert evaluation.status() == "finished"
    assert [job.name for job in dynamics.plan(parsed(tmp_path, *given))] == ["hopper-xy-s1", "hopper-xy-s1-evaluation"]


def test_other_settings_are_named_and_not_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["--bodies", "ant", "--views", "xy", "--seeds", "1"]
    begin(dynamics.plan(parsed(tmp_path, *given, "--", *TINY))[0])
    where = ["run", "--out", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert dynamics.main([*where, *given]) == 2
    assert "ant-xy-s1 was run with other settings, take it away: learner.hidden_dims is" in capsys.readouterr().err
    made_up(tmp_path / "data" / "dynamics", "ant", "xy", 1, settings="abc")
    assert dynamics.main([*where, *given]) == 2
    assert "ant-xy-s1.csv was made with other settings" in capsys.readouterr().err


def test_tiny_runs_stay_out_of_the_committed_numbers():
    with pytest.raises(SystemExit):
        dynamics.parse(["run", "--", "pretrain.env_steps=16"])


def fingerprint_of(body: str, view: str) -> str:
    return dynamics.fingerprint(dynamics.wanted(body, view, TINY))


def begin(job: Any) -> None:
    """Its folder, as a run that was killed leaves it."""
    config = compose(dynamics.EXPERIMENT, (*dynamics.choices(job.body, job.view), *job.given))
    job.folder.mkdir(parents=True)
    (job.folder / "config.yaml").write_text(json.dumps(config | {"seed": job.seed}))  # JSON is YAML
    (job.folder / "run.json").write_text(json.dumps({"status": "running"}))


# ---- a whole run


@pytest.mark.learning("docs/results/dynamics*.py", "skillrl/evaluation", "conf/experiment/diayn", "skillrl/run.py")
def test_a_run_becomes_a_csv_of_the_projects_own_numbers(tmp_path: Path):
    where = ["--out", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    asked = ["run", "--bodies", "point", "--seeds", "2", "--jobs", "1", *where, "--", *TINY, *SNAPSHOTS]
    assert dynamics.main(asked) == 0
    run, seed = tmp_path / "runs" / "point-s2", read_seed(tmp_path / "data" / "dynamics" / "point-s2.csv")
    assert skill_library.about(run / "skills" / "16")["about"]["grad_steps"] == 0

    def steps(column: str) -> list[int]:
        return seed.curves[column][0].tolist()

    assert steps("state_coverage") == [16, 320, 640]
    assert steps("intrinsic_reward") == [160, 320, 480, 640]

    # what eval.py says of the run, and of each snapshot
    scores = json.loads((run / "eval" / "metrics.json").read_text())
    for name in PHASES["evaluation"]:
        assert seed.end(name) == scores[name]
    for name in PHASES["untrained"]:
        assert seed.untrained[name] == scores[f"{name}_untrained"]
    evaluation = dynamics.spawn_seeds(2)["evaluation"]
    same = dynamics.measure(run, skill_library.load(run), evaluation)
    assert same == {name: scores[name] for name in PHASES["evaluation"]}
    early = dynamics.measure(run, skill_library.load(run / "skills" / "16"), evaluation)
    assert [seed.curves[name][1][0] for name in early] == list(early.values())

    # what the training wrote, to the digit; and nothing is run again
    rows = [row for row in dynamics.read_curves(run / "metrics.csv") if row["reward/intrinsic"]]
    assert seed.curves["intrinsic_reward"][1].tolist() == [float(row["reward/intrinsic"]) for row in rows]
    assert not dynamics.plan(dynamics.parse(asked))


# ---- the CSVs


def made_up(folder: Path, body: str, view: str, seed: int, *, settings: str = "abc") -> Path:
    """Reward 0.1, 0.2, 0.3 over 1000, 2000, 3000; the evaluations rise with the seed."""
    constant = {"body": body, "view": view, "seed": str(seed), "settings": settings, "num_skills": "8"}
    constant["coverage_cell"] = "0.25"
    training = [
        {"phase": "training", "env_steps": str(1000 * i), "discriminator_accuracy": "0.5", "intrinsic_reward": f"0.{i}"}
        for i in (1, 2, 3)
    ]
    evaluations = [
        {
            "phase": "evaluation",
            "env_steps": str(steps),
            "discriminability": str(share + seed / 100),
            "state_coverage": str(10 * (i + 1) + seed),
            "displacement_median": "1.5",
            "discriminability_permuted": "0.125",
            "effective_skills": "3.14",
        }
        for i, (steps, share) in enumerate([(16, 0.25), (3000, 0.75)])
    ]
    fresh = {"discriminability": f"0.{seed + 1}", "state_coverage": "7.0", "displacement_median": "0.5"}
    path = folder / f"{name_of(body, view, seed)}.csv"
    rows = [*training, *evaluations, {"phase": "untrained", "env_steps": "0", **fresh}]
    write_seed(path, [constant | row for row in rows])
    return path


def test_a_csv_is_read_as_it_was_written(tmp_path: Path):
    seed = read_seed(made_up(tmp_path, "swimmer", "xy", 2))
    assert (seed.body, seed.view, seed.seed, seed.num_skills, seed.cell) == ("swimmer", "xy", 2, 8, 0.25)
    np.testing.assert_array_equal(seed.curves["intrinsic_reward"], [[1000, 2000, 3000], [0.1, 0.2, 0.3]])
    np.testing.assert_array_equal(seed.curves["state_coverage"], [[16, 3000], [12, 22]])
    assert seed.untrained == {"discriminability": 0.3, "state_coverage": 7.0, "displacement_median": 0.5}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("swimmer,xy", "swimmer,all"),  # not the view that its name says
        ("untrained", "evaluation"),
        ("0.2,", ","),  # a row without its number
        ("swimmer,xy,2,abc,8,0.25,training,1000", "swimmer,xy,1,abc,8,0.25,training,1000"),
    ],
)
def test_a_csv_that_is_none_is_named(old: str, new: str, tmp_path: Path):
    path = made_up(tmp_path, "swimmer", "xy", 2)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"swimmer-xy-s2\.csv is not the CSV of a seed"):
        read_seed(path)


def test_seeds_of_different_settings_are_not_thrown_together(tmp_path: Path):
    made_up(tmp_path, "ant", "all", 0)
    made_up(tmp_path, "ant", "xy", 0, settings="def")  # another view has others
    read_all(tmp_path)
    made_up(tmp_path, "ant", "all", 1, settings="def")
    with pytest.raises(ValueError, match=r"ant-s1\.csv and ant-s0\.csv were made with different settings"):
        read_all(tmp_path)


# ---- the page


def test_the_page_tells_every_seed_and_what_is_missing(tmp_path: Path):
    for body in BODIES:
        for view in views_of(body):
            for seed in SEEDS:
                made_up(tmp_path, body, view, seed)
    text = dynamics_page.page(read_all(tmp_path))
    assert "Missing" not in text and "3,000 env steps" in text
    assert text.count("| all of the observation |") == 7 * 3 and text.count("| x,y alone |") == 6 * 3
    assert "| x,y alone | 2 | 0.500 | 0.30 | 0.770 / 0.300 | 0.125 | 22 / 7.0 | 1.50 / 0.50 | 3.1 |" in text
    assert "Coverage, cells of 0.25" in text and "Effective skills of 8" in text
    assert re.findall("^## (.*)$", text, re.M) == [*BODIES.values(), "How this page was made"]
    for path in (*tmp_path.glob("humanoid-*.csv"), tmp_path / "ant-xy-s1.csv"):
        path.unlink()
    text = dynamics_page.page(read_all(tmp_path))
    lost = (
        "Ant, x,y alone (seed 1); Humanoid, all of the observation (seed 0, 1, 2); Humanoid, x,y alone (seed 0, 1, 2)"
    )
    assert f"**Missing:** {lost}." in text
    assert "## Humanoid" not in text and text.count("| x,y alone |") == 5 * 3 - 1


def test_each_seed_is_a_line_over_the_untrained_and_the_bounds(tmp_path: Path):
    for view in ("all", "xy"):
        for seed in SEEDS:
            made_up(tmp_path, "ant", view, seed)
    figure = dynamics_page.figure_of(read_all(tmp_path)["ant"], INK["light"])
    told, paid, covered = ([np.asarray(line.get_xydata()) for line in axes.lines] for axes in figure.axes)
    assert [len(lines) for lines in (told, paid, covered)] == [6 + 2, 6 + 1, 6 + 1]
    np.testing.assert_allclose(told[2], [[16, 0.27], [3000, 0.77]])
    np.testing.assert_allclose(paid[5], [[1000, 0.1], [2000, 0.2], [3000, 0.3]])
    np.testing.assert_allclose(covered[1], [[16, 11], [3000, 21]])
    levels = [lines[-1][0, 1] for lines in (told[:-1], told, paid, covered)]
    np.testing.assert_allclose(levels, [0.2, 1 / 8, math.log(8), 7])  # 0.2: of 0.1, 0.2, 0.3
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert len(set(colours[:3])) == len(set(colours[3:6])) == 1 and colours[0] != colours[3]


def test_page_and_figures_are_written(tmp_path: Path):
    made_up(tmp_path / "data" / "dynamics", "point", "all", 0)
    assert dynamics.main(["page", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 0
    (linked,) = re.findall('src="(.*?)"', (tmp_path / "out" / "dynamics.md").read_text())
    for file in (tmp_path / "out" / linked, (tmp_path / "out" / linked).with_suffix(".dark.png")):
        assert file.read_bytes().startswith(b"\x89PNG")


def test_no_data_is_an_error_that_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert dynamics.main(["page", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "run python docs/results/dynamics.py run" in capsys.readouterr().err
