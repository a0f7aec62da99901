"""Worker processes: the same numbers, nothing left behind, errors that arrive."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from envs.ant import Ant
from envs.ant_multi_goals import AntMultiGoals
from envs.goal import SwimmerGoal
from envs.half_cheetah_hurdles import HalfCheetahHurdles
from envs.hopper import Hopper
from envs.humanoid import Humanoid
from envs.swimmer import Swimmer, SwimmerTask
from envs.vector import BatchedEnv

ROOT = Path(__file__).parent.parent
# Ends by falling, by arriving, contact forces, goals drawn within episodes, blocks, and a centre of mass.
BODIES = [Hopper, SwimmerGoal, Ant, AntMultiGoals, HalfCheetahHurdles, Humanoid]


def rollout(env: VectorEnv, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Everything that comes out of random steps of random rows."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(action, rng.random(env.num_envs) < 0.9)
        out += [obs, reward, terminated, truncated, info["xy"], info["final_obs"], info["final_info"]["xy"]]
    return out


def equal(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("make", BODIES, ids=lambda make: make.__name__)
def test_the_number_of_workers_changes_nothing(make: type[VectorEnv]) -> None:
    results = []
    for workers, apart in ((0, False), (2, False), (3, False), (2, True)):
        env = make(num_envs=5, workers=workers, horizon=60)
        if apart:
            env.step_apart()
        first, _ = env.reset(seed=1)
        results.append([first, *rollout(env, 300)])
        env.close()
    ended = np.array(results[0][3::7]) | np.array(results[0][4::7])
    assert ended.sum(axis=0).min() >= 3
    assert all(equal(results[0], other) for other in results[1:])


def test_this_process_has_a_share_unless_it_steps_apart() -> None:
    """Episodes go on when it leaves its rows to others."""
    env, local = Swimmer(num_envs=4, workers=2, horizon=9), Swimmer(num_envs=4, horizon=9)
    assert len(env._rows._children) == 1
    for one in (env, local):
        one.reset(seed=0)
    assert equal(rollout(env, 5), rollout(local, 5))
    env.step_apart()
    assert len(env._rows._children) == 2
    assert equal(rollout(env, 30), rollout(local, 30))
    env.close()


@pytest.mark.parametrize("saved, loaded", [(0, 2), (2, 0), (2, 1)])
def test_state_moves_between_numbers_of_workers(saved: int, loaded: int) -> None:
    env = Hopper(num_envs=3, workers=saved, horizon=40)
    other = Hopper(num_envs=3, workers=loaded, horizon=40)
    env.reset(seed=0)
    rollout(env, 30)
    state = copy.deepcopy(env.state_dict())
    expected = rollout(env, 60, seed=1)
    other.load_state_dict(state)
    assert equal(rollout(other, 60, seed=1), expected)
    env.close()
    other.close()


def test_more_workers_than_rows_and_masked_resets() -> None:
    env, local = Swimmer(num_envs=2, workers=5), Swimmer(num_envs=2)
    assert len(env._rows._children) == 1
    mask = np.array([False, True])
    for one in (env, local):
        one.reset(seed=0)
        rollout(one, 3)
    assert np.array_equal(env.reset(options={"reset_mask": mask})[0], local.reset(options={"reset_mask": mask})[0])
    assert equal(rollout(env, 5), rollout(local, 5))
    env.close()


def test_the_caller_is_free_while_workers_step() -> None:
    """step_async returns before the step is done: the work is in the other process."""
    env = Ant(num_envs=64, workers=1)
    env.step_apart()
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    env.step(action)
    ratios = []
    for _ in range(5):
        start = time.perf_counter()
        env.step_async(action)
        sent = time.perf_counter()
        env.step_wait()
        ratios.append((sent - start) / (time.perf_counter() - start))
    assert min(ratios) < 0.3
    env.close()


def test_results_are_copies() -> None:
    env = Swimmer(num_envs=2, workers=2)
    obs, info = env.reset(seed=0)
    kept = obs.copy(), info["xy"].copy()
    rollout(env, 3)
    assert np.array_equal(obs, kept[0]) and np.array_equal(info["xy"], kept[1])
    env.close()


# --- errors ------------------------------------------------------------------------------------------------------


class _Failing(SwimmerTask):
    def reward(self, before, now, control, dt):
        if (now["qpos"][:, 0] > 100).any():
            raise ArithmeticError("the swimmer has left")
        return super().reward(before, now, control, dt)


def _failing(workers: int) -> BatchedEnv:
    task = _Failing(forward_reward_weight=1.0, ctrl_cost_weight=0.0, reset_noise_scale=0.1, frame_skip=4)
    facts = {"observe": ["xy"], "views": {}, "coverage": {"key": "xy", "cell": 1.0}, "record": []}
    return BatchedEnv(task, num_envs=4, workers=workers, horizon=50, dtype="float32", **facts)


def test_a_workers_exception_arrives() -> None:
    env = _failing(workers=2)
    for row, raised in (
        (3, pytest.raises(RuntimeError, match=r"(?s)worker 0 \(rows 2-3\) raised.*ArithmeticError: the swimmer has")),
        (0, pytest.raises(ArithmeticError, match="the swimmer has left")),  # of our own share
    ):
        env.reset(seed=0)
        rollout(env, 2)
        state = env.state_dict()
        state["physics"][row, 1] = state["now"]["qpos"][row, 0] = 200.0
        env.load_state_dict(state)
        with raised:
            rollout(env, 1)
    env.reset(seed=0)  # the worker is still there, and nothing stale to be read
    rollout(env, 2)
    env.close()


@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_worker_is_named(dead: int) -> None:
    env = Swimmer(num_envs=6, workers=3)
    env.reset(seed=0)
    os.kill(env._rows._children[dead][0].pid, signal.SIGKILL)
    with pytest.raises(
        RuntimeError, match=rf"env worker {dead} \(rows {2 * dead + 2}-{2 * dead + 3}\) died with exit code -9"
    ):
        rollout(env, 1)
    env.close()


def test_interrupts_are_the_parents_business() -> None:
    env = Swimmer(num_envs=2, workers=2)
    env.reset(seed=0)
    pid = env._rows._children[0][0].pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    rollout(env, 3)
    env.close()
    assert not _alive(pid)


def test_after_an_interrupted_step_nothing_stale_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Swimmer(num_envs=2, workers=2)
    env.reset(seed=0)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("envs.worker.receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rollout(env, 1)
    with pytest.raises(RuntimeError, match="interrupted"):
        env.state_dict()
    env.close()


# --- nothing outlives the parent ---------------------------------------------------------------------------------

# No `if __name__ == "__main__"`, a task of its own, and torch imported: what a user's script may be.
SCRIPT = """
import os, sys, time
import numpy as np
{imports}
from envs.swimmer import SwimmerTask
from envs.vector import BatchedEnv

class Mine(SwimmerTask):
    def reward(self, before, now, control, dt):
        return np.full(len(control), 7.0)

print("imported", flush=True)
task = Mine(forward_reward_weight=1.0, ctrl_cost_weight=0.0, reset_noise_scale=0.1, frame_skip=4)
env = BatchedEnv(task, num_envs=4, workers=3, horizon=50, dtype="float32", observe=["xy"], views={{}},
                 coverage={{"key": "xy", "cell": 1.0}}, record=[])
env.reset(seed=0)
assert (env.step(np.zeros((4, 2), np.float32))[1] == 7).all()
{then}
print(*(child.pid for child, _ in env._rows._children), flush=True)
while True:
    env.step(np.zeros((4, 2), np.float32))
"""
FORK = """
if os.fork() == 0:  # holds copies of the parent's sockets
    os.close(1)
    time.sleep(8)
    os._exit(0)
"""


@pytest.mark.parametrize("then", ["", FORK], ids=["alone", "with_a_fork_that_lives_on"])
def test_kill_9_leaves_no_worker_and_no_memory(tmp_path: Path, then: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(imports="import torch" if not then else "", then=then))
    shared = _shared_memory()
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert parent.stdout is not None
    lines = [parent.stdout.readline().strip() for _ in range(2)]
    assert lines[0] == "imported"  # once: no worker has run the script again
    pids = [int(pid) for pid in lines[1].split()]
    assert len(pids) == 2 and all(_alive(pid) for pid in pids)
    assert not any("torch" in Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)
    assert _shared_memory() <= shared
    parent.stdout.close()


def test_close_and_garbage_collection_end_the_workers() -> None:
    closed, dropped = Swimmer(num_envs=2, workers=2), Swimmer(num_envs=3, workers=3)
    pids = [child.pid for env in (closed, dropped) for child, _ in env._rows._children]
    closed.close()
    closed.close()
    del dropped
    assert len(pids) == 3
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    """Running: a zombie that nobody has waited for yet is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
