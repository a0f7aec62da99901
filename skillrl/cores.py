"""``auto`` in runtime.threads and runtime.workers: what a run takes of this machine, and why.

It is decided by what is known beforehand: the cores, the runs beside this one in its sweep, the device, the width of
the networks, the rows of the env. What else is busy is not looked at, so the same command takes the same each time.

What it goes by (docs/performance.md): with layers of 256 a second thread makes a run 1.2 to 1.7 times as fast, at 1.2
to 1.6 times the core time; but where it has to wait for its core, slower than one. Calling a second process up costs
0.17 ms a step of the env, as much as 6 rows of HalfCheetah. Hence more than the least only with cores to
spare, and never on two: there ``auto`` is one thread and no worker, whatever else runs.
"""

from typing import Any

from skillrl.config import Config
from skillrl.errors import BadInput

AUTO = "auto"
SPARE = 4  # cores of this run's own, from which on it takes more than one: half of them at most
WIDTH = 256  # of layers, from which on a second thread gains something
ROWS = 16  # of the env for each worker, so that even a cheap body's step outweighs calling it up


def settle(config: Config, cores: int, jobs: int = 1) -> tuple[Config, dict[str, str]]:
    """A copy of a run's config with numbers for ``auto``, and for each of them, by its key, why.

    cores: that this process may use. jobs: runs that share them, this one included.

    Errors: BadInput for another word.
    """
    runtime = config.get("runtime") or {}
    for key in ("threads", "workers"):
        if isinstance(runtime.get(key), str) and runtime[key] != AUTO:
            raise BadInput(f"runtime.{key} is {runtime[key]!r}: it must be a whole number or {AUTO}")
    own, why = max(1, cores // jobs), dict[str, str]()
    if runtime.get("threads") == AUTO:
        threads, why["threads"] = _threads(str(runtime.get("device")), _width(config), own)
        runtime = runtime | {"threads": threads}
    if runtime.get("workers") == AUTO:
        workers, why["workers"] = _workers(_rows(config), own)
        runtime = runtime | {"workers": workers}
        config = config | {key: _with_workers(config.get(key), workers) for key in ("env", "task")}
    return (config | {"runtime": runtime} if why else config), why


def _threads(device: str, width: int, own: int) -> tuple[int, str]:
    if device != "cpu":
        return 1, f"the updates are made on {device}"
    if own < SPARE:
        return 1, f"{_cores(own)}, none to spare for a second thread"
    if width < WIDTH:
        return (
            1,
            f"networks of {width} gain nothing from more" if width else "no network is trained that gains from more",
        )
    return 2, f"networks of {width}, {_cores(own)}"


def _workers(rows: int, own: int) -> tuple[int, str]:
    if not rows:
        return 0, "this env is stepped by the run itself"
    if own < SPARE:
        return 0, f"{_cores(own)}, none to spare for the physics"
    workers = min(own // 2, rows // ROWS)
    if workers < 2:
        return 0, f"{rows} rows of the env are too few to share out"
    return workers, f"{rows} rows of the env, {_cores(own)}"


def _cores(own: int) -> str:
    return f"{own} {'core' if own == 1 else 'cores'} of its own"


def _width(config: Config) -> int:
    """Of the widest layer that is trained, as far as the config says; 0 where it doesn't."""
    trained = () if config.get("skills") else ("learner",)
    return max((_widest(config.get(group)) for group in (*trained, "controller", "downstream")), default=0)


def _widest(node: Any) -> int:
    if not isinstance(node, dict):
        return 0
    own = [w for key, dims in node.items() if key.endswith("_dims") and isinstance(dims, list) for w in dims]
    return max([w for w in own if isinstance(w, int)] + [_widest(value) for value in node.values()], default=0)


def _rows(config: Config) -> int:
    """Of the envs that workers could step, the fewest; 0 where there is none."""
    nodes = [node for key in ("env", "task") if _has_workers(node := config.get(key) or {})]
    return min((node["num_envs"] for node in nodes if isinstance(node["num_envs"], int)), default=0)


def _has_workers(node: Config) -> bool:
    return {"workers", "num_envs"} <= node.keys()


def _with_workers(node: Any, workers: int) -> Any:
    return node | {"workers": workers} if node and node.get("workers") == AUTO else node
