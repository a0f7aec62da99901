"""Device, threads, random streams, and the record of a run."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from skillrl.runtime import (
    Runtime,
    describe_machine,
    place,
    record,
    seed_everything,
    setup_runtime,
    spawn_seeds,
    versions,
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, r"runtime\.threads is 0: it must be a whole number of at least 1"),
        ({"threads": True}, r"runtime\.threads is True"),
        ({"workers": -1}, r"runtime\.workers is -1: it must be a whole number of at least 0"),
        ({"workers": "two"}, r"runtime\.workers is 'two'"),
        ({"trusted": "mine"}, r"runtime\.trusted is 'mine': it must be a list"),
    ],
)
def test_settings_that_cannot_be(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Runtime(**settings)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", ""])
def test_a_device_that_is_none(name: str):
    with pytest.raises(ValueError, match="it must be cpu, cuda or cuda:<index>"):
        setup_runtime(Runtime(device=name))


def test_a_gpu_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"runtime\.device is cuda, but torch finds no CUDA device") as error:
        setup_runtime(Runtime(device="cuda"))
    assert "\n" not in str(error.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"runtime\.device is cuda:2, but this machine has only cuda:0 to cuda:1"):
        setup_runtime(Runtime(device="cuda:2"))


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch):
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "7")
    before = torch.get_num_threads()
    try:
        assert setup_runtime(Runtime(threads=2)) == torch.device("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)


TURN = """
import ctypes, os, struct, subprocess, sys
TOLD = ctypes.create_string_buffer(56)
if ctypes.CDLL(None).syscall({"x86_64": 315, "aarch64": 275}[os.uname().machine], 0, TOLD, 56, 0):
    raise OSError("sched_getattr")
_, policy, _, nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", TOLD.raw[:48])
print(policy, nice, runtime, flush=True)
"""


@pytest.mark.skipif(
    platform.system() != "Linux" or tuple(map(int, platform.release().split(".")[:2])) < (6, 12),
    reason="turns can be asked for since Linux 6.12",
)
def test_turns_are_long_and_those_of_children_as_usual():
    run = "os.nice(3)\nfrom skillrl.runtime import Runtime, setup_runtime\nsetup_runtime(Runtime())"
    child = f"subprocess.run([sys.executable, '-c', {TURN!r}], check=True)"
    told = subprocess.run(
        [sys.executable, "-c", f"{TURN}{run}{TURN}{child}"], capture_output=True, text=True, check=True
    )
    before, after, in_child = (list(map(int, line.split())) for line in told.stdout.splitlines())
    assert after == [0, before[1] + 3, 20_000_000] != before
    assert in_child == [0, before[1] + 3, before[2]], "niceness goes on to children, turns do not"


def test_streams_are_independent_and_stable():
    seeds = spawn_seeds(0)
    assert list(seeds) == ["env", "skills", "policy", "learner", "evaluation"]
    assert seeds == spawn_seeds(0) != spawn_seeds(1)
    assert spawn_seeds(0, ["learner", "new"])["learner"] == seeds["learner"]
    drawn = [value for seed in range(2000) for value in spawn_seeds(seed).values()]
    assert len(set(drawn)) > 0.9999 * len(drawn) and min(drawn) >= 0 and max(drawn) < 2**31


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True, None])
def test_a_seed_that_cannot_be(seed):
    with pytest.raises(ValueError, match=r"seed is .*: it must be a whole number of at least 0"):
        spawn_seeds(seed)


def test_seed_everything_repeats_an_initialisation():
    weights = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        weights.append(nn.Linear(4, 4).weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


class Part(nn.Module):
    def __init__(self, generator: torch.Generator | None = None):
        super().__init__()
        self.generator = generator or torch.Generator()


class Whole(Part):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.own, self.shared = Part(), Part(self.generator)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=1.0)


def test_place_seeds_every_generator_and_keeps_the_optimiser():
    first, again, other = (place(Whole(), "cpu", seed) for seed in (0, 0, 1))
    assert first.shared.generator is first.generator
    draws = [
        torch.rand(3, generator=g) for g in (first.generator, again.generator, other.generator, first.own.generator)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[3])
    before = first.layer.weight.detach().clone()
    first.layer(torch.ones(1, 2)).sum().backward()
    first.optimizer.step()
    assert not torch.equal(before, first.layer.weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_place_on_a_gpu():
    whole = place(Whole(), setup_runtime(Runtime(device="cuda")), 0)
    assert whole.layer.weight.is_cuda and whole.generator.device.type == "cuda"
    assert torch.rand(2, device="cuda", generator=whole.own.generator).is_cuda


def test_versions_and_machine():
    found = versions()
    assert found["torch"] == torch.__version__ and found["mujoco"] and found["python"]
    machine = describe_machine()
    assert machine["cores"] >= 1 and machine["memory_gib"] > 0 and machine["cpu"]


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_record_holds_the_commit_and_what_is_not_in_it(tmp_path: Path):
    git(tmp_path, "init", "-q")
    assert record(["train.py"], tmp_path)["git"] is None  # no commit yet
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = record(["train.py", "seed=1"], tmp_path)
    assert clean["command"] == ["train.py", "seed=1"]
    assert clean["git"] == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False, "diff": "", "untracked": []}
    (tmp_path / "code.py").write_text("a = 2\n")
    (tmp_path / "new.py").write_text("b = 1\n")
    dirty = record(["train.py"], tmp_path)["git"]
    assert dirty["dirty"] and "-a = 1\n+a = 2" in dirty["diff"] and dirty["untracked"] == ["new.py"]


def test_record_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = record(["train.py"], tmp_path)
    assert found["git"] is None and json.loads(json.dumps(found)) == found
