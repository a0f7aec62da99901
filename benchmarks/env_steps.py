"""How many env steps a second do 64 environments make?"""

import os
import socket
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
from alternate import Benchmark, Column, Contender, Goal, Measure, main, timed

ENVS, HORIZON = 64, 200
FRAME_SKIP = 5


def actions(dim: int, low: float = -1.0, high: float = 1.0) -> Iterator[np.ndarray]:
    """Uniform, drawn beforehand: (ENVS, dim)."""
    rng = np.random.default_rng(0)
    return cycle(list(rng.uniform(low, high, (100, ENVS, dim)).astype(np.float32)))


def stepping(step: Callable[[np.ndarray], Any], draw: Iterator[np.ndarray]) -> Measure:
    def work() -> int:
        for _ in range(4):
            step(next(draw))
        return 4 * ENVS

    for _ in range(4):
        work()
    return timed(work)


def ours(body: str, workers: int) -> Measure:
    from envs.ant import Ant
    from envs.half_cheetah import HalfCheetah

    observe = ["joints", "velocities"]
    env: Any = (
        Ant(num_envs=ENVS, workers=workers, horizon=HORIZON, observe=[*observe, "contacts"])
        if body == "Ant"
        else HalfCheetah(num_envs=ENVS, workers=workers, horizon=HORIZON, observe=observe)
    )
    env.reset(seed=0)
    return stepping(env.step, actions(env.single_action_space.shape[0]))


def raw(body: str, threads: int, at_once: int) -> Measure:
    """``mujoco.rollout``, ``at_once`` env steps a call, starting over every 200 env steps as the others do."""
    import gymnasium
    import mujoco
    from mujoco.rollout import Rollout

    model = gymnasium.make(f"{body}-v5").unwrapped.model  # type: ignore[attr-defined]
    data = [mujoco.MjData(model) for _ in range(threads)]
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    rng, first = np.random.default_rng(0), np.empty((ENVS, mujoco.mj_stateSize(model, full)))
    for row in first:
        data[0].qpos[:] = model.qpos0 + rng.uniform(-0.1, 0.1, model.nq)
        data[0].qvel[:] = 0.1 * rng.standard_normal(model.nv)
        mujoco.mj_getState(model, data[0], row, full)
    low, high = model.actuator_ctrlrange[0]
    draw, simulator = actions(model.nu, low, high), Rollout(nthread=threads)
    blocks = [np.stack([next(draw) for _ in range(at_once)], 1) for _ in range(20)]
    controls = cycle([np.repeat(block, FRAME_SKIP, axis=1).astype(float) for block in blocks])  # (ENVS, steps, nu)
    now, clock = first, 0

    def work() -> int:
        nonlocal now, clock
        state, _ = simulator.rollout(model, data, now, next(controls))
        clock = (clock + at_once) % HORIZON
        now = state[:, -1].copy() if clock else first
        return ENVS * at_once

    return timed(work)


def physics(body: str, rows: int) -> Callable[[], int]:
    """``mj_step`` on the data of each row, and on the Ant its contact forces: Gymnasium's physics to the bit."""
    from envs.physics import Physics

    xml, fields = {"Ant": ("ant.xml", ["cfrc_ext"]), "HalfCheetah": ("half_cheetah.xml", [])}[body]
    simulator = Physics(xml=xml, frame_skip=FRAME_SKIP, fields={name: (name, None) for name in fields}, n=rows)
    simulator.bind({name: np.empty((rows, *shape)) for name, shape in simulator.shapes.items()})
    draw = (simulator.control(action)[:rows] for action in actions(simulator.action_dim))
    clock = 0

    def work() -> int:
        nonlocal clock
        if clock % HORIZON == 0:
            for row in range(rows):
                simulator.restart(row, simulator.initial)
        clock += 1
        simulator.step(next(draw), range(rows))
        return rows

    return work


def alone(body: str) -> Measure:
    return timed(physics(body, ENVS))


def called_up(body: str, workers: int) -> Measure:
    """The rows shared out to this process and others, which wait for a byte before each step and answer with one."""
    sockets, own = [], physics(body, ENVS // workers)
    for _ in range(workers - 1):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            work = physics(body, ENVS // workers)
            while theirs.recv(1):
                work()
                theirs.send(b".")
            os._exit(0)
        theirs.close()
        sockets.append(ours)

    def step() -> int:
        for one in sockets:
            one.send(b"s")
        own()
        for one in sockets:
            one.recv(1)
        return ENVS

    return timed(step)


def gymnasiums(body: str, kind: str) -> Measure:
    import gymnasium

    options: dict[str, Any] = {"terminate_when_unhealthy": False} if body == "Ant" else {}
    env = gymnasium.make_vec(f"{body}-v5", num_envs=ENVS, vectorization_mode=kind, max_episode_steps=HORIZON, **options)
    env.reset(seed=0)
    space: Any = env.single_action_space
    return stepping(env.step, actions(space.shape[0], space.low[0], space.high[0]))


def envpools(body: str, threads: int) -> Measure:
    import envpool

    options: dict[str, Any] = {"terminate_when_unhealthy": False} if body == "Ant" else {}
    env = envpool.make_gymnasium(
        f"{body}-v5", num_envs=ENVS, num_threads=threads, max_episode_steps=HORIZON, seed=0, **options
    )
    env.reset()
    space = env.action_space
    draw = (action.astype(np.float64) for action in actions(space.shape[0], space.low[0], space.high[0]))
    return stepping(env.step, draw)


def case(body: str, cores: int) -> list[Contender]:
    of, held = {"body": body}, Goal(0.8)
    asynchronous = Contender("Gymnasium AsyncVectorEnv", gymnasiums, of | {"kind": "async"}, None, cores)
    found = [
        Contender("skillrl", ours, of | {"workers": cores}, cores=cores),
        Contender("mujoco.rollout", raw, of | {"threads": cores, "at_once": 25}, held, cores),
        Contender("mujoco.rollout, a call a step", raw, of | {"threads": cores, "at_once": 1}, None, cores),
        Contender("Gymnasium SyncVectorEnv", gymnasiums, of | {"kind": "sync"}, Goal(1.5), cores),
        *([asynchronous] if cores > 1 else []),
        Contender("EnvPool", envpools, of | {"threads": cores}, Goal(1.0), cores, needs="envpool"),
    ]
    if cores == 1:
        return [*found, Contender("mj_step alone", alone, of, None, cores, limit=True)]
    return [*found, Contender("mj_step in two processes", called_up, of | {"workers": cores}, None, cores, limit=True)]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "64 environments of Gymnasium's v5 bodies with v5's observation (Ant's with contact forces) and reward, random "
        "actions, episodes of 200 steps that nothing ends early. `mujoco.rollout` is physics alone, 25 env steps in "
        "one call, without observation, reward and autoreset; called once a step it also drops the solver's warm "
        "start, so that its physics is not Gymnasium's. On two cores ours is stepped by two processes, the one that "
        "asks for it and a worker. EnvPool brings a MuJoCo of its own. `mj_step` called from Python for each env is "
        "the physics that is Gymnasium's to the bit; in two processes, one does half of it and calls up the other for "
        "each step, and nothing else is done."
    ),
    cases={
        f"{body}, {cores} {'cores' if cores > 1 else 'core'}": case(body, cores)
        for body in ("HalfCheetah", "Ant")
        for cores in (2, 1)
    },
    columns=[Column("rate", "env steps/s"), Column("cpu_ms", "CPU ms a step", "{:.3f}")],
    seconds=1.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
