"""Evaluate a run: metrics, figures, videos, report.html.

    python eval.py run=outputs/...
    python eval.py run=outputs/... export=replay.npz    # write its replay as a dataset instead

Exit codes: 0 done, 2 bad input, 1 crash.
"""

import os
import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from train import CONF, build


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="eval")
def launch(cfg: DictConfig) -> None:
    """Evaluate ``run`` as its own saved config says, on the machine that ``runtime`` describes."""
    from skillrl.errors import BadInput
    from skillrl.record import read_config
    from skillrl.resume import set_runtime
    from skillrl.run import Run

    if OmegaConf.is_missing(cfg, "run"):
        raise BadInput("run is missing: python eval.py run=outputs/...")
    config = read_config(cfg.run) | {"evaluate": True}
    runtime: Any = OmegaConf.to_container(cfg.runtime, resolve=True)
    set_runtime(config, runtime)
    run = Run(config, cfg.run, build, saved=True)
    if cfg.export is not None:
        print(f"dataset: {run.export(cfg.export)}")
        return
    show(run.evaluate())
    run.report()
    print(f"report: {run.folder / 'report.html'}")


def show(scores: dict[str, object]) -> None:
    """The numbers, one a line."""
    for name, value in sorted(scores.items()):
        if isinstance(value, int | float):
            print(f"{name:34s} {value:.4g}")


def main() -> int:
    """Evaluate, and turn what went wrong into an exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here whole, and are shortened once
    try:
        launch()
    except (Exception, KeyboardInterrupt) as error:
        from skillrl.errors import exit_code

        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
