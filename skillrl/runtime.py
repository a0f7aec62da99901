"""The machine that a run uses: device, threads, random streams, and the record of what ran where."""

import ctypes
import importlib.metadata
import os
import platform
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)

STREAMS = ("env", "skills", "policy", "learner", "evaluation")
"""Each has a generator of its own, so that a change in what one draws leaves the others as they were."""

PRECISIONS = ("float32", "bfloat16")

_PACKAGES = (
    "skillrl",
    "torch",
    "numpy",
    "gymnasium",
    "mujoco",
    "hydra-core",
    "omegaconf",
    "stable-baselines3",
    "safetensors",
    "wandb",
    "tensorboard",
)
_DIFF_LIMIT = 1_000_000  # characters; a diff beyond that is data, not code


@dataclass(frozen=True)
class Runtime:
    """Where a run computes, and how. Of all this only ``precision`` is more than a machine's business.

    Args:
        device: where the learner and its replay live: cpu, cuda, or cuda:<index>.
        threads: CPU threads of torch. More than one may change results in the last bits.
        workers: processes that step the envs, this one included unless it learns meanwhile (``overlap``). Configs may
            say auto for either: a run then chooses (``skillrl.cores``).
        graph: whether what is the same each time is noted once and done again, to the same bits: on a GPU a round of
            updates as one CUDA graph, on a CPU an update and an action, each as a list of operations.
        precision: float32, or bfloat16 for the products of hidden layers in updates (``skillrl.precision``). Another
            precision learns something else, so it is one of a run's settings.
        trusted: packages beyond the allow-list whose classes a config may name. Read from the command line only.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    graph: bool = True
    precision: str = "float32"
    trusted: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check_count("threads", self.threads, 1)
        _check_count("workers", self.workers, 0)
        if not isinstance(self.graph, bool):
            raise ValueError(f"runtime.graph is {self.graph!r}: it must be true or false")
        if self.precision not in PRECISIONS:
            raise ValueError(f"runtime.precision is {self.precision!r}: it must be {' or '.join(PRECISIONS)}")
        if isinstance(self.trusted, str) or not all(isinstance(name, str) for name in self.trusted):
            raise ValueError(f"runtime.trusted is {self.trusted!r}: it must be a list of package names")


def _check_count(key: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"runtime.{key} is {value!r}: it must be a whole number of at least {least}")


def setup_runtime(runtime: Runtime) -> torch.device:
    """Set this process's threads and determinism, and return the device, which is there. ValueError if it is not."""
    device = _find_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(runtime.threads)  # read by the worker processes that start later
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
        torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = False
    take_long_turns()
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import a compiler first
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs, for nothing
    return device


TURN = 20  # milliseconds
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


def take_long_turns() -> None:
    """Ask Linux (6.12 and later) for turns of 20 ms, not of one or two, where others compute on the same core: each
    turn begins by filling the caches anew (docs/performance.md, jobs). Who has short turns still comes first when
    woken, children have turns as usual, and a system that knows no such thing goes on as it was."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice, children_as_usual = os.getpriority(os.PRIO_PROCESS, 0), 1
    # struct sched_attr: size, policy, flags, nice, priority, runtime in ns, deadline, period
    wish = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, children_as_usual, nice, 0, TURN * 1_000_000, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, wish, 0)


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"runtime.device is {name!r}: it must be cpu, cuda or cuda:<index>")
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ValueError(f"runtime.device is {name}, but torch finds no CUDA device on this machine: take runtime=cpu")
    index = device.index or 0
    if index >= count:
        raise ValueError(f"runtime.device is {name}, but this machine has only cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def spawn_seeds(seed: int, names: Iterable[str] = STREAMS) -> dict[str, int]:
    """An independent 31-bit seed for each name, from ``seed`` and the name alone: a new name moves no other."""
    _check_seed(seed)
    return {
        name: int(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)).generate_state(1)[0] >> 1)
        for name in names
    }


def seed_everything(seed: int) -> None:
    """Seed the global generators: network initialisation draws from torch's, third-party code from any of them."""
    _check_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed!r}: it must be a whole number of at least 0")


def place(learner: M, device: torch.device | str, seed: int) -> M:
    """Move a learner to ``device`` in place, and exchange each ``generator`` in it for a seeded one there.

    Modules that shared a generator share the new one. Optimisers go on holding the same parameters.
    """
    learner.to(device)
    fresh: dict[int, torch.Generator] = {}
    for name, module in learner.named_modules():
        old = getattr(module, "generator", None)
        if isinstance(old, torch.Generator):
            if id(old) not in fresh:
                stream = f"generator:{name}"
                fresh[id(old)] = torch.Generator(device).manual_seed(spawn_seeds(seed, [stream])[stream])
            module.generator = fresh[id(old)]  # type: ignore[assignment]
    return learner


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that results depend on; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def describe_machine() -> dict[str, Any]:
    """System, processor, cores that this process may use, memory in GiB, GPUs."""
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": count_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
    }


def count_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def record(command: Sequence[str] | None = None, cwd: str | Path = ".") -> dict[str, Any]:
    """What ``run.json`` says of the code and the machine. ``cwd`` is looked up in git; no git, no repository: null.

    command: as typed; by default this process's own arguments.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv if command is None else command),
        "cwd": str(Path(cwd).resolve()),
        "git": _describe_git(Path(cwd)),
        "versions": versions(),
        "machine": describe_machine(),
    }


def _describe_git(cwd: Path) -> dict[str, Any] | None:
    commit = _git(cwd, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(cwd, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    untracked = (_git(cwd, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    if len(diff) > _DIFF_LIMIT:
        diff = diff[:_DIFF_LIMIT] + f"\n[cut: {len(diff)} characters in all]\n"
    return {"commit": commit.strip(), "dirty": bool(diff or untracked), "diff": diff, "untracked": untracked}


def _git(cwd: Path, *arguments: str) -> str | None:
    """Its output; None where git is missing, fails or takes longer than 10 s. Takes no lock: sweeps ask at once."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
