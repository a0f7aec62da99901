"""SAC of Stable-Baselines3 and of SBX on Gymnasium's HalfCheetah, with the networks and the batch of ours."""

from collections.abc import Callable
from typing import Any

BATCH, WIDTHS, WARMUP = 256, [256, 256], 256


def sac(library: str, threads: int, env: Any = "HalfCheetah-v5") -> Any:
    """One update an env step; everything else is the library's default."""
    settings: dict[str, Any] = {
        "train_freq": 1,
        "gradient_steps": 1,
        "batch_size": BATCH,
        "learning_starts": WARMUP,
        "policy_kwargs": {"net_arch": WIDTHS},
        "seed": 0,
    }
    if library == "sbx":
        import sbx

        return sbx.SAC("MlpPolicy", env, **settings)
    import stable_baselines3
    import torch

    torch.set_num_threads(threads)
    return stable_baselines3.SAC("MlpPolicy", env, device="cpu", **settings)


def training(library: str, threads: int, chunk: int = 32) -> Callable[[], int]:
    """The work that goes on after the warm-up."""
    model = sac(library, threads)
    model.learn(WARMUP + chunk)

    def work() -> int:
        model.learn(chunk, reset_num_timesteps=False)
        return chunk

    return work
