"""Launch a run: pretrain skills or load them, use them, evaluate.

    python train.py learner=diayn env=half_cheetah
    python train.py skills=outputs/... downstream=control task=swimmer_goal controller=dqn
    python train.py resume=outputs/...

Exit codes: 0 done, 2 bad input, 1 crash, 130 or 143 stopped by a signal after saving.
SKILLRL_TRACEBACK=1 shows where bad input was found.
"""

import os
import re
import shutil
import sys
import time
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skillrl.errors import BadInput, Past, Stopped, exit_code

CONF = Path(__file__).parent / "conf"
LEFT_OUT, NONE = ("task", "downstream", "controller"), "none"
"""Groups that a run can do without. Hydra has no null for a group, so there null is an option of this name."""
PAST_HYDRA = Past()
MOST_NAMES = 40  # that a line can hold
NO_KEY = re.compile(r"Could not override '([^']+)'\.")  # as Hydra says it
GROUP = re.compile(r"[\w/]+(@[\w.]+)?=[\w/]+")  # an argument that decides which keys there are


def job_name(overrides: Any) -> str:
    """For conf/hydra: a job's folder in its sweep, called by what is not the same in all of the sweep, and its seed."""
    from skillrl import sweep

    parser, shared = OverridesParser.create(), []
    for argument in sys.argv[1:]:
        with suppress(HydraException):  # not an override but an option, or what another program was asked for
            override = parser.parse_override(argument)
            if not override.is_sweep_override():
                shared.append(f"{override.get_key_element()}={override.get_value_element_as_str()}")
    return sweep.job_name([o for o in overrides if o not in shared or o.startswith("seed=")])


OmegaConf.register_new_resolver("job_name", job_name, replace=True)
for group in LEFT_OUT:
    ConfigStore.instance().store(name=NONE, node={group: None}, group=group, package="_global_")


class Launched(Callback):
    """For conf/hydra: what this process has launched as a sweep."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Launched.folder = Path(config.hydra.sweep.dir)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def launch(cfg: DictConfig) -> None:
    """A new run in Hydra's output directory, or a job of a sweep: new, or going on, or finished long ago."""
    from skillrl import sweep

    job = HydraConfig.get()
    folder, sweeping = Path(job.runtime.output_dir), job.mode is RunMode.MULTIRUN
    if not sweeping:
        with PAST_HYDRA:
            start(cfg, folder)
        return
    apart = job.runtime.choices["hydra/launcher"] != "basic"
    sweep.run_job(lambda: start(cfg, folder, sweeping=True), folder, apart=apart)


def start(cfg: DictConfig, folder: Path, *, sweeping: bool = False) -> None:
    """Errors: BadInput where ``folder`` holds a run already, unless it is this one in a sweep: that goes on."""
    from skillrl.record import is_run, read_status
    from skillrl.run import Run

    if is_run(folder) and not sweeping:
        raise BadInput(f"hydra.run.dir: {folder} already holds a run: go on with resume={folder}, or name another")
    try:
        config = plain(cfg)
        if is_run(folder):
            check(config, folder)
            if read_status(folder) == "finished":
                return print(f"finished already: {folder}")
        run = Run(config, folder, build, jobs=jobs_at_once() if sweeping else 1)
        run.execute()
    except BaseException:
        if not is_run(folder):
            discard(folder)
        raise
    announce(run)


def jobs_at_once() -> int:
    """How many runs of this sweep go on beside each other on this machine, this one included."""
    from skillrl.runtime import count_cores

    n_jobs = HydraConfig.get().launcher.get("n_jobs") or 1  # joblib's; -1 is as many as there are cores, -2 one less
    return max(1, n_jobs if n_jobs > 0 else count_cores() + 1 + n_jobs)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed config, without Hydra in it."""
    from skillrl.config import complete, with_env_of_skills

    job = HydraConfig.get()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    config |= {group: None for group in LEFT_OUT if job.runtime.choices.get(group) == NONE}
    if config["skills"] and not any(o.startswith(("env=", "env.", "experiment=")) for o in job.overrides.task):
        config = with_env_of_skills(config)
    return complete(config)


def check(config: dict[str, Any], folder: Path) -> None:
    """Errors: BadInput where the run in ``folder`` is of another config."""
    from skillrl.record import read_config
    from skillrl.resume import check_same

    check_same(read_config(folder), config, folder)


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
            return 0
        sys.argv[1:] = map(without_null, sys.argv[1:])
        return launch_all()
    except (Exception, KeyboardInterrupt) as error:
        return exit_code(corrected(error, "train"))


def corrected(error: BaseException, name: str) -> BaseException:
    """``error``, or a BadInput that says what a slip in a name was meant to be. name: of the primary config."""
    meant = None
    if isinstance(error, MissingConfigException):
        meant = option_meant(error)
    elif isinstance(error, HydraException) and (found := NO_KEY.match(str(error))):
        meant = key_meant(found[1], name)
    return error if meant is None else BadInput(meant).with_traceback(error.__traceback__)


def option_meant(error: MissingConfigException) -> str | None:
    """Of a group: in folders too, where Hydra lists the files of the group's own."""
    group, _, asked = (error.missing_cfg_file or "").partition("/")
    if group == "hydra" or not (asked and (CONF / group).is_dir()):
        return None
    files = {path.relative_to(CONF / group).with_suffix("").as_posix() for path in (CONF / group).rglob("*.yaml")}
    known, last = sorted(files | set(error.options or ())), asked.rpartition("/")[2]
    alike = [option for option in known if option.rpartition("/")[2] == last] or get_close_matches(asked, known)
    if alike:
        return f"{group}={asked} is not there; did you mean {' or '.join(f'{group}={option}' for option in alike)}?"
    if len(known) > MOST_NAMES:
        return f"{group}={asked} is not there: {CONF / group} has {len(known)}, and none is called anything like it"
    return f"{group}={asked} is not there. Available options in '{group}': {' '.join(known)}"


def key_meant(asked: str, name: str) -> str | None:
    """Of the config as it is by the groups that were chosen, where that can be composed."""
    chosen = [a for a in sys.argv[1:] if GROUP.fullmatch(a) and a.partition("=")[0] != asked]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(name, chosen)
        where, _, last = asked.rpartition(".")
        parent = OmegaConf.select(config, where) if where else config
    except (HydraException, OmegaConfBaseException):
        return None
    if not isinstance(parent, DictConfig):
        return None
    left_out = {*LEFT_OUT, "experiment", "sweep"} if name == "train" and not where else set()
    known = sorted({str(key) for key in parent if not str(key).startswith("_")} | left_out)
    alike = [f"{where}.{key}".lstrip(".") for key in get_close_matches(last, known)]
    if alike:
        return f"{asked} is no key of the config; did you mean {' or '.join(alike)}?"
    return f"{asked} is no key of the config: {where or 'it'} has {', '.join(known)}"


def without_null(argument: str) -> str:
    """``downstream=null,control`` as Hydra takes it."""
    key, equals, value = argument.partition("=")
    if key.lstrip("+") not in LEFT_OUT:
        return argument
    return key + equals + ",".join(NONE if choice.strip() == "null" else choice for choice in value.split(","))


def launch_all() -> int:
    """One run, or all jobs of a sweep. Returns the exit code."""
    from skillrl.sweep import PassedOn, judge

    Launched.folder, since = None, time.time()
    with PassedOn() as signals:
        try:
            launch()
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            if Launched.folder is None or not (stopped or signals.seen):
                raise
            signals.seen = signals.seen or getattr(error, "code", 130) - 128
    if Launched.folder is None:
        PAST_HYDRA.settle()
        return 0
    code = judge(Launched.folder, since)
    if signals.seen:
        stop = Stopped(signals.seen)
        stop.advice = f": go on with the same command and hydra.sweep.dir={Launched.folder}"
        raise stop
    print(f"sweep: {Launched.folder}")
    return code


if __name__ == "__main__":
    from train import main  # type: ignore[no-redef]  # jobs of a sweep find what they need here by this name

    sys.exit(main())
