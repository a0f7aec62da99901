"""Which learning tests run, given what changed and the commit."""

import subprocess
from pathlib import Path

import learning_tier
import pytest

pytest_plugins = "pytester"

TESTS = {f"tests/test_{i}.py::test_it": [f"skillrl/learners/l{i}.py", "skillrl/agents/"] for i in range(300)}


def test_a_changed_file_runs_its_tests_and_a_third_of_the_rest():
    chosen = learning_tier.choose(TESTS, ["skillrl/learners/l7.py", "README.md"], "c0ffee")
    assert "tests/test_7.py::test_it" in chosen
    assert 75 < len(chosen) < 125


def test_a_changed_folder_runs_all_that_name_it():
    assert learning_tier.choose(TESTS, ["skillrl/agents/sac.py"], "c0ffee") == set(TESTS)


def test_the_third_is_the_same_for_a_commit_and_comes_round_over_commits():
    draws = [learning_tier.choose(TESTS, [], f"commit {i}") for i in range(30)]
    assert draws[0] == learning_tier.choose(TESTS, [], "commit 0") != draws[1]
    assert set().union(*draws) == set(TESTS)


def test_without_history_all_run():
    assert learning_tier.choose(TESTS, None, "") == set(TESTS)


@pytest.mark.parametrize(
    ("file", "pattern", "touched"),
    [
        ("skillrl/agents/sac.py", "skillrl/agents/sac.py", True),
        ("skillrl/agents/sac.py", "skillrl/agents", True),
        ("skillrl/agents/sac.py", "skillrl/*/sac.py", True),
        ("skillrl/agents_old/sac.py", "skillrl/agents", False),
        ("skillrl/agents/sac.py", "skillrl/agents/sac", False),
    ],
)
def test_patterns(file: str, pattern: str, touched: bool):
    assert learning_tier.touches([file], [pattern]) is touched


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


def commit(root: Path, name: str) -> str:
    (root / name).write_text(name)
    git(root, "add", name)
    git(root, "commit", "-q", "-m", name)
    return git(root, "rev-parse", "HEAD")


def test_the_last_green_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI_LAST_GREEN", raising=False)
    assert learning_tier.changed_files(tmp_path) is None  # no git
    git(tmp_path, "init", "-q")
    first = commit(tmp_path, "a")
    assert learning_tier.changed_files(tmp_path) is None  # nothing before it
    commit(tmp_path, "b")
    assert learning_tier.changed_files(tmp_path) == ["b"]  # the commit before
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    commit(tmp_path, "c")
    commit(tmp_path, "d")
    assert learning_tier.changed_files(tmp_path) == ["c", "d"]  # since the branch left main
    monkeypatch.setenv("CI_LAST_GREEN", first)
    assert learning_tier.changed_files(tmp_path) == ["b", "c", "d"]
    monkeypatch.setenv("CI_LAST_GREEN", "0" * 40)
    assert learning_tier.changed_files(tmp_path) is None  # not in this clone: nobody knows


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Our conftest over three tests, one of each tier."""
    monkeypatch.delenv("CI", raising=False)
    tests = pytester.mkdir("tests")
    for name in ("conftest.py", "learning_tier.py"):
        (tests / name).write_text(Path(__file__).with_name(name).read_text())
    (tests / "test_tiers.py").write_text(
        "import pytest\n"
        "def test_exact(): pass\n"
        "@pytest.mark.learning('tests/conftest.py')\ndef test_learning(): pass\n"
        "@pytest.mark.proof\ndef test_proof(): pass\n"
    )
    pytester.makeini("[pytest]\nmarkers =\n    learning(*files): .\n    proof: .\n")
    return pytester


@pytest.mark.parametrize(
    ("options", "passed"),
    [([], 2), (["--learning=none"], 1), (["--learning=all", "--proof"], 3), (["--learning=ci"], 2)],
)
def test_the_tiers(suite: pytest.Pytester, options: list[str], passed: int):
    suite.runpytest_inprocess("tests", *options).assert_outcomes(passed=passed, deselected=3 - passed)


def test_a_marker_that_fits_no_file_is_an_error(suite: pytest.Pytester):
    path = suite.path / "tests" / "test_tiers.py"
    path.write_text(path.read_text().replace("tests/conftest.py", "skillrl/learners/dyan.py"))
    result = suite.runpytest_inprocess("tests")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'skillrl/learners/dyan.py' in its learning marker is no file or folder here*"])
