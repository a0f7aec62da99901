"""TensorBoard."""

import io
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillrl.console import Row
from skillrl.loggers.output import axis_of, media


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
        for name, path in media(folder, "figures/*.png"):
            writer._get_file_writer().add_summary(_picture(name, path.read_bytes()))
        for name, path in media(folder, "videos/*.mp4"):
            writer._get_file_writer().add_summary(_picture(name, _as_gif(path)))
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


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
