"""The settings of a run: what its results depend on, as opposed to where and how it was computed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import hydra
from omegaconf import OmegaConf
from studies import ROOT

from skillrl.config import Config, complete

NOT_SETTINGS = ("seed", "skills", "evaluate", "checkpoint_every", "snapshots", "runtime", "logger")
BUDGETS = ("pretrain.env_steps", "downstream.env_steps")
LATER = ("data", "pretrain.grad_steps")
"""Keys that came after the first results: a run in which they are null has the settings that it had without them."""
MISSING = "not set"


@cache
def compose(experiment: str, overrides: tuple[str, ...] = ()) -> Config:
    """The config that ``train.py experiment=... <overrides>`` would run now. For reading alone."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = hydra.compose("train", [f"experiment={experiment}", *overrides])
    return complete(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]


def applied(experiment: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """Those that leave an arm what it is: a budget that its experiment sets to 0 stays 0."""
    own = settings(compose(experiment))
    return tuple(one for one in overrides if not (one.split("=")[0] in BUDGETS and own[one.split("=")[0]] == 0))


def settings_of(experiment: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings that a run of the experiment has, with the ``overrides`` that apply to it."""
    return settings(compose(experiment, applied(experiment, overrides)))


def settings(config: Config) -> dict[str, Any]:
    """What of a run's config its results depend on, by dotted key."""
    leaves = dict(_leaves({key: value for key, value in complete(config).items() if key not in NOT_SETTINGS}))
    return {key: value for key, value in leaves.items() if not (key in LATER and value is None)}


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


def shorten(phrases: Sequence[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(phrases) - most} more" if len(phrases) > most else ""
    return "; ".join(phrases[:most]) + more


def fingerprint(found: dict[str, Any]) -> str:
    """Eight hex digits that stand for the settings."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]
