"""The settings of a run: what its results depend on, as opposed to where and how it was computed."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from skillrl.config import Config, complete

NOT_SETTINGS = ("seed", "skills", "evaluate", "checkpoint_every", "snapshots", "runtime", "logger")
LATER = {
    "data": None,
    "pretrain.grad_steps": None,
    "learner.normalize_obs": False,
    "runtime.precision": "float32",
    "downstream.choice_hold": 300,
    "learner.squash": True,
}
"""Keys that came after the first results, each with the value at which a run is what it was without them."""
MISSING = "not set"


def settings(config: Config) -> dict[str, Any]:
    """What of a run's config its results depend on, by dotted key. Of ``runtime`` that is the precision alone."""
    whole = complete(config)
    leaves = dict(_leaves({key: value for key, value in whole.items() if key not in NOT_SETTINGS}))
    leaves["runtime.precision"] = whole.get("runtime", {}).get("precision", LATER["runtime.precision"])
    return {key: value for key, value in leaves.items() if not (key in LATER and value == LATER[key])}


def _leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield where, node
        return
    for key, value in node.items():
        if key != "workers":  # the processes that step an env change nothing in it
            yield from _leaves(value, f"{where}.{key}" if where else str(key))


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """One phrase for each key that is not as wanted."""
    return [
        f"{key} is {found.get(key, MISSING)}, not {wanted.get(key, MISSING)}"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key, MISSING) != wanted.get(key, MISSING)
    ]


def fingerprint(found: dict[str, Any]) -> str:
    """Eight hex digits that stand for the settings."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]
