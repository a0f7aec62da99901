"""A composed config as plain dicts: checked against the signatures that it will meet, before anything is built."""

import inspect
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from skillrl.skill_library import resolve

HANDED = {"self", "spec", "skills", "actor", "critic", "directory"}
"""Parameters that code fills, never a config."""


class BadInput(ValueError):
    """What a person asked for cannot be had. The message is one or two lines: what, where, and what would be right."""


def check_config(config: Mapping[str, Any], trusted: Iterable[str] = ()) -> None:
    """Each node with a ``_target_`` must be allowed, and have exactly the keys of its signature, of the right types.

    Errors: BadInput naming the key.
    """
    for where, node in nodes(config):
        try:
            target = resolve(node["_target_"], trusted)
        except ValueError as error:
            raise BadInput(f"{where}: {error}") from error
        wanted = parameters(target)
        given = {key for key in node if not key.startswith("_")}
        if unknown := sorted(given - wanted.keys()):
            known = ", ".join(sorted(wanted)) or "none"
            raise BadInput(f"{where}.{unknown[0]} is no key of {node['_target_']}: it has {known}")
        if missing := sorted(wanted.keys() - given):
            raise BadInput(f"{where}.{missing[0]} is missing: {node['_target_']} wants it")
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
        for key in sorted(given):
            if not fits(node[key], hints.get(key, Any)):
                hint = inspect.formatannotation(hints[key])
                raise BadInput(f"{where}.{key} is {node[key]!r}: it must be {hint.replace('collections.abc.', '')}")


def nodes(config: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every dict with a ``_target_``, with its key path."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield where, config
        for key, value in config.items():
            yield from nodes(value, f"{where}.{key}" if where else str(key))
    elif isinstance(config, list):
        for i, value in enumerate(config):
            yield from nodes(value, f"{where}[{i}]")


def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """What a config has to say about ``target``."""
    found = inspect.signature(target).parameters
    return {name: p for name, p in found.items() if name not in HANDED and p.kind is not p.VAR_KEYWORD}


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value can be meant by a type hint. What is neither a number, text nor a collection always fits."""
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
    if origin in (list, tuple, Sequence):
        return isinstance(value, list) and all(fits(item, arguments[0] if arguments else Any) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    return isinstance(value, Mapping)  # a node of its own
