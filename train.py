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
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parent / "conf"
LEFT_OUT = ("task", "downstream", "controller")
"""Groups that a run can do without. Hydra has no ``downstream=null`` for a group, but ``~downstream``."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def launch(cfg: DictConfig) -> None:
    """A new run, in Hydra's output directory."""
    from skillrl.config import with_env_of_skills
    from skillrl.errors import BadInput
    from skillrl.record import is_run
    from skillrl.run import Run

    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    if is_run(folder):
        raise BadInput(f"hydra.run.dir: {folder} already holds a run: go on with resume={folder}, or name another")
    try:
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        config |= {group: None for group in LEFT_OUT if f"~{group}" in job.overrides.task}
        if config["skills"] and not any(o.startswith(("env=", "env.", "experiment=")) for o in job.overrides.task):
            config = with_env_of_skills(config)
        run = Run(config, folder, build)
        run.execute()
    except BaseException:
        if not is_run(folder):
            discard(folder)
        raise
    announce(run)


def resume(folder: str, overrides: list[str]) -> None:
    """Go on with a run in its folder, from its saved config. A finished one only gets its report anew."""
    from skillrl.record import read_config, read_status
    from skillrl.resume import change
    from skillrl.run import Run

    config = read_config(folder)
    grown = [change(config, override, CONF) for override in overrides]
    run = Run(config, folder, build, saved=True)
    if read_status(folder) == "finished" and not any(grown):
        run.report()
    else:
        run.execute()
    announce(run)


def build(node: Any, *handed: Any, **named: Any) -> Any:
    """What a config node describes; what is handed goes to its constructor."""
    return hydra.utils.instantiate(node, *handed, _convert_="all", **named)


def announce(run: Any) -> None:
    """Say where to look."""
    print(f"run: {run.folder}")
    if run.config["evaluate"]:
        print(f"report: {run.folder / 'report.html'}")


def discard(folder: Path) -> None:
    """Of what did not become a run leave nothing, unless somebody keeps other things there."""
    if folder.is_dir() and all(path.name in (".hydra", "config.yaml") for path in folder.iterdir()):
        shutil.rmtree(folder)


def main() -> int:
    """Run, and turn what went wrong into an exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here whole, and are shortened once
    try:
        asked = [argument for argument in sys.argv[1:] if argument.startswith("resume=")]
        if asked:
            resume(asked[0].removeprefix("resume="), [a for a in sys.argv[1:] if a != asked[0]])
        else:
            sys.argv[1:] = [f"~{a[:-5]}" if a in [f"{group}=null" for group in LEFT_OUT] else a for a in sys.argv[1:]]
            launch()
    except (Exception, KeyboardInterrupt) as error:
        from skillrl.errors import exit_code

        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
