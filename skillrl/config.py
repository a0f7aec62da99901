"""A composed config as plain dicts: checked against the signatures that it will meet, before anything is built."""

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from gymnasium.vector import VectorEnv

from skillrl import skill_library
from skillrl.errors import BadInput, bad_input
from skillrl.runtime import Runtime
from skillrl.skill_library import resolve

Config = dict[str, Any]
HANDED = {"self", "spec", "skills", "actor", "critic", "directory"}
"""Parameters that code fills, never a config."""


@dataclass(frozen=True)
class Settings:
    """The top level of a run's config. Groups that can be left out are None.

    skills: a run's folder or a skills folder to use; None: this run learns its own.
    data: a dataset to pretrain from; None: the pretraining collects its own.
    evaluate: whether the run ends with an evaluation.
    checkpoint_every: env steps; updates of a pretraining from data.
    snapshots: env steps (or updates) of the pretraining after which the skills are saved as well.
    """

    seed: int
    skills: str | None
    evaluate: bool
    checkpoint_every: int
    snapshots: Sequence[int]
    pretrain: Mapping
    env: Mapping
    learner: Mapping
    runtime: Mapping
    logger: Mapping
    task: Mapping | None = None
    downstream: Mapping | None = None
    controller: Mapping | None = None
    data: str | None = None


@dataclass(frozen=True)
class Pretrain:
    """The budget of the pretraining: a Schedule's, and the capacity of the replay; with data, ``grad_steps`` alone."""

    env_steps: int
    warmup: int
    collect: int
    updates: int
    overlap: bool
    capacity: int
    grad_steps: int | None = None


def complete(config: Config) -> Config:
    """With every key that may be left out, since there were none when some runs were written down."""
    whole: Config = {"task": None, "downstream": None, "controller": None, "snapshots": [], "data": None} | config
    later = {"pretrain": {"grad_steps": None}, "runtime": {"precision": "float32"}}
    return whole | {group: new | whole[group] for group, new in later.items() if group in whole}


def located(config: Config) -> Config:
    """A copy in which the paths of files and folders are absolute, since a run may be resumed from elsewhere."""
    whole = config | _absolute(config, "skills", "data")
    for group, key in (("downstream", "expert"), ("controller", "primitives")):
        if whole.get(group) is not None:
            whole[group] = whole[group] | _absolute(whole[group], key)
    return whole


def _absolute(node: Config, *keys: str) -> Config:
    """Of those keys that ``node`` has, each a path or a list of paths."""
    found = {key: node[key] for key in keys if node.get(key) is not None}
    return {key: [_path(one) for one in at] if isinstance(at, list) else _path(at) for key, at in found.items()}


def _path(path: str) -> str:
    return str(Path(path).resolve())


def check_config(config: Config) -> None:
    """All of a run's config: keys and types as the signatures have them, classes from allowed packages alone.

    Errors: BadInput naming the key.
    """
    check_keys("", config, Settings)
    check_keys("pretrain", config["pretrain"], Pretrain)
    check_keys("runtime", config["runtime"], Runtime)
    check_nodes(config, config["runtime"]["trusted"])
    if config["checkpoint_every"] < 1:
        raise BadInput(f"checkpoint_every is {config['checkpoint_every']}: it must be at least 1 env step")
    check_data(config["data"], config["skills"], config["pretrain"]["grad_steps"])


def check_data(data: str | None, skills: str | None, updates: int | None) -> None:
    """A pretraining has one source and one budget. Errors: BadInput."""
    if data is None and updates is not None:
        raise BadInput(f"pretrain.grad_steps is {updates}, but there is no data: the budget is pretrain.env_steps")
    if data is not None and skills is not None:
        raise BadInput("data and skills are both given: skills are loaded, or learnt from data")
    if data is not None and (updates is None or updates < 1):
        raise BadInput(f"pretrain.grad_steps is {updates}: with data it is the budget, at least 1 update")


def check_nodes(config: Any, trusted: Iterable[str] = ()) -> None:
    """Each node with a ``_target_`` must be allowed, and have exactly the keys of its signature, of the right types."""
    for where, node in nodes(config):
        with bad_input(where):
            target = resolve(str(node["_target_"]), trusted)
        check_keys(where, node, target)


def check_keys(where: str, node: Mapping[str, Any], target: Any) -> None:
    """``node`` has exactly the parameters of ``target``, each of its type."""
    prefix, wanted = f"{where}." if where else "", parameters(target)
    what = node.get("_target_", where or "the config")
    given = {key for key in node if key not in ("_target_", "_partial_")}
    if unknown := sorted(given - wanted.keys()):
        known = ", ".join(sorted(wanted)) or "none"
        raise BadInput(f"{prefix}{unknown[0]} is no key of {what}: it has {known}")
    if missing := sorted(wanted.keys() - given):
        raise BadInput(f"{prefix}{missing[0]} is missing: {what} wants it")
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key in sorted(given):
        if node[key] == "???":
            raise BadInput(f"{prefix}{key} is missing: give it a value")
        if not fits(node[key], hints.get(key, Any)):
            hint = re.sub(r"\b(collections\.abc|typing)\.", "", inspect.formatannotation(hints[key]))
            raise BadInput(f"{prefix}{key} is {node[key]!r}: it must be {hint}")


def nodes(config: Any, where: str = "") -> Iterator[tuple[str, Config]]:
    """Every dict with a ``_target_``, with its key path."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield where, config
        for key, value in config.items():
            yield from nodes(value, f"{where}.{key}" if where else str(key))
    elif isinstance(config, list):
        for i, value in enumerate(config):
            yield from nodes(value, f"{where}[{i}]")


def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """What a config has to say about ``target``."""
    handed = () if target is Settings else HANDED
    found = inspect.signature(target).parameters
    return {name: p for name, p in found.items() if name not in handed and p.kind is not p.VAR_KEYWORD}


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value can be meant by a type hint. What is neither number, text nor collection is a node."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if (origin or hint) in (list, tuple, Sequence):
        return isinstance(value, list) and all(fits(item, arguments[0] if arguments else Any) for item in value)
    if (origin or hint) in (dict, Mapping):
        content = arguments[1] if arguments else Any
        return isinstance(value, Mapping) and all(fits(item, content) for item in value.values())
    return isinstance(value, Mapping)  # a node of its own


def distrust(config: Config) -> None:
    """Of a config that was read from disk: no env's id and no controller's algorithm imports a module that nobody on
    this command line has trusted."""
    trusted = config["runtime"]["trusted"]
    for where, node in nodes(config):
        for key, mark, known in (("id", ":", ()), ("algorithm", ".", skill_library.ALLOWED)):
            module = str(node.get(key, "")).rpartition(mark)[0]
            if module and not skill_library.within(module, (*known, *trusted)):
                raise BadInput(f"{where}.{key} is {node[key]!r}, which runs {module}: allow it with runtime.trusted")


def with_env_of_skills(config: Config) -> Config:
    """A copy in which loaded skills are used where they were learnt, on this machine's workers."""
    with bad_input("skills"):
        env = skill_library.about(config["skills"])["about"].get("env")
        if env is None:
            return config
        target = resolve(str(env.get("_target_")), config["runtime"]["trusted"])
        if not issubclass(target, VectorEnv) or len(list(nodes(env))) != 1:
            raise ValueError(f"the env that they were learnt in is no vector env but {env!r}: name one with env=")
    env = env | ({"workers": config["runtime"]["workers"]} if "workers" in env else {})
    distrust({"env": env, "runtime": config["runtime"]})
    return config | {"env": env}
