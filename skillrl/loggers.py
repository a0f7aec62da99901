"""Where metrics go. Updates hand over tensors; they are averaged here and become numbers only when a row is written."""

import csv
import io
import logging
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from skillrl.console import Bar, PlainLines, Row

_FIRST = ("env_steps", "grad_steps", "phase")

log = logging.getLogger(__name__)


class Output(Protocol):
    """Somewhere else that rows go. If it fails, that costs one warning line and the run goes on without it."""

    def write(self, row: Row) -> None: ...
    def evaluated(self, scores: Mapping[str, float], folder: Path) -> None: ...
    def close(self) -> None: ...


class Logger:
    """Averages metrics between rows; writes each row to ``metrics.csv``, to the console and to ``outputs``.

    Args:
        directory: the run's folder; what ``metrics.csv`` there holds beyond this logger's rows is replaced.
        every: steps of the current phase between two rows (``due``).
        headline: metrics shown beside the progress bar; empty picks up to four.
        outputs: called with the directory, each gives an Output.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        every: int = 1000,
        headline: Sequence[str] = (),
        outputs: Sequence[Callable[[Path], Output]] = (),
    ):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"logger.every is {every!r}: it must be a whole number of at least 1 step")
        self.directory, self.every = Path(directory), every
        self._csv = CsvFile(self.directory / "metrics.csv")
        self._console = Bar(headline) if sys.stdout.isatty() else PlainLines()
        self._outputs = [output for make in outputs if (output := _start(make, self.directory)) is not None]
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._phase, self._written, self._elapsed = "", 0, 0.0
        self._clock = self._row_clock = time.monotonic()
        self._row_steps = 0

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Open a phase of ``total`` steps, or go on with it after ``done``. Steps are env steps, or updates offline."""
        if phase != self._phase:
            self._phase, self._written = phase, done
            self._sums, self._counts = {}, {}  # what the last phase did not write is none of this one's
        self._row_clock, self._row_steps = time.monotonic(), done
        self._console.start(phase, total, done)

    def progress(self, steps: int) -> None:
        """Move the bar; cheap enough to be called after every round."""
        self._console.progress(steps)

    def due(self, steps: int) -> bool:
        """Whether ``every`` steps of the phase have gone by since its last row."""
        return steps - self._written >= self.every

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """``group/name`` → a number or a 0-d tensor. Waits for no device."""
        for name, value in metrics.items():
            if name not in self._sums:
                self._open_metric(name, value)
            value = value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            if self._sums[name].device != value.device:  # after a resume, or where a metric changes sides
                self._sums[name] = self._sums[name].to(value.device)
            self._sums[name].add_(value)
            self._counts[name] += 1

    def _open_metric(self, name: str, value: Tensor | float) -> None:
        if "/" not in name:
            raise ValueError(f"metric {name!r} needs a group: write it as 'group/name'")
        if isinstance(value, Tensor) and value.dim() > 0:
            raise ValueError(f"metric {name!r} has shape {tuple(value.shape)}: a metric is one number")
        device = value.device if isinstance(value, Tensor) else None
        self._sums[name], self._counts[name] = torch.zeros((), dtype=torch.float64, device=device), 0

    def write(self, *, env_steps: int, grad_steps: int, steps: int | None = None) -> Row:
        """Write the means since the last row. ``steps``: of this phase, where that is not ``env_steps``.

        Errors: OSError in one line when ``metrics.csv`` cannot be written (a full disk).
        """
        steps = env_steps if steps is None else steps
        row: Row = {"env_steps": env_steps, "grad_steps": grad_steps, "phase": self._phase}
        row |= {name: total.item() / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        row |= self._measure(steps)
        self._csv.write(row)
        self._written = steps
        self._console.row(row)
        self._outputs = [output for output in self._outputs if _try(output, "write", row)]
        return row

    def evaluated(self, scores: Mapping[str, Any], folder: Path) -> None:
        """Hand an evaluation to the outputs: its numbers, and the figures and videos in ``folder``."""
        numbers = {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
        self._outputs = [output for output in self._outputs if _try(output, "evaluated", numbers, folder)]

    def _measure(self, steps: int) -> Row:
        now = time.monotonic()
        self._elapsed, self._clock = self._elapsed + now - self._clock, now
        speed = (steps - self._row_steps) / max(now - self._row_clock, 1e-9)
        self._row_clock, self._row_steps = now, steps
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
        measured: Row = {"time/elapsed_s": self._elapsed, "time/steps_per_s": speed, "time/peak_memory_mib": kib / 1024}
        if torch.cuda.is_initialized():
            measured["time/peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return measured

    def state_dict(self) -> dict[str, Any]:
        """The averages under way, and how many rows stand in the file: a resumed run ends with the same CSV."""
        return {
            "sums": {name: total.clone() for name, total in self._sums.items()},
            "counts": dict(self._counts),
            "phase": self._phase,
            "written": self._written,
            "elapsed": self._elapsed + time.monotonic() - self._clock,
            "columns": list(self._csv.columns),
            "rows": self._csv.rows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: the next row replaces those that were written to ``metrics.csv`` after the checkpoint.

        Not before it: a run whose first phase is done loads that phase's state, then the next one's.
        """
        self._sums = {name: total.clone() for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
        self._phase, self._written, self._elapsed = state["phase"], state["written"], state["elapsed"]
        self._clock = time.monotonic()
        self._csv.go_on(state["rows"], state["columns"])

    def close(self) -> None:
        """Give the terminal back and finish the outputs. A second call does nothing."""
        self._console.close()
        for output in self._outputs:
            _try(output, "close")
        self._outputs = []

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CsvFile:
    """A CSV file whose columns grow. Each row is on its way to the disk when ``write`` returns."""

    def __init__(self, path: Path):
        self.path = path
        self.go_on(0, _FIRST)

    def go_on(self, rows: int, columns: Sequence[str]) -> None:
        """The next row comes after the first ``rows``; what the file has beyond those goes when it is written."""
        self.rows, self.columns, self._whole = rows, list(columns), False

    def write(self, row: Row) -> None:
        """Append; a key that is new becomes a column, and the file is rewritten with it."""
        new = [name for name in row if name not in self.columns]
        if new or not self._whole:
            self._rewrite([*self.columns, *new])
        size = self.path.stat().st_size
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(row)
        except OSError as error:
            os.truncate(self.path, size)  # half a row would spoil the next
            raise _cannot_write(self.path, error) from error
        self.rows += 1

    def _rewrite(self, columns: list[str]) -> None:
        """Keep the rows that count, with these columns. Atomic: there is always one whole file."""
        kept = self._read()
        if len(kept) < self.rows:
            log.warning("%s has only %d of the %d rows that were written to it", self.path, len(kept), self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(kept)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _cannot_write(self.path, error) from error
        self.rows, self.columns, self._whole = len(kept), columns, True

    def _read(self) -> list[dict[str, str]]:
        if self.rows == 0 or not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(islice(csv.DictReader(file), self.rows))


def _cannot_write(path: Path, error: OSError) -> OSError:
    clear = OSError(f"{path} could not be written ({error.strerror}): make room, then resume this run")
    clear.errno = error.errno
    return clear


class TensorBoardOutput:
    """Event files under ``tensorboard/<phase>``, against env steps; against updates where there is no env."""

    def __init__(self, directory: Path):
        from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined]

        self._open = lambda phase: SummaryWriter(str(directory / "tensorboard" / phase))
        self._writers: dict[str, Any] = {}

    def write(self, row: Row) -> None:
        phase = str(row["phase"])
        if phase not in self._writers:
            self._writers[phase] = self._open(phase)
        for name, value in row.items():
            if not isinstance(value, str) and name != "env_steps":
                self._writers[phase].add_scalar(name, value, row[axis_of(row)])
        self._writers[phase].flush()

    def evaluated(self, scores: Mapping[str, float], folder: Path) -> None:
        """Under ``tensorboard/evaluation``. Videos become GIFs: it plays nothing else."""
        writer = self._writers["evaluation"] = self._open("evaluation")
        for name, value in scores.items():
            writer.add_scalar(f"evaluation/{name}", value)
        for name, path in _media(folder, "figures/*.png"):
            writer._get_file_writer().add_summary(_picture(name, path.read_bytes()))
        for name, path in _media(folder, "videos/*.mp4"):
            writer._get_file_writer().add_summary(_picture(name, _as_gif(path)))
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _media(folder: Path, pattern: str) -> list[tuple[str, Path]]:
    """What an evaluation has drawn: (its name in a dashboard, its file). The twins for a dark page are left out."""
    found = sorted(path for path in folder.glob(pattern) if not path.stem.endswith(".dark"))
    return [(f"evaluation/{path.stem}", path) for path in found]


def _picture(name: str, content: bytes) -> Any:
    """A summary of a PNG or GIF as it is: the writer's own way would take it apart and pack it anew."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(io.BytesIO(content)) as opened:
        width, height = opened.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=name, image=image)])


def _as_gif(video: Path) -> bytes:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video), "-vf", "fps=10", "-f", "gif", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout


class WandbOutput:
    """A Weights & Biases run, offline unless asked otherwise; ``config.yaml`` of the run's folder goes with it.

    A resumed run is the same one there: its id is kept in ``wandb/id``.

    Args:
        project: as in W&B.
        mode: offline, or online (needs an account and a network; failing that, a warning after ``timeout`` s).
        group: runs that belong together, by a common name; None: the folder's name of the sweep that they are jobs of.
        timeout: seconds to wait for a start, and again for the last upload.
    """

    def __init__(
        self,
        directory: Path,
        *,
        project: str = "skillrl",
        mode: str = "offline",
        group: str | None = None,
        timeout: float = 20.0,
    ):
        if mode not in ("offline", "online"):
            raise ValueError(f"logger.outputs mode of WandbOutput is {mode!r}: it must be offline or online")
        import wandb
        import yaml

        path = directory / "config.yaml"
        config = yaml.safe_load(path.read_text()) if path.exists() else None
        self._run = wandb.init(
            project=project,
            mode=mode,  # type: ignore[arg-type]
            id=_kept_id(directory / "wandb" / "id"),
            resume="allow" if mode == "online" else None,
            group=_sweep_of(directory) if group is None else group,
            job_type="control" if (config or {}).get("downstream") else "pretrain",
            name=directory.name,
            dir=str(directory),
            config=config,
            settings=wandb.Settings(init_timeout=timeout, login_timeout=timeout, finish_timeout=timeout, silent=True),
        )

    def write(self, row: Row) -> None:
        phase = row["phase"]
        self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/{axis_of(row)}")
        self._run.log({f"{phase}/{name}": value for name, value in row.items() if name != "phase"})

    def evaluated(self, scores: Mapping[str, float], folder: Path) -> None:
        import wandb

        self._run.summary.update({f"evaluation/{name}": value for name, value in scores.items()})
        figures = {name: wandb.Image(str(path)) for name, path in _media(folder, "figures/*.png")}
        videos = {name: wandb.Video(str(path), format="mp4") for name, path in _media(folder, "videos/*.mp4")}
        self._run.log(figures | videos)

    def close(self) -> None:
        self._run.finish()


def axis_of(row: Row) -> str:
    """What a row is drawn against: no row has env steps where there is no env."""
    return "env_steps" if row["env_steps"] else "grad_steps"


def _kept_id(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:8])
    return path.read_text()


def _sweep_of(directory: Path) -> str | None:
    """Hydra leaves its mark where a sweep's jobs lie."""
    return directory.resolve().parent.name if (directory.parent / "multirun.yaml").exists() else None


def _start(make: Callable[[Path], Output], directory: Path) -> Output | None:
    try:
        return make(directory)
    except Exception as error:
        if type(error) is ValueError:  # a setting of ours is wrong, which nobody wants to learn from a warning
            raise
        _warn(getattr(make, "func", make).__name__, "did not start", error)
        return None


def _try(output: Output, method: str, *arguments: Any) -> bool:
    try:
        getattr(output, method)(*arguments)
    except Exception as error:
        _warn(type(output).__name__, "failed", error)
        return False
    return True


def _warn(name: str, what: str, error: Exception) -> None:
    reason = " ".join(str(error).split())
    log.warning("%s %s, the run goes on without it: %s: %s", name, what, type(error).__name__, reason)
