"""Skills on disk: ``config.json`` says how the policy is built, ``model.safetensors`` holds its tensors. No pickle.

What a config may build is limited: a class is taken only from packages on the allow-list, and only if it is defined
there, so that loading a stranger's skills runs no stranger's code.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from skillrl.skill_policy import SkillPolicy, freeze

ALLOWED = ("skillrl", "envs", "gymnasium", "torch.nn", "stable_baselines3")
FORMAT = 1


def save(policy: SkillPolicy, folder: str | Path, *, about: dict[str, Any] | None = None) -> Path:
    """Write a skill policy. about: facts for people (learner, env, env_steps), kept in ``config.json``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = f"{type(policy).__module__}.{type(policy).__qualname__}"
    config = {"format": FORMAT, "policy": _encode({"_target_": target, **policy.arguments}), "about": about or {}}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    _replace(folder / "model.safetensors", safetensors.torch.save(tensors))
    _replace(folder / "config.json", json.dumps(config, indent=2).encode())
    return folder


def load(path: str | Path, *, device: str = "cpu", trusted: Iterable[str] = ()) -> SkillPolicy:
    """The frozen skill policy of a run's folder, or of a ``skills/`` folder itself.

    Errors: ValueError of one line where it is missing, corrupt, or names a class that is not allowed.
    """
    folder = find(path)
    config = about(folder)
    try:
        policy = _decode(config["policy"], tuple(trusted))
        policy.load_state_dict(safetensors.torch.load((folder / "model.safetensors").read_bytes()))
    except FileNotFoundError as error:
        raise ValueError(f"skills {folder} are incomplete: {Path(error.filename).name} is missing") from error
    except (SafetensorError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"skills {folder} are corrupt or of another version: {reason}") from error
    return freeze(policy.to(device))


def find(path: str | Path) -> Path:
    """The folder that holds ``config.json``: ``path`` itself, or ``path/skills``."""
    for folder in (Path(path), Path(path) / "skills"):
        if (folder / "config.json").is_file():
            return folder
    raise ValueError(f"no skills at {path}: it has neither config.json nor skills/config.json")


def about(path: str | Path) -> dict[str, Any]:
    """What ``config.json`` says."""
    file = find(path) / "config.json"
    try:
        config = json.loads(file.read_text())
        if config["format"] != FORMAT:
            raise ValueError(f"{file} has format {config['format']}, this version reads {FORMAT}")
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is corrupt: it is not a skill's config") from error
    return config


def check_targets(config: Any, trusted: Iterable[str] = ()) -> None:
    """Refuse a config in which any ``_target_`` lies outside the allow-list."""
    for target in _targets(config):
        resolve(target, trusted)


def resolve(target: str, trusted: Iterable[str] = ()) -> Any:
    """What a ``_target_`` names, if it is allowed: a class or function defined in an allowed package."""
    allowed = (*ALLOWED, *trusted)
    module, _, name = target.rpartition(".")
    if not _within(module, allowed):
        raise ValueError(f"_target_ {target!r} is not allowed: it lies outside {', '.join(allowed)} (runtime.trusted)")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"_target_ {target!r} does not exist: {error}") from error
    if not _within(getattr(found, "__module__", ""), allowed):
        raise ValueError(f"_target_ {target!r} is not allowed: it is defined elsewhere")
    return found


def _within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _targets(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if "_target_" in config:
            yield str(config["_target_"])
        for value in config.values():
            yield from _targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from _targets(value)


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"_target_": target, **{f.name: _encode(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any, trusted: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        built = {key: _decode(item, trusted) for key, item in value.items() if key != "_target_"}
        return resolve(value["_target_"], trusted)(**built) if "_target_" in value else built
    if isinstance(value, list):
        return [_decode(item, trusted) for item in value]
    return value


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_bytes(content)
    beside.replace(path)
