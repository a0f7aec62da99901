"""What is declared is what is used, what is pinned is what is declared, and the README says what CI does."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import skillrl

ROOT = Path(__file__).parents[1]
DISTRIBUTION = {"yaml": "pyyaml", "PIL": "pillow"}  # where a module is called otherwise than what is installed
LOADED_BY_NAME = {"omegaconf", "tensorboard", "stable-baselines3"}  # with hydra, by torch, by configs
LOADED_BY_NAME |= {"hydra-joblib-launcher", "joblib"}  # by hydra


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What setup.py hands to setuptools."""
    seen: dict = {}
    monkeypatch.setattr(setuptools, "setup", seen.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return seen


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def imported_distributions() -> set[str]:
    files = [*(ROOT / "skillrl").rglob("*.py"), *(ROOT / "envs").rglob("*.py"), ROOT / "train.py", ROOT / "eval.py"]
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    foreign = names - set(sys.stdlib_module_names) - {"skillrl", "envs", "train", "eval"}
    return {canonicalize_name(DISTRIBUTION.get(name, name)) for name in foreign}


def test_pins_lie_within_the_declared_ranges(declared: dict):
    asked = [*declared["install_requires"], *(line for extra in declared["extras_require"].values() for line in extra)]
    for requirement in map(Requirement, asked):
        assert pins()[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_pin_is_exact_and_every_line_a_constraint():
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line), line


def test_what_is_imported_is_declared_and_the_other_way_round(declared: dict):
    # hydra-core installs ``hydra``
    names = {canonicalize_name(Requirement(line).name) for line in declared["install_requires"]}
    names = {"hydra" if name == "hydra-core" else name for name in names}
    used = imported_distributions()
    assert used - names <= LOADED_BY_NAME
    assert names - used <= LOADED_BY_NAME


def test_every_package_is_found_and_the_version_is_one(declared: dict):
    folders = {path.parent.relative_to(ROOT) for name in ("skillrl", "envs") for path in (ROOT / name).rglob("*.py")}
    assert {str(folder).replace("/", ".") for folder in folders} == set(declared["packages"])
    assert declared["version"] == skillrl.__version__


def test_ci_runs_the_commands_of_the_readme():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for command in ("pip install -q -c requirements.txt -e .", "pip install -q -c requirements.txt -e '.[dev]'"):
        assert command in ci and command.replace(" -q", "") in readme
    [test_command] = re.findall(r"^pytest.*$", ci, re.MULTILINE)
    assert test_command in readme
