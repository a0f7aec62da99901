"""Settings of the whole suite, and its three tiers: exact (always), learning (by ``--learning``), proof (by hand)."""

import os
import sys
from pathlib import Path

import learning_tier
import pytest
from checks import Check

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when a test first imports numpy or torch
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("WANDB_MODE", "offline")

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--learning",
        choices=("all", "none", "ci"),
        default="ci" if os.environ.get("CI") == "true" else "all",
        help="which learning tests run; ci: those whose files changed, and a third of the rest",
    )
    parser.addoption("--seeds", default="0", help="of the learning tests that take one: --seeds=0,1,2,3,4")
    parser.addoption("--keep", type=Path, help="CSV to which those tests add what they measured")
    parser.addoption("--proof", action="store_true", help="run the proof tests too: hours")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames:
        metafunc.parametrize("seed", [int(seed) for seed in metafunc.config.getoption("--seeds").split(",")])


@pytest.fixture
def check(request: pytest.FixtureRequest, seed: int) -> Check:
    """The gates of a learning test: ``tests/checks.py``."""
    arms = [
        value.__name__ if isinstance(value, type) else str(value)
        for key, value in request.node.callspec.params.items()
        if key != "seed"
    ]
    name = " ".join([request.node.originalname.removeprefix("test_").replace("_", " "), *arms])
    return Check(name, seed, request.config.getoption("--keep"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    learning = {item.nodeid: _files(item) for item in items if item.get_closest_marker("learning")}
    chosen = _choose(config.getoption("--learning"), learning)
    skipped = [
        item
        for item in items
        if (item.nodeid in learning and item.nodeid not in chosen)
        or (item.get_closest_marker("proof") and not config.getoption("--proof"))
    ]
    if skipped:
        config.hook.pytest_deselected(items=skipped)
        items[:] = [item for item in items if item not in skipped]


def _choose(how: str, learning: dict[str, list[str]]) -> set[str]:
    if how != "ci" or not learning:
        return set(learning) if how != "none" else set()
    return learning_tier.choose(learning, learning_tier.changed_files(ROOT), learning_tier.head(ROOT))


def _files(item: pytest.Item) -> list[str]:
    """What a learning test depends on: the files in its markers, and its own. A pattern that fits no file is a slip."""
    patterns = [str(pattern) for marker in item.iter_markers("learning") for pattern in marker.args]
    if not patterns:
        raise pytest.UsageError(f"{item.nodeid}: the learning marker names no file that the test depends on")
    for pattern in patterns:
        if not any(ROOT.glob(pattern.rstrip("/"))):
            raise pytest.UsageError(f"{item.nodeid}: {pattern!r} in its learning marker is no file or folder here")
    return [*patterns, item.path.relative_to(ROOT).as_posix()]
