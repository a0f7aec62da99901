"""docs/results/board.py: what it runs, what it keeps, and the page made of it."""

import subprocess
import sys
from pathlib import Path

import board
import board_page
import numpy as np
import pytest
from board_seeds import BODIES, PATHS, POINTS, SCORES, name_of, paths_of, read_all, read_seed, write_seed
from omegaconf import OmegaConf
from settings import compose
from studies import DATA, RESULTS, ROOT

from skillrl.errors import BadInput
from skillrl.settings import fingerprint

ENTRIES = [(body, learner) for body in BODIES for learner in BODIES[body].learners or board.LEARNERS]


def entry(body: str, learner: str, folder: Path = Path("nowhere")) -> board.Entry:
    return board.Entry(name_of(body, learner, 0), 0, board.experiment_of(body, learner), folder, None, body, learner)


def test_the_committed_page_is_made_from_the_committed_numbers(tmp_path: Path):
    page, figures = RESULTS / "board.md", {path.name for path in (RESULTS / "figures").glob("board-*.png")}
    if not list((DATA / "board").glob("*.csv")):
        assert not page.exists() and not figures
        return
    assert board_page.make(DATA, tmp_path).read_text() == page.read_text()
    assert figures == {path.name for path in (tmp_path / "figures").iterdir()}


def test_the_committed_numbers_have_the_settings_of_the_experiments():
    for learners in read_all(DATA / "board").values():
        for one in (one for seeds in learners.values() for one in seeds):
            assert one.settings == fingerprint(entry(one.body, one.learner).wanted(()))


@pytest.mark.parametrize(("body", "learner"), ENTRIES)
def test_the_learners_stand_on_equal_terms(body: str, learner: str):
    config = compose(board.experiment_of(body, learner), (f"learner={learner}",))
    budget, own = config["pretrain"], config["learner"]
    assert own["_target_"].rpartition(".")[0].startswith("skillrl.learners.")
    assert config["env"]["_target_"] == OmegaConf.load(ROOT / f"conf/env/{BODIES[body].env}.yaml")["_target_"]
    assert budget["env_steps"] == BODIES[body].env_steps
    assert own["hidden_dims"] == ([64, 64] if body == "sides" else [256, 256])
    if learner != "valor":  # which learns from whatever is fresh
        updates = budget["updates"] * own.get("agent_updates", 1)
        transitions = own["batch_size"] * own.get("length", 1)  # of sequences
        assert updates / budget["collect"] == 1 / 32 and transitions == 256
    assert f"learner={learner}" in entry(body, learner).command(())


def made_up(
    folder: Path, learner: str, seed: int, settings: str = "5e77", body: str = "half_cheetah", **scores: float
) -> Path:
    constant = {"body": body, "learner": learner, "seed": str(seed), "settings": settings}
    told = dict.fromkeys(SCORES, 1.0) | {"goal_distance": None} | scores
    rows = [{"phase": "end", "env_steps": "64", **{k: repr(v) for k, v in told.items() if v is not None}}]
    rows += [{"phase": "training", "env_steps": str(n), "visited": str(n // 8)} for n in (32, 64)]
    rows += [
        {
            "phase": "path",
            "path": str(n),
            "hue": "0.5",
            "env_steps": str(t),
            "x": str(0.5 * t),
            "y": str(n) if body == "point" else "",
        }
        for n in range(2)
        for t in (0, 10)
    ]
    path = folder / "board" / f"{name_of(body, learner, seed)}.csv"
    write_seed(path, [constant | row for row in rows])
    return path


def test_a_seed_is_read_as_it_was_written(tmp_path: Path):
    one = read_seed(made_up(tmp_path, "metra", 1, visited=8.0, goal_distance=0.25))
    assert (one.body, one.learner, one.seed) == ("half_cheetah", "metra", 1)
    assert one.scores["visited"] == 8.0 and one.scores["goal_distance"] == 0.25
    assert one.training[1].tolist() == [4.0, 8.0]
    assert [(hue, places.tolist()) for hue, places in one.paths] == [(0.5, [[0.0, 0.0], [10.0, 5.0]])] * 2


def test_a_seed_is_run_and_collected_from_a_shell(tmp_path: Path):
    """As its own process: what it imports must be found without our own path."""
    of = ["--bodies", "point", "--learners", "metra_discrete", "--seeds", "0", "--jobs", "1"]
    tiny = ["pretrain.env_steps=2016", "learner.skill_space.n=2", "learner.hidden_dims=[8,8]"]
    command = [sys.executable, board.__file__, "run", *of, "--out", tmp_path / "out", "--data", tmp_path, "--", *tiny]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    one = read_seed(tmp_path / "board" / f"{name_of('point', 'metra_discrete', 0)}.csv")
    assert one.scores["goal_distance"] > 0 and one.scores["num_skills"] == 2


def test_a_learner_that_is_not_of_the_body_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert board.main(["run", "--bodies", "sides", "--learners", "metra", "--out", str(tmp_path)]) == 2
    assert "--learners metra: sides has masd" in capsys.readouterr().err


def test_the_page_shows_every_seed_and_names_what_is_missing(tmp_path: Path):
    for seed in (0, 2):
        made_up(tmp_path, "metra", seed, visited=10.0 + seed, goal_distance=0.5)
    made_up(tmp_path, "diayn", 0)
    made_up(tmp_path, "csf", 0, body="point")
    text = board_page.make(tmp_path, tmp_path / "out").read_text()
    assert "| 10, 12 |" in text and "0.50, 0.50" in text
    assert "300,000 env steps, metra: seed 1" in text and "300,000 env steps, diayn: seed 1, 2" in text
    assert "1,000,000 env steps: no run yet" in text and "Point, 50,000 env steps: no run yet" not in text
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == {
        f"board-{what}{dark}.png"
        for what in ("half_cheetah-paths", "half_cheetah-coverage", "point-paths")  # of one learner there is no ranking
        for dark in ("", ".dark")
    }


def test_the_claim_is_judged_by_every_seed_and_not_before(tmp_path: Path):
    """METRA's cells are twice DIAYN's: it holds. CSF's are 1.4 times: surely more, and yet not enough."""
    cells = {"diayn": 10.0, "metra": 20.0, "csf": 14.0}
    for seed in range(4):
        for learner, mean in cells.items():
            made_up(tmp_path, learner, seed, body="half_cheetah_2m", state_coverage=mean + 0.1 * (seed - 2))
    text = board_page.make(tmp_path, tmp_path / "out").read_text()
    assert text.count("not settled: seeds are missing") == 2 and "begins late" not in text
    for learner, mean in cells.items():
        made_up(tmp_path, learner, 4, body="half_cheetah_2m", state_coverage=mean + 0.2)
    text = board_page.make(tmp_path, tmp_path / "out").read_text()
    assert "| metra | 2.00 | +10.0 | 0.1 | 100.0 | yes |" in text
    assert "| csf | 1.40 | +4.0 | 0.1 | 40.0 | **no** |" in text and "it begins late" in text


def test_seeds_of_other_settings_are_not_mixed(tmp_path: Path):
    made_up(tmp_path, "metra", 0)
    made_up(tmp_path, "metra", 1, settings="other")
    with pytest.raises(BadInput, match="metra on half_cheetah were made with different settings"):
        read_all(tmp_path / "board")
    (tmp_path / "board" / "point-metra-s0.csv").write_text("x\n")
    with pytest.raises(BadInput, match=r"point-metra-s0\.csv is not the CSV of a seed"):
        read_seed(tmp_path / "board" / "point-metra-s0.csv")


def test_a_skill_has_a_hue(tmp_path: Path):
    discrete = {"z": np.array([4, 0, 4, 2])}
    assert [board.hue(discrete, row) for row in range(4)] == pytest.approx([2 / 3, 0, 2 / 3, 1 / 3])
    continuous = {"z": np.array([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]], dtype=np.float32)}
    assert [board.hue(continuous, row) for row in range(3)] == pytest.approx([0, 0.25, 0.75])


def test_paths_are_thinned_to_the_rollouts_own_length(tmp_path: Path):
    (tmp_path / "eval").mkdir()
    places = np.cumsum(np.ones((48, 51, 2), np.float32), 1)
    arrays = {"coordinates": places, "length": np.full(48, 30), "spread": np.arange(48), "z": np.arange(48)}
    np.savez(tmp_path / "eval" / "trajectories.npz", **arrays)
    rows = board.paths(tmp_path, BODIES["point"])
    assert len(rows) == PATHS * POINTS
    assert (rows[0]["x"], rows[POINTS - 1]["x"], rows[POINTS - 1]["env_steps"]) == ("1.000", "31.000", "30")
    assert rows[0]["y"] == "1.000"


def test_paths_are_drawn_of_every_skill(tmp_path: Path):
    """Two skills, dealt in turn: every second rollout is of the same one."""
    (tmp_path / "eval").mkdir()
    arrays = {"coordinates": np.zeros((48, 51, 4)), "length": np.full(48, 50), "spread": np.arange(48)}
    np.savez(tmp_path / "eval" / "trajectories.npz", **arrays, z=np.arange(48) % 2)
    drawn = {row["path"]: row["hue"] for row in board.paths(tmp_path, BODIES["sides"])}
    assert sorted(drawn.values()) == ["0.000"] * (PATHS // 2) + ["0.500"] * (PATHS // 2)


def test_paths_on_a_line_are_drawn_over_time(tmp_path: Path):
    """Its coordinates have a y of 0, which is no place."""
    (tmp_path / "eval").mkdir()
    places = np.zeros((24, 51, 2), np.float32)
    places[..., 0] = 0.5 * np.arange(51)
    arrays = {"coordinates": places, "length": np.full(24, 50), "spread": np.arange(24), "z": np.arange(24)}
    np.savez(tmp_path / "eval" / "trajectories.npz", **arrays)
    rows = board.paths(tmp_path, BODIES["half_cheetah"])
    (_, places_over_time), *others = paths_of(rows)
    assert len(others) == PATHS - 1
    assert places_over_time[[0, -1]].tolist() == [[0.0, 0.0], [50.0, 25.0]]
