"""The settings that the runs of an experiment have: those of ``skillrl.settings``, composed anew."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import hydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from studies import ROOT

from skillrl.config import Config, complete
from skillrl.settings import settings

BUDGETS = ("pretrain.env_steps", "downstream.env_steps")


@cache
def compose(experiment: str, overrides: tuple[str, ...] = ()) -> Config:
    """The config that ``train.py experiment=... <overrides>`` would run now. For reading alone."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = hydra.compose("train", [f"experiment={experiment}", *overrides])
    return complete(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]


def applied(experiment: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """Those that leave an arm what it is: a budget that its experiment does not have, or has at 0, stays as it is."""
    own = settings(compose(experiment))
    return tuple(one for one in overrides if (key := one.split("=")[0]) not in BUDGETS or own.get(key))


def composes(experiment: str, overrides: Sequence[str]) -> bool:
    """Whether the experiment has the keys that are overridden."""
    try:
        compose(experiment, applied(experiment, overrides))
    except ConfigCompositionException:
        return False
    return True


def settings_of(experiment: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings that a run of the experiment has, with the ``overrides`` that apply to it."""
    return settings(compose(experiment, applied(experiment, overrides)))


def shorten(phrases: Sequence[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(phrases) - most} more" if len(phrases) > most else ""
    return "; ".join(phrases[:most]) + more
