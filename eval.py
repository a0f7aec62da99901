"""Evaluate a run: metrics, figures, videos, report.html. Or compare many, by their configs.

    python eval.py run=outputs/...
    python eval.py runs='outputs/sweep/*'
    python eval.py run=outputs/... export=replay.npz    # write its replay as a dataset instead

Exit codes: 0 done, 2 bad input, 1 crash.
"""

import os
import shutil
import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from skillrl.errors import BadInput, exit_code
from train import CONF, PAST_HYDRA, build, corrected


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="eval")
def launch(cfg: DictConfig) -> None:
    """As asked for."""
    with PAST_HYDRA:
        start(cfg)


def start(cfg: DictConfig) -> None:
    """Evaluate ``run``, or compare ``runs``."""
    if cfg.export is not None and cfg.run is None:
        raise BadInput("export is given without run: it writes the replay of one run")
    if cfg.run is not None and cfg.runs is not None:
        raise BadInput("run and runs are both given: run=<folder> evaluates one, runs='<glob>' compares many")
    if cfg.runs is not None:
        compare(str(cfg.runs), cfg.out)
    elif cfg.out is not None:
        raise BadInput("out is given without runs: what is evaluated stays in its run's folder")
    elif cfg.run is not None:
        evaluate(str(cfg.run), OmegaConf.to_container(cfg.runtime, resolve=True), cfg.export)
    else:
        raise BadInput("run is missing: python eval.py run=outputs/..., or runs='outputs/sweep/*' to compare")


def evaluate(folder: str, runtime: Any, export: str | None) -> None:
    """As the run's own saved config says, on the machine that ``runtime`` describes; or only export its replay."""
    from skillrl.record import read_config
    from skillrl.resume import set_runtime
    from skillrl.run import Run

    config = read_config(folder) | {"evaluate": True}
    set_runtime(config, runtime)
    run = Run(config, folder, build, saved=True)
    if export is not None:
        print(f"dataset: {run.export(export)}")
        return
    show(run.evaluate())
    run.report()
    print(f"report: {run.folder / 'report.html'}")


def compare(runs: str, out: str | None) -> None:
    """The finished runs that a glob finds."""
    from skillrl.comparison import text, write_comparison

    comparison, folder = write_comparison(runs, out)
    print(text(comparison, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    print(f"comparison: {folder / 'comparison.html'}")


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
        PAST_HYDRA.settle()
    except (Exception, KeyboardInterrupt) as error:
        return exit_code(corrected(error, "eval"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
