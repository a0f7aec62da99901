"""Skills on disk: ``config.json`` says how the policy is built, ``model.safetensors`` holds its tensors. No pickle.

What a config may build is limited: classes alone, only from packages on the allow-list, and only those defined there,
so that loading a stranger's skills runs no stranger's code.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from skillrl.atomic import write, write_tensors
from skillrl.skill_policy import SkillPolicy, freeze

ALLOWED = ("skillrl", "envs", "gymnasium", "torch.nn", "stable_baselines3")
FORMAT = 1
CRITIC = "critic.safetensors"


class NotAllowed(ValueError):
    """A file wants code to be run that nobody here has trusted."""


def save(
    policy: SkillPolicy, folder: str | Path, *, about: dict[str, Any] | None = None, critic: nn.Module | None = None
) -> Path:
    """Write a skill policy.

    about: facts for people (learner, env, env_steps), kept in ``config.json``.
    critic: of the learner, for those who train the skills further; ``load`` does without.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT, "policy": _encode(policy, policy.arguments), "about": about or {}}
    write_tensors(folder / "model.safetensors", policy)
    if critic is not None:
        write_tensors(folder / CRITIC, critic)
    write(folder / "config.json", json.dumps(config, indent=2))  # last: it says that the skills are whole
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
    except NotAllowed:
        raise
    except (SafetensorError, KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"skills {folder} are corrupt or of another version: {reason}") from error
    return freeze(policy.to(device))


def load_critic(path: str | Path) -> dict[str, Tensor]:
    """The tensors of the critic that taught the skills. Errors: ValueError of one line where there is none."""
    folder = find(path)
    try:
        return safetensors.torch.load((folder / CRITIC).read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"downstream.keep: skills {folder} have no {CRITIC}, keep the actor") from error
    except SafetensorError as error:
        raise ValueError(f"downstream.keep: {folder / CRITIC} is corrupt, keep the actor") from error


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


def resolve(target: str, trusted: Iterable[str] = ()) -> type:
    """The class that a ``_target_`` names, if it is allowed: defined in a package on the list.

    Errors: NotAllowed, and ValueError where there is no such class.
    """
    allowed = (*ALLOWED, *trusted)
    module, _, name = target.rpartition(".")
    if not within(module, allowed):
        raise NotAllowed(f"_target_ {target!r} is not allowed: it lies outside {', '.join(allowed)} (runtime.trusted)")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"_target_ {target!r} does not exist: {error}") from error
    if not isinstance(found, type):
        raise NotAllowed(f"_target_ {target!r} is not allowed: it is no class")
    if not within(found.__module__, allowed):
        raise NotAllowed(f"_target_ {target!r} is not allowed: it is defined in {found.__module__}")
    return found


def within(module: str, packages: Iterable[str]) -> bool:
    """Whether a dotted module is one of the packages or lies in one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def _encode(value: Any, arguments: dict[str, Any] | None = None) -> Any:
    """As JSON. arguments: of an object that is no dataclass."""
    if isinstance(value, type):
        return {"_class_": f"{value.__module__}.{value.__qualname__}"}
    if is_dataclass(value):
        arguments = {f.name: getattr(value, f.name) for f in fields(value)}
    if arguments is not None:
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"_target_": target, **{key: _encode(item) for key, item in arguments.items()}}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any, trusted: tuple[str, ...]) -> Any:
    """The inverse. Of all classes on the list, a file may name policies and dataclasses: they only hold values; and as
    an argument of a policy, a network of ours."""
    if isinstance(value, list):
        return [_decode(item, trusted) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"_class_"}:
        network = resolve(str(value["_class_"]), trusted)
        if not (issubclass(network, nn.Module) and within(network.__module__, ("skillrl", *trusted))):
            raise NotAllowed(f"_class_ {value['_class_']!r} is not allowed in skills: it is no network of ours")
        return network
    built = {key: _decode(item, trusted) for key, item in value.items() if key != "_target_"}
    if "_target_" not in value:
        return built
    target = resolve(str(value["_target_"]), trusted)
    if not (issubclass(target, SkillPolicy) or is_dataclass(target)):
        raise NotAllowed(f"_target_ {value['_target_']!r} is not allowed in skills: it is no policy and no dataclass")
    return target(**built)
