"""All learners at a glance: the page learners.md, from docs/learners.md, the code, its YAML and data/checks.csv.

python docs/results/learners_page.py
"""

import ast
import csv
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from checks_page import DATA, RELATIONS, RESULTS

ROOT = RESULTS.parents[1]
PAGE = RESULTS / "learners.md"
HEAD = """# Learners at a glance

Of each learner in `conf/learner/`: what it maximises, in its file's own words; over which z, with which agent, by which
reward; and its check, that is how many seeds' gates held beside its twins ([what was measured](checks.md)). Where no
twin is named, one of the measures has it in it. Baselines have no check of their own here. What they know and how they
are used is told in [learners](../learners.md).
"""
FOOT = """
    python docs/results/learners_page.py
"""


def page(told: dict[str, list[str]], checks: list[dict[str, str]]) -> str:
    lines = [HEAD, "| Learner | Paper | Objective | z | Reward | Agent | Check | Twins |", "| --- " * 8 + "|"]
    for path in sorted((ROOT / "conf/learner").glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        module = config["_target_"].rpartition(".")[0]
        file = Path(*module.split(".")).with_suffix(".py")
        paper, z, reward = told.get(path.stem, ["", "", ""])[:3]
        name = f"[`{path.stem}`](../../{file.as_posix()})"
        cells = [name, paper, objective(file), space(config) or z, reward, agent(config), *checked(file, checks)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + FOOT


def told_of(page: str) -> dict[str, list[str]]:
    """learner → paper, z, reward and what it knows, as docs/learners.md has it in its table."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, flags=re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}


def objective(file: Path) -> str:
    """What the file's docstring says behind ``Objective:``, to the end of the sentence or of what explains it."""
    text = ast.get_docstring(ast.parse((ROOT / file).read_text())) or ""
    found = re.search(r"^Objective: (.*?)(?:\n\n|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    if found is None:
        return ""
    return re.split(r"(?<!eq)(?<!eqs)(?:: |:$|\. |\.$)", " ".join(found[1].split()))[0].replace("|", "\\|")


def space(config: dict[str, Any]) -> str:
    """The skill space by its class, with what it counts."""
    found = config.get("skill_space")
    if not isinstance(found, dict):
        return ""
    values = ", ".join(f"{key}={value}" for key, value in found.items() if key != "_target_")
    return f"{found['_target_'].rpartition('.')[2]}({values})"


def agent(config: dict[str, Any]) -> str:
    """The option of conf/agent that it takes, by the class of that."""
    options = [value for entry in config.get("defaults", []) if isinstance(entry, dict)
               for key, value in entry.items() if "agent@" in key]  # fmt: skip
    return ", ".join(dict.fromkeys(class_of(option) for option in options)) or "its own"


def class_of(option: str) -> str:
    """What conf/agent/<option>.yaml builds, or what it is a variant of."""
    config = yaml.safe_load((ROOT / f"conf/agent/{option}.yaml").read_text())
    if "_target_" in config:
        return config["_target_"].rpartition(".")[2]
    return class_of(next(entry for entry in config["defaults"] if isinstance(entry, str) and entry != "_self_"))


def checked(file: Path, checks: list[dict[str, str]]) -> tuple[str, str]:
    """Of ``tests/test_<file>``: per gate of its own arm how many seeds held, and the names of the twins.

    A check is named by its test and, where that has several, by its arm; the learner's own is called as it is, or is
    the only one, or has no name.
    """
    test = Path("tests", f"test_{file.stem}.py")
    if not (ROOT / test).exists():
        return "", ""
    names = [name.replace("_", " ") for name in re.findall(r"^def test_(\w+)\(", (ROOT / test).read_text(), re.M)]
    own: dict[str, list[bool]] = {}
    twins: dict[str, None] = {}
    for row in checks:
        name = next((name for name in names if f"{row['check']} ".startswith(f"{name} ")), None)
        if name is None:
            continue
        arm = row["check"].removeprefix(name).strip()
        if not arm or re.sub(r"\W", "", arm).lower() == file.stem.replace("_", ""):
            relation, limit = row["gate"].split()
            own.setdefault(row["measure"], []).append(RELATIONS[relation](float(row["value"]), float(limit)))
        elif arm != "None" and not arm[0].isdigit():  # these are values that were tried
            twins[arm] = None
    told = "; ".join(f"{measure}: {sum(held)} of {len(held)}" for measure, held in own.items())
    return ". ".join(filter(None, [f"[`{test}`](../../{test})", told])), ", ".join(twins)


def made() -> str:
    rows: Iterable[dict[str, str]] = csv.DictReader(DATA.read_text().splitlines()) if DATA.exists() else ()
    return page(told_of((ROOT / "docs/learners.md").read_text()), list(rows))


def main() -> int:
    PAGE.write_text(made())
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
