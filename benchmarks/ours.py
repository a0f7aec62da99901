"""Our side: what ``train.py`` trains for the same overrides, driven through ``skillrl.train``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from measured import ROOT

SAC = ["learner=flat", "env=half_cheetah", "env.horizon=1000", "env.observe=[joints,velocities]"]
ONE_TO_ONE = ["env.num_envs=1", "pretrain.collect=1", "pretrain.updates=1", "pretrain.warmup=256"]


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The config of ``python train.py <overrides>``."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import train  # registers what the config needs
    from skillrl.config import complete

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg: Any = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    cfg |= {group: None for group in train.LEFT_OUT if cfg.get(group) is None}
    return complete(cfg)


def begun(overrides: Sequence[str]) -> Any:
    """The State of that run at its first round, as skillrl/phase.py begins it."""
    from skillrl.data.replay import Replay
    from skillrl.precision import equip
    from skillrl.runtime import place, seed_everything, setup_runtime
    from skillrl.spec import Spec
    from skillrl.training import Schedule, begin
    from train import build

    config = composed(overrides)
    runtime = build(config["runtime"])
    device = setup_runtime(runtime)
    env = build(config["env"])
    seed_everything(config["seed"])
    learner = place(build(config["learner"], Spec.from_env(env)), device, config["seed"])
    budget = {key: config["pretrain"][key] for key in ("warmup", "collect", "updates", "overlap")}
    capacity = config["pretrain"]["capacity"]
    data = Replay(capacity, env.num_envs, gamma=learner.gamma, device=device, seed=config["seed"])
    state = begin(env=env, learner=learner, data=data, schedule=Schedule(0, **budget), seed=config["seed"])
    equip(state, runtime)
    return state


def updates(state: Any, batches: Callable[[], Any]) -> Callable[[], Any]:
    """Of its learner, as its run makes them, each from what ``batches`` gives."""
    needs, data = state.learner.needs(), SimpleNamespace(sample=lambda needs: batches())
    return lambda: state.updating(state.learner, data, needs, 1)


def go_on(state: Any, env_steps: int) -> int:
    """Train for that many env steps more, rounded up to whole rounds. Returns how many it were."""
    from skillrl.training import train

    before = state.env_steps
    state.schedule = replace(state.schedule, total=before + env_steps)
    train(env=state.collector.env, learner=state.learner, data=state.data, schedule=state.schedule, state=state)
    return state.env_steps - before


def training(overrides: Sequence[str], chunk: int = 32) -> tuple[Any, Callable[[], int]]:
    """A State past its warm-up, and the work that goes on from it."""
    state = begun(overrides)
    go_on(state, state.schedule.warmup + chunk)
    return state, lambda: go_on(state, chunk)
