"""LeanRL's SAC (MIT, github.com/meta-pytorch/LeanRL): its script, as it is, up to where its training loop would begin.

A clone of it on PYTHONPATH is all that it needs, and tensordict.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

SCRIPT = "sac_continuous_action_torchcompile.py"


def updating(batch: dict[str, Any], **settings: Any) -> Callable[[], None]:
    """One update of all that it learns, on ``batch``; the actor, as in its loop, twice at every second.

    settings: of its ``Args``.
    """
    found = importlib.util.find_spec("leanrl")
    assert found is not None and found.submodule_search_locations
    script = Path(next(iter(found.submodule_search_locations))) / SCRIPT
    stand_in("tyro", cli=lambda arguments: arguments(env_id="HalfCheetah-v5", total_timesteps=0, **settings))
    stand_in("wandb", init=nothing, log=nothing)
    stand_in("torchrl")
    stand_in("torchrl.data", ReplayBuffer=nothing, LazyTensorStorage=nothing)
    torch.distributions.Distribution.set_default_validate_args(False)  # a check of values, which no graph can capture
    module = sys.modules["__main__"] = ModuleType("__main__")  # where its compiler looks for what it names
    module.__file__ = str(script)
    its: dict[str, Any] = vars(module)
    exec(compile(script.read_text(), script, "exec"), its)
    data = its["TensorDict"](batch, batch_size=len(batch["rewards"]))
    args, count = its["args"], 0

    def update() -> None:
        nonlocal count
        its["update_main"](data)
        if count % args.policy_frequency == 0:
            for _ in range(args.policy_frequency):
                its["update_pol"](data)
                its["alpha"].copy_(its["log_alpha"].detach().exp())
        its["qnet_target"].lerp_(its["qnet_params"].data, args.tau)
        count += 1

    return update


def nothing(*_: Any, **__: Any) -> None:
    """What it logs, and the replay that no update looks into."""


def stand_in(name: str, **members: Any) -> None:
    """For a module that its script imports, and that an update does not need."""
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
