"""What a saved config may be given anew: the machine, the logger, a larger budget."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from skillrl.config import Config, located
from skillrl.errors import BadInput


def change(config: Config, override: str, conf: Path) -> bool:
    """Apply one ``key=value`` in place. conf: where option files are. Returns whether it is a larger budget.

    Errors: BadInput for any other key, and for a budget that shrinks.
    """
    key, _, text = override.partition("=")
    group, _, rest = key.partition(".")
    value = _read(override, text)
    if key == "runtime.precision" and value != (old := config["runtime"]["precision"]):
        raise BadInput(f"{override}: this run learns in {old}, and with resume it goes on so")
    if key in ("runtime", "logger"):
        file = conf / key / f"{value}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
            raise BadInput(f"{override}: {key} can be {known}")
        _set(config, key, yaml.safe_load(file.read_text()))
    elif group in ("runtime", "logger") and rest in config[group]:
        _set(config, group, config[group] | {rest: value})
    elif key in budgets(config):
        return _grow(config[group], rest, value, key)
    else:
        known = ", ".join(("runtime", "logger", *budgets(config)))
        raise BadInput(f"{override}: with resume, only {known} can be given anew")
    return False


def budgets(config: Config) -> tuple[str, ...]:
    """The keys of the budgets that a run has."""
    pretraining = () if config["skills"] else ("pretrain.grad_steps" if config["data"] else "pretrain.env_steps",)
    return pretraining + (("downstream.env_steps",) if "env_steps" in (config["downstream"] or {}) else ())


def set_runtime(config: Config, runtime: Config) -> None:
    """Another machine, on which the same is learnt. Envs that were stepped in ``runtime.workers`` processes follow."""
    for node in (config["env"], config["task"] or {}):
        if node.get("workers") == config["runtime"].get("workers"):
            node["workers"] = runtime.get("workers")
    config["runtime"] = runtime | {"precision": config["runtime"]["precision"]}


def check_same(saved: Config, config: Config, folder: Path) -> None:
    """The run that ``saved`` describes is the one that ``config`` asks for, on whatever machine and with any logger.

    Errors: BadInput naming what differs.
    """
    known = deepcopy(saved)
    set_runtime(known, config["runtime"])
    config = located(config)  # as a run writes it down
    old, new = ({key: c[key] for key in c if key not in ("runtime", "logger")} for c in (known, config))
    old["runtime"], new["runtime"] = ({"precision": c["runtime"]["precision"]} for c in (known, config))
    if unlike := [f"{key} is {_short(there)} there and {_short(here)} here" for key, there, here in _unlike(old, new)]:
        more = f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        raise BadInput(f"{folder} holds a run of another config: {unlike[0]}{more}. Name another hydra.sweep.dir")


def _unlike(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two plain trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _unlike(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield where, old, new


def _short(value: Any) -> str:
    return text if len(text := repr(value)) <= 80 else f"{text[:77]}..."


def _set(config: Config, group: str, node: Config) -> None:
    if group == "runtime":
        set_runtime(config, node)
    else:
        config[group] = node


def _grow(node: Config, name: str, value: Any, key: str) -> bool:
    old = node[name]
    if not isinstance(value, int) or value < old:
        raise BadInput(f"{key} is {value!r}: it was {old}, and with resume it can only grow")
    node[name] = value
    return value > old


def _read(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{override}: {' '.join(str(error).split())}") from error
