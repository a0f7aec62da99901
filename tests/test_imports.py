"""Imports point one way: every module's imports, read from its source, against the table that the design fixes."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import skillrl

ROOT = Path(__file__).parents[1]

NETWORKS = ["spec", "skill_spaces", "distributions", "moments", "layers", "networks"]
POLICIES = [*NETWORKS, "skill_policy", "selector"]  # these two stand at the level of networks
FOUNDATION = [*POLICIES, "aggregators", "estimators", "optim"]
DATA = ["data", "data.*"]
CONTRACTS = ["learners.base", "controllers.base"]  # the loop knows the contract, never an algorithm
ON_TOP = [
    *[*FOUNDATION, *DATA, "evaluation", "evaluation.*", "skill_library"],
    *["training", "checkpoint", "loggers", "runtime"],
]
RECORDS = ["learners.base", "atomic", "errors", "signals", "record"]
LOOP = [*FOUNDATION, *DATA, "learners.base", "training", "checkpoint", "loggers", "runtime"]

WITH_MODELS = ["agents", "agents.*", "models", "models.*"]
USED = ["agents", "agents.*", "skill_choice"]  # by a use that trains skills further

# module pattern → what of skillrl it may import; the first pattern that matches counts
ALLOWED: dict[str, list[str]] = {
    "": [],
    "spec": [],
    "skill_spaces": ["spec"],
    "distributions": [],
    "moments": [],
    "aggregators": ["spec"],
    "layers": [],
    "networks": ["spec", "skill_spaces", "distributions", "layers"],
    "estimators": [*NETWORKS, "optim"],
    "skill_policy": NETWORKS,
    "selector": NETWORKS,
    "optim": [],
    "runtime": [],
    "console": [],
    "loggers*": ["console", "loggers.*"],
    "agents*": [*FOUNDATION, "agents", "agents.*"],
    "models*": [*POLICIES, "models", "models.*"],
    "atomic": [],
    "errors": [],
    "signals": ["errors"],
    "record": ["atomic", "config", "errors", "runtime", "skill_library"],
    "resume": ["config", "errors"],
    "settings": ["config"],
    "cores": ["config", "errors"],
    "sweep": ["errors", "signals"],
    "skill_library": [*POLICIES, "atomic"],
    "data*": [*POLICIES, *DATA, "atomic"],
    "offline": [*FOUNDATION, *DATA, "learners.base", "errors"],
    "composition*": [*POLICIES, *DATA, "models", "models.*", "skill_library", "composition", "composition.*"],
    "learners*": [*FOUNDATION, *WITH_MODELS, "learners.base"],
    "controllers.mixed": [*POLICIES, "agents", "agents.*", "composition.mixed", "controllers.rl"],
    "controllers*": [*FOUNDATION, *WITH_MODELS, "composition", "composition.*", *CONTRACTS],
    "evaluation.foresight": [*POLICIES, *DATA, "models", "models.*"],
    "evaluation*": [*FOUNDATION, *DATA, "skill_library", "evaluation", "evaluation.*"],
    "comparison*": [
        *["record", "settings", "config", "atomic", "errors", "skill_library", "evaluation", "evaluation.*"],
        *["comparison", "comparison.*"],
    ],
    "training": [*FOUNDATION, *DATA, *CONTRACTS, "evaluation", "evaluation.*", "loggers", "runtime"],
    "operations": [],
    "noted": ["spec", "operations"],
    "cpu_graph": [*LOOP, "noted", "operations"],
    "cuda_graph": [*LOOP],
    "checkpoint": [*FOUNDATION, *DATA, "training", "atomic"],
    "skill_choice": [],
    "downstream*": [*ON_TOP, *CONTRACTS, *USED, "composition", "composition.*", "downstream", "downstream.*", "errors"],
    "config": ["skill_library", "errors", "runtime"],
    "precision": [*LOOP, "cpu_graph", "cuda_graph"],
    "phase": [*LOOP, "precision", "errors", "signals", "offline"],
    "run": [*ON_TOP, "phase", "config", "cores", "downstream", *RECORDS],
}
# package → the only files that may import it, at whatever depth of the file
ONLY_IN = {
    "hydra": ["train.py", "eval.py"],
    "omegaconf": ["train.py", "eval.py"],
    "wandb": ["skillrl/loggers/wandb.py"],
    "tensorboard": ["skillrl/loggers/tensorboard.py"],
    "stable_baselines3": ["skillrl/controllers/sb3.py", "skillrl/composition/sb3_vec_env.py"],
}


def imported(source: str, package: str) -> set[str]:
    """Every module that ``source`` imports, anywhere in it; ``package`` is where its relative imports start.

    ``from a import b`` counts as ``a.b``, which is ``a`` or the module ``a.b``: the rules hold for either reading.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{prefix}.{alias.name}" for alias in node.names}
    return found


def module_name(path: Path) -> str:
    """skillrl/agents/sac.py → agents.sac; a package is called by its folder."""
    parts = path.relative_to(ROOT / "skillrl").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def resolve(name: str, modules: set[str]) -> str:
    """``skillrl.spec.Field`` → spec: the longest prefix that is a module of ours."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in modules:
        parts.pop()
    return ".".join(parts)


def allowed_for(module: str) -> list[str]:
    for pattern, allowed in ALLOWED.items():
        stem = pattern.rstrip("*")
        if module == stem or (pattern.endswith("*") and module.startswith(stem + ".")):
            return allowed
    raise AssertionError(f"skillrl.{module} stands nowhere in the import rule: say in ALLOWED what it may import")


def inner_violations(module: str, source: str, package: str, modules: set[str]) -> list[str]:
    """The modules of skillrl that ``module`` imports and may not."""
    allowed = allowed_for(module)
    ours = {resolve(name, modules) for name in imported(source, package) if name.split(".")[0] == "skillrl"}
    return sorted(name for name in ours - {module} if not any(fnmatch(name, pattern) for pattern in allowed))


def outer_violations(file: str, source: str, package: str) -> list[str]:
    """Third parties and neighbours that this file of the repository must not import."""
    parts = {part for name in imported(source, package) for part in (name.split(".")[0], _tensorboard(name)) if part}
    bad = {name for name in parts & set(ONLY_IN) if file not in ONLY_IN[name]}
    if file.startswith("skillrl/"):
        bad |= parts & {"envs"}
    if file.startswith("envs/"):
        bad |= parts & {"skillrl", "torch"}
    return sorted(bad)


def _tensorboard(name: str) -> str:
    return "tensorboard" if name.startswith("torch.utils.tensorboard") else ""


SKILLRL = sorted((ROOT / "skillrl").rglob("*.py"))
FILES = [*SKILLRL, *sorted((ROOT / "envs").rglob("*.py")), *(ROOT / name for name in ("train.py", "eval.py"))]
MODULES = {module_name(path) for path in SKILLRL}


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts[:-1])


@pytest.mark.parametrize("path", SKILLRL, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    assert inner_violations(module_name(path), path.read_text(), package_of(path), MODULES) == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.exists()], ids=lambda path: str(path.relative_to(ROOT))
)
def test_third_parties_stay_where_they_belong(path: Path):
    assert outer_violations(str(path.relative_to(ROOT)), path.read_text(), package_of(path)) == []


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that are left when those that import nothing which is left are taken away, again and again."""
    left = dict(graph)
    while ready := [module for module, imports in left.items() if not (imports - {module}) & left.keys()]:
        for module in ready:
            del left[module]
    return sorted(left)


def test_no_module_imports_itself_by_a_detour():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    names = {module_name(path): imported(path.read_text(), package_of(path)) for path in SKILLRL}
    graph = {
        module: {resolve(name, MODULES) for name in found if name.startswith("skillrl.")}
        for module, found in names.items()
    }
    assert sum(map(len, graph.values())) > len(SKILLRL)  # the walk does find imports
    assert cycle(graph) == []


@pytest.mark.parametrize(
    ("module", "source", "bad"),
    [
        ("agents.sac", "from skillrl.learners.base import Learner", ["learners.base"]),
        ("learners.metra", "from skillrl.learners.diayn import DIAYN", ["learners.diayn"]),
        ("learners.metra", "from .diayn import DIAYN", ["learners.diayn"]),
        ("learners.metra", "from . import diayn", ["learners.diayn"]),
        ("learners.metra", "def f():\n    import skillrl.training", ["training"]),
        ("learners.metra", "from skillrl.learners.base import Learner\nfrom skillrl.agents import sac", []),
        ("learners", "from skillrl.learners.diayn import DIAYN", ["learners.diayn"]),
        ("controllers.planner", "from skillrl.controllers.rl import RL", ["controllers.rl"]),
        ("controllers.planner", "from skillrl.composition.skill_env import SkillEnv", []),
        ("spec", "from skillrl import networks", ["networks"]),
        ("training", "from skillrl.learners.diayn import DIAYN", ["learners.diayn"]),
        ("training", "from skillrl import train", [""]),
    ],
)
def test_the_rule_sees_what_breaks_it(module: str, source: str, bad: list[str]):
    known = {
        *["", "spec", "networks", "training", "agents", "agents.sac", "learners", "learners.base", "learners.diayn"],
        *["learners.metra", "controllers.rl", "controllers.planner", "composition.skill_env"],
    }
    package = "skillrl." + module.rpartition(".")[0] if "." in module else "skillrl"
    assert inner_violations(module, source, package, known) == bad


@pytest.mark.parametrize(
    ("file", "source", "bad"),
    [
        ("skillrl/agents/sac.py", "import hydra.utils", ["hydra"]),
        ("train.py", "import hydra", []),
        ("skillrl/training.py", "def f():\n    from torch.utils.tensorboard import SummaryWriter", ["tensorboard"]),
        ("skillrl/training.py", "from torch.utils import tensorboard", ["tensorboard"]),
        ("skillrl/loggers/wandb.py", "import wandb", []),
        ("skillrl/evaluation/report.py", "import envs.ant", ["envs"]),
        ("envs/ant.py", "import torch.nn\nfrom skillrl.spec import Spec", ["skillrl", "torch"]),
        ("skillrl/controllers/sb3.py", "import stable_baselines3", []),
        ("train.py", "import stable_baselines3", ["stable_baselines3"]),
    ],
)
def test_the_third_party_rule_sees_what_breaks_it(file: str, source: str, bad: list[str]):
    assert outer_violations(file, source, file.rpartition("/")[0].replace("/", ".")) == bad


def test_a_module_without_a_place_is_an_error():
    with pytest.raises(AssertionError, match=r"skillrl\.utils stands nowhere"):
        allowed_for("utils")


def test_import_skillrl_is_light():
    heavy = ["torch", "numpy", "gymnasium", "hydra", "wandb", "matplotlib", "rich"]
    code = f"import sys, skillrl; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", skillrl.__all__)
def test_lazy_exports_are_there(name: str):
    assert getattr(skillrl, name).__name__ == name


def test_an_unknown_export_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = skillrl.nothing
