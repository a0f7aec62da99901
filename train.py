"""Launch a run: pretrain skills or load them, use them, evaluate.

    python train.py learner=diayn env=half_cheetah
    python train.py skills=outputs/... downstream=control task=swimmer_goal controller=dqn
    python train.py resume=outputs/...

Exit codes: 0 done, 2 bad input, 1 crash, 130 or 143 stopped by a signal after saving.
SKILLRL_TRACEBACK=1 shows where bad input was found.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

ON_RESUME = ("runtime.", "logger.")  # what a resumed run may be given anew


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def launch(cfg: DictConfig) -> None:
    """A new run, in Hydra's output directory."""
    from skillrl.config import BadInput
    from skillrl.run import Run

    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    if (folder / "run.json").exists():
        raise BadInput(f"hydra.run.dir: {folder} already holds a run: go on with resume={folder}, or name another")
    named = any(override.lstrip("+").startswith(("env", "experiment")) for override in job.overrides.task)
    try:
        if missing := OmegaConf.missing_keys(cfg):
            raise BadInput(f"{sorted(missing)[0]} is missing: give it a value")
        run = Run(OmegaConf.to_container(cfg, resolve=True), folder, build, env_is_given=named)
    except BaseException:
        discard(folder)
        raise
    finish(run)


def resume(folder: str, overrides: list[str]) -> None:
    """Go on with a run from its saved config, in its folder."""
    from skillrl.config import BadInput
    from skillrl.run import Run, read_config

    config = OmegaConf.create(read_config(folder))
    for override in overrides:
        if not override.startswith(ON_RESUME):
            raise BadInput(f"{override}: with resume, only runtime.* and logger.* may change")
    OmegaConf.set_struct(config, True)
    config.merge_with_dotlist(overrides)
    finish(Run(OmegaConf.to_container(config, resolve=True), folder, build))


def finish(run) -> None:  # type: ignore[no-untyped-def]
    """Do it, and say where to look."""
    run.execute()
    print(f"run: {run.folder}")
    if run.config["evaluate"]:
        print(f"report: {run.folder / 'report.html'}")


def build(node, *handed, **changes):  # type: ignore[no-untyped-def]
    """What a config node describes; ``handed`` goes to its constructor."""
    return hydra.utils.instantiate(node, *handed, _convert_="all", **changes)


def discard(folder: Path) -> None:
    """Leave nothing that looks like a run: only Hydra's by-products are there."""
    if folder.is_dir() and all(path.name == ".hydra" for path in folder.iterdir()):
        shutil.rmtree(folder)


def main() -> int:
    """Run, and turn what went wrong into an exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here whole, and are shortened once
    asked = [argument for argument in sys.argv[1:] if argument.startswith("resume=")]
    rest = [argument for argument in sys.argv[1:] if not argument.startswith("resume=")]
    start = partial(resume, asked[0].removeprefix("resume="), rest) if asked else launch
    try:
        start()
    except Exception as error:
        from skillrl.run import exit_code

        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
