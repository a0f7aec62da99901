"""Weights & Biases."""

import uuid
from collections.abc import Mapping
from pathlib import Path

from skillrl.console import Row
from skillrl.loggers.output import axis_of, media


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
        figures = {name: wandb.Image(str(path)) for name, path in media(folder, "figures/*.png")}
        videos = {name: wandb.Video(str(path), format="mp4") for name, path in media(folder, "videos/*.mp4")}
        self._run.log(figures | videos)

    def close(self) -> None:
        self._run.finish()


def _kept_id(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:8])
    return path.read_text()


def _sweep_of(directory: Path) -> str | None:
    """Hydra leaves its mark where a sweep's jobs lie."""
    return directory.resolve().parent.name if (directory.parent / "multirun.yaml").exists() else None
