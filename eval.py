"""Evaluate a run: metrics, figures, videos, report.html.

    python eval.py run=outputs/...
"""

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def launch(cfg: DictConfig) -> None:
    """Evaluate ``run`` as its own saved config says, on the machine that ``runtime`` describes."""
    from skillrl.config import BadInput
    from skillrl.run import Run, read_config
    from train import build

    if OmegaConf.is_missing(cfg, "run"):
        raise BadInput("run is missing: python eval.py run=outputs/...")
    config = {**read_config(cfg.run), "runtime": OmegaConf.to_container(cfg.runtime, resolve=True)}
    run = Run(config, cfg.run, build)
    show(run.evaluate())
    print(f"report: {Path(cfg.run) / 'report.html'}")


def show(scores: dict[str, object]) -> None:
    """The numbers, one a line."""
    for name, value in sorted(scores.items()):
        if isinstance(value, int | float):
            print(f"{name:34s} {value:.4g}")


def main() -> int:
    """Evaluate, and turn what went wrong into an exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        launch()
    except Exception as error:
        from skillrl.run import exit_code

        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
