"""What a saved config may be given anew: the machine, the logger, a larger budget."""

from pathlib import Path
from typing import Any

import yaml

from skillrl.config import Config
from skillrl.errors import BadInput


def change(config: Config, override: str, conf: Path) -> bool:
    """Apply one ``key=value`` in place. conf: where option files are. Returns whether it is a larger budget.

    Errors: BadInput for any other key, and for a budget that shrinks.
    """
    key, _, text = override.partition("=")
    group, _, rest = key.partition(".")
    value = _read(override, text)
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
    """Another machine. Envs that were stepped in ``runtime.workers`` processes follow."""
    for node in (config["env"], config["task"] or {}):
        if node.get("workers") == config["runtime"].get("workers"):
            node["workers"] = runtime.get("workers")
    config["runtime"] = runtime


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
