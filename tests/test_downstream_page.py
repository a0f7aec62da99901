"""The matrix of control over skills: what its page says of CSVs that nobody measured, and that it is up to date."""

from pathlib import Path

import downstream
import pytest
from made_up_results import seed_csv, study_csvs
from studies import STUDIES

from skillrl.errors import BadInput


def matrix(tmp_path: Path, **means: float) -> Path:
    for name in downstream.TASKS:
        unit = 0.01 if STUDIES[name].measure.share else 1.0
        scores = {arm: unit * mean for arm, mean in {"ours": 90.0, "other": 30.0, **means}.items()}
        data = study_csvs(tmp_path, name, **scores)
    return data


def text_of(data: Path) -> str:
    return downstream.page(downstream.columns(data))


def test_the_committed_page_is_made_from_the_committed_numbers(tmp_path: Path):
    assert downstream.make(out=tmp_path).read_text() == (downstream.RESULTS / "downstream.md").read_text()


def test_every_arm_and_task_has_its_number(tmp_path: Path):
    text = text_of(matrix(tmp_path, flat_sac=10.0))
    assert "| DIAYN | 90.0 ± 0.0 | 90.0 ± 0.0 | 0.900 ± 0.014 |" in text
    assert "| Flat SAC | 10.0 ± 0.0 | 10.0 ± 0.0 | 0.100 ± 0.014 |" in text
    for name in downstream.TASKS:
        assert f"({name}.md)" in text
    assert "| DIAYN | HalfCheetah, a goal on its line | +80.0" in text


def test_a_claim_is_judged_against_flat_and_untrained_alone(tmp_path: Path):
    name = "half_cheetah_goal"
    row = "| DIAYN | HalfCheetah, a goal on its line |"
    data = study_csvs(tmp_path / "a", name, ours=90, other=30, action_repeat=200.0)
    assert next(line for line in text_of(data).splitlines() if line.startswith(row)).endswith("| yes |")
    data = study_csvs(tmp_path / "b", name, ours=90, other=30, untrained=95.0)
    assert next(line for line in text_of(data).splitlines() if line.startswith(row)).endswith("| **no** |")
    (data / name / "untrained-s3.csv").unlink()
    text = text_of(data)
    assert next(line for line in text.splitlines() if line.startswith(row)).endswith("| not settled | not settled |")
    assert "| Untrained skill network | 95.0 95.0 95.0 95.0 (of 5) |" in text


def test_what_was_not_run_is_said(tmp_path: Path):
    name = "half_cheetah_goal"
    seed_csv(tmp_path / name, "ours", 0, 50.0, study=STUDIES[name])
    text = text_of(tmp_path)
    assert "| Flat SAC | not run |" in text and "| DIAYN | 50.0 (of 5) |" in text
    assert "ant_multi_goals" not in text
    with pytest.raises(BadInput, match="no task of the matrix has data"):
        text_of(tmp_path / "nothing")


def test_the_figure_is_drawn_for_both_pages(tmp_path: Path):
    path = downstream.make(matrix(tmp_path / "data"), tmp_path / "out")
    for line in path.read_text().splitlines():
        if 'src="' in line:
            assert (path.parent / line.split('src="')[1].split('"')[0]).stat().st_size > 5000
    assert (tmp_path / "out" / "figures" / "downstream.dark.png").is_file()
