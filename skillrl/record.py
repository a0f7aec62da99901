"""The record in a run's folder: config.yaml, everything resolved, and run.json, what ran where and how it stands."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from gymnasium.vector import VectorEnv

from skillrl import skill_library
from skillrl.atomic import write
from skillrl.config import Config, check_nodes, complete, distrust, nodes
from skillrl.errors import BadInput, bad_input
from skillrl.runtime import record


def write_config(folder: Path, config: Config) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def write_start(folder: Path, **more: Any) -> None:
    """A start, or one more, and ``more`` about it. Only with run.json the folder is a run."""
    now = record() | more
    if is_run(folder):
        earlier = _read(folder)
        now = earlier | {"resumed": [*earlier.get("resumed", []), now]}
    write(folder / "run.json", json.dumps(now | {"status": "running"}, indent=2))


def write_status(folder: Path, status: str) -> None:
    """running, finished, stopped (by a signal) or failed; what was killed still says running."""
    write(folder / "run.json", json.dumps(_read(folder) | {"status": status}, indent=2))


def read_status(folder: str | Path) -> str:
    """See ``write_status``. Errors: BadInput where ``folder`` is no run."""
    if not is_run(folder):
        raise BadInput(f"{folder} is no run: it has no run.json")
    return str(_read(Path(folder)).get("status"))


def read_start(folder: str | Path) -> str:
    """When it was first started, in ISO format, UTC; empty where that was not noted."""
    return str(_read(Path(folder)).get("started", ""))


def is_run(folder: str | Path) -> bool:
    return (Path(folder) / "run.json").is_file()


def read_config(folder: str | Path) -> Config:
    """The saved config of a run, without what was trusted then. Errors: BadInput where ``folder`` is no run."""
    read_status(folder)
    path = Path(folder) / "config.yaml"
    try:
        config = complete(yaml.safe_load(path.read_text()))
        config["runtime"] |= {"trusted": []}
    except (OSError, yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not the config of a run: {type(error).__name__}") from error
    return config


def make_env(path: str | Path, *, num_envs: int = 1, trusted: Iterable[str] = ()) -> Any:
    """The env of a run's folder, with ``num_envs`` rows in this process: its task, or where it has none, its env.

    Of a ``skills/`` folder by itself, the env that they were learnt in. trusted: packages that it may come from beside
    ours. Errors: ValueError of one line where there is none, or where it would run code that is not trusted.
    """
    if is_run(path):
        config = read_config(path)
        node = config["task"] or config["env"]
    else:
        node = skill_library.about(path)["about"].get("env")
    if len(list(nodes(node))) != 1:
        raise BadInput(f"{path} does not say which env it belongs to: make one of its class, from envs/")
    trusted = tuple(trusted)
    with bad_input(f"env of {path}"):
        check_nodes({"env": node}, trusted)
        distrust({"env": node, "runtime": {"trusted": trusted}})
        make = skill_library.resolve(node["_target_"], trusted)
        if not issubclass(make, VectorEnv):
            raise ValueError(f"{node['_target_']} is no vector env")
        arguments = {key: value for key, value in node.items() if key != "_target_"}
        return make(**arguments | {"num_envs": num_envs} | ({"workers": 0} if "workers" in node else {}))


def _read(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "run.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise BadInput(f"{folder / 'run.json'} is not the record of a run: {' '.join(str(error).split())}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time writes to a run. However that process ends, the lock ends with it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BadInput(f"{folder} is in use: another process is writing to this run") from error
    finally:
        os.close(handle)
