"""The values in conf/ against the defaults in Python.

``# differs: <why>`` says that a value is not the Python default, on purpose. It covers the keys that follow it, until a
blank line or a line that is indented less; before an entry of the defaults list, the node that the entry brings.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from skillrl.config import parameters
from skillrl.skill_library import resolve

CONF = Path(__file__).parents[1] / "conf"


def differences(node: Mapping[str, Any], at: tuple[str, ...] = (), known: frozenset = frozenset()) -> Iterator[tuple]:
    """Key paths at which a node's value is not the default of its class, nor, deeper, of the class above it."""
    target = resolve(node["_target_"])
    for key, parameter in parameters(target).items():
        value, where = node[key], (*at, key)
        given = parameter.default is not parameter.empty
        if given:
            yield from unequal(value, as_node(parameter.default), where)
        elif key not in known:
            yield where
        if isinstance(value, Mapping) and "_target_" in value:
            vouched = frozenset(fields_of(parameter.default)) if given else frozenset()
            yield from differences(value, where, vouched)


def fields_of(default: Any) -> list[str]:
    """The keys that a default object answers for itself, where its class has no default."""
    return [f.name for f in fields(default)] if is_dataclass(default) else []


def as_node(default: Any) -> Any:
    """A Python default as YAML would say it."""
    if isinstance(default, functools.partial | type):
        target = default.func if isinstance(default, functools.partial) else default
        own = {key: as_node(p.default) for key, p in parameters(target).items()}
        changed = default.keywords if isinstance(default, functools.partial) else {}
        return {"_target_": name_of(target), "_partial_": True, **own, **{k: as_node(v) for k, v in changed.items()}}
    if is_dataclass(default):
        own = {f.name: as_node(getattr(default, f.name)) for f in fields(default)}
        return {"_target_": name_of(type(default)), **own}
    if isinstance(default, Mapping):
        return {key: as_node(value) for key, value in default.items()}
    if isinstance(default, list | tuple):
        return [as_node(value) for value in default]
    return default


def name_of(target: type) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def unequal(value: Any, default: Any, at: tuple[str, ...]) -> Iterator[tuple]:
    """Where two plain trees differ: at the leaves of two nodes of one class, else at the top."""
    if not (isinstance(value, dict) and isinstance(default, dict) and value.get("_target_") == default.get("_target_")):
        if value != default or isinstance(value, bool) != isinstance(default, bool):
            yield at
        return
    for key in value.keys() | default.keys():
        if key not in value or key not in default:
            yield (*at, key)
        else:
            yield from unequal(value[key], default[key], (*at, key))


# ---- the comments


def covered(file: str) -> set[tuple[str, ...]]:
    """Key paths that ``# differs:`` covers, in this file and in those that its defaults list takes in."""
    text = (CONF / f"{file}.yaml").read_text()
    lines = text.splitlines()
    tree = yaml.compose(text)
    found = {path for path, line in key_lines(tree) if path[0] != "defaults" and said_above(lines, line)}
    for entry, line in default_entries(tree):
        group, _, package = entry.partition("@")
        package, _, choice = package.partition(":")
        node = tuple(package.split("."))
        if said_above(lines, line):
            found.add(node)
        found |= {(*node, *path) for path in covered(f"{group.strip('/')}/{choice.strip()}")}
    return found


def key_lines(node: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each key's path, and its line counted from 0."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line
            yield from key_lines(value, (*at, key.value))


def default_entries(tree: yaml.MappingNode) -> Iterator[tuple[str, int]]:
    """``/group@package: option`` of the defaults list, and its line."""
    for key, value in tree.value:
        for entry in value.value if key.value == "defaults" else []:
            if isinstance(entry, yaml.MappingNode):
                name, choice = entry.value[0]
                if "@" in name.value:
                    yield f"{name.value}: {choice.value}", entry.start_mark.line


def said_above(lines: list[str], line: int) -> bool:
    """Whether a ``# differs:`` stands above with neither a blank line nor a lesser indent between."""
    indent = len(lines[line]) - len(lines[line].lstrip())
    for above in reversed(lines[:line]):
        own = len(above) - len(above.lstrip())
        if not above.strip() or own < indent:
            return False
        if own == indent and above.lstrip().startswith("# differs:"):
            return True
    return False


def interpolated(file: str, path: tuple[str, ...]) -> bool:
    """Whether the value is another key's, which may well equal the default today."""
    value = yaml.safe_load((CONF / f"{file}.yaml").read_text())
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, str) and value.startswith("${")


def dotted(paths: set[tuple[str, ...]]) -> str:
    return ", ".join(sorted(".".join(path) for path in paths))
