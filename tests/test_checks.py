"""The gates of the learning tests, and the page that is made of what they measured."""

import csv
from pathlib import Path

import checks_page
import learners_page
import pytest
from checks import Check


def test_a_gate_that_does_not_hold_fails_and_says_what_was_measured():
    check = Check("metra", 0, None)
    check({"radius": (8.0, ">= 8"), "error": (0.0, "< 0.1")})
    with pytest.raises(AssertionError, match=r"'radius': '7.5, not >= 8'"):
        check({"radius": (7.5, ">= 8"), "error": (0.0, "< 0.1")})


def test_what_was_measured_is_kept_also_where_it_failed_and_once_a_seed(tmp_path: Path):
    kept = tmp_path / "data" / "checks.csv"
    for seed, radius in ((1, 9.5), (0, 7.0), (0, 7.25)):
        check = Check("metra", seed, kept)
        try:
            check({"radius": (radius, ">= 8")})
        except AssertionError:
            assert radius < 8
    rows = list(csv.DictReader(kept.open(newline="")))
    assert [(row["seed"], row["value"], row["gate"]) for row in rows] == [("0", "7.25", ">= 8"), ("1", "9.5", ">= 8")]
    assert "| metra | radius | >= 8 | **7.25** | 9.5 |" in checks_page.page(rows)


def test_the_committed_page_is_made_from_the_committed_numbers():
    assert checks_page.PAGE.exists() == checks_page.DATA.exists()
    if not checks_page.DATA.exists():
        return
    with checks_page.DATA.open(newline="") as file:
        assert checks_page.PAGE.read_text() == checks_page.page(list(csv.DictReader(file)), checks_page.CLAIMS)


def test_what_a_mechanism_adds_is_judged_over_the_seeds():
    rows = [
        {"check": check, "measure": "m", "seed": str(seed), "value": str(level + 0.1 * (seed % 2))}
        for check, level in (("x X", 1.0), ("x off", 0.5))
        for seed in range(5)
    ]
    made = [checks_page.Added("x", ("x X", "m"), ("x off", "m"), effect=effect) for effect in (0.4, 0.6)]
    assert [checks_page.told(one, rows) for one in made] == [
        "| x | 1.04 ± 0.024 | 0.54 ± 0.024 | 0.5 | 0.4 | 14.4 | yes |\n",
        "| x | 1.04 ± 0.024 | 0.54 ± 0.024 | 0.5 | 0.6 | 14.4 | **no** |\n",
    ]
    without_effect = checks_page.Added("x", ("x off", "m"), ("x X", "m"))
    assert checks_page.told(without_effect, rows).endswith("| -0.5 | – | -14.4 | **no** |\n")
    fewer = checks_page.Added("x", ("x off", "m"), ("x X", "m"), less=True)
    assert checks_page.told(fewer, rows) == "| x | 0.54 ± 0.024 | 1.04 ± 0.024 | 0.5 | – | 14.4 | yes |\n"
    with pytest.raises(ValueError, match="4 and 5 seeds are kept, too few"):
        checks_page.told(made[0], rows[1:])


@pytest.mark.parametrize("kind", [Check, dict])
def test_a_check_is_named_by_its_test_and_its_arm(kind: type, seed: int, check: Check):
    assert check.name == f"a check is named by its test and its arm {kind.__name__}" and check.seed == seed


def test_the_committed_table_of_learners_is_made_from_code_docs_and_numbers():
    assert learners_page.PAGE.read_text() == learners_page.made(), "python docs/results/learners_page.py makes it anew"


def test_an_objective_ends_where_its_explanation_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learners_page, "ROOT", tmp_path)
    text = '"""X.\n\nObjective: max I(S; Z)\nso that |z| = 1 (eq. 3): far. More.\n\nOther."""'
    (tmp_path / "x.py").write_text(text)
    assert learners_page.objective(Path("x.py")) == "max I(S; Z) so that \\|z\\| = 1 (eq. 3)"


def test_a_check_counts_its_own_arm_and_names_the_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learners_page, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(
        "def test_x_on_a_line(kind):\n    pass\n\n\ndef test_far_away():\n    pass\n"
    )
    kept = [
        ("x on a line X", "0.9"),
        ("x on a line X", "0.7"),
        ("x on a line Permuted", "0.1"),
        ("x on a line no margin", "0.1"),
        ("x on a line 20", "0.1"),
        ("x on a liner X", "0"),
        ("xy on a line XY", "1"),
    ]
    rows = [{"check": name, "measure": "m", "value": value, "gate": ">= 0.8"} for name, value in kept]
    alone = {"check": "far away", "measure": "n", "value": "1", "gate": "< 2"}
    told, twins = learners_page.checked(Path("skillrl/learners/x.py"), [*rows, alone])
    assert told == "[`tests/test_x.py`](../../tests/test_x.py). m: 1 of 2; n: 1 of 1" and twins == "Permuted, no margin"
    assert learners_page.checked(Path("skillrl/learners/y.py"), rows) == ("", "")
