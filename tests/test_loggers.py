"""Rows of metrics: averaged, in an open schema, never lost, the same after a resume; and where else they go."""

import csv
import errno
import io
import os
import pty
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from skillrl.console import Bar
from skillrl.loggers import Logger, Row, TensorBoardOutput, WandbOutput

ROOT = Path(__file__).parents[1]


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(row: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if not name.startswith("time/")}


def test_a_row_holds_means_and_starts_anew(tmp_path: Path):
    logger = Logger(tmp_path)
    logger.start("pretrain", 100)
    for value in (1.0, 2.0, 6.0):
        logger.add({"loss/critic": torch.tensor(value, requires_grad=True)})
    logger.add({"episode/return": 5, "episode/success": torch.tensor(True)})
    logger.write(env_steps=10, grad_steps=3)
    logger.add({"loss/critic": 0.5})
    logger.write(env_steps=20, grad_steps=4)
    first, second = rows(tmp_path)
    assert list(first)[:3] == ["env_steps", "grad_steps", "phase"]
    assert untimed(first) == {
        **{"env_steps": "10", "grad_steps": "3", "phase": "pretrain"},
        **{"loss/critic": "3.0", "episode/return": "5.0", "episode/success": "1.0"},
    }
    assert second["loss/critic"] == "0.5" and second["episode/return"] == ""
    assert float(second["time/elapsed_s"]) > float(first["time/elapsed_s"]) > 0
    assert float(first["time/steps_per_s"]) > 0 and float(first["time/peak_memory_mib"]) > 1


def test_means_are_exact_over_many_single_precision_values(tmp_path: Path):
    logger = Logger(tmp_path)
    value = torch.tensor(0.1)
    for _ in range(20_000):
        logger.add({"loss/critic": value})
    assert logger.write(env_steps=1, grad_steps=1)["loss/critic"] == pytest.approx(value.item(), rel=1e-12)


def test_an_update_may_write_into_the_tensor_it_handed_over(tmp_path: Path):
    logger, value = Logger(tmp_path), torch.tensor(1.0)
    logger.add({"loss/critic": value})
    value.fill_(100.0)
    assert logger.write(env_steps=1, grad_steps=1)["loss/critic"] == 1.0
    assert value.item() == 100.0


def test_new_columns_keep_old_rows_and_none_is_dropped(tmp_path: Path):
    logger = Logger(tmp_path)
    logger.start("pretrain", 10)
    logger.add({"a/x": 1.0})
    logger.write(env_steps=1, grad_steps=0)
    logger.start("control, then more", 10)
    logger.add({"b/y": 2.0})
    logger.write(env_steps=2, grad_steps=0)
    first, second = rows(tmp_path)
    assert (first["a/x"], first["b/y"], second["a/x"], second["b/y"]) == ("1.0", "", "", "2.0")
    assert second["phase"] == "control, then more"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv"]


def test_what_is_no_number_is_seen(tmp_path: Path):
    logger = Logger(tmp_path)
    logger.add({"loss/critic": torch.tensor(float("nan")), "loss/actor": float("inf")})
    logger.write(env_steps=1, grad_steps=1)
    assert (rows(tmp_path)[0]["loss/critic"], rows(tmp_path)[0]["loss/actor"]) == ("nan", "inf")


def test_each_row_is_on_disk_when_write_returns(tmp_path: Path):
    code = (
        "import os, sys; from skillrl.loggers import Logger\n"
        "logger = Logger(sys.argv[1]); logger.start('pretrain', 10)\n"
        "for i in range(3): logger.add({'a/x': i}); logger.write(env_steps=i, grad_steps=i)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True)
    assert done.returncode == -9
    assert [row["a/x"] for row in rows(tmp_path)] == ["0.0", "1.0", "2.0"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"loss": 1.0}, "metric 'loss' needs a group"),
        ({"env_steps": 1.0}, "metric 'env_steps' needs a group"),
        ({"loss/critic": torch.zeros(3)}, r"metric 'loss/critic' has shape \(3,\): a metric is one number"),
    ],
)
def test_metrics_that_cannot_be(tmp_path: Path, metrics: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Logger(tmp_path).add(metrics)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "10"])
def test_every_that_cannot_be(tmp_path: Path, every):
    with pytest.raises(ValueError, match=r"logger\.every is .*: it must be a whole number of at least 1 step"):
        Logger(tmp_path, every=every)


def test_rows_are_due_every_so_many_steps_of_the_phase(tmp_path: Path):
    logger = Logger(tmp_path, every=10)
    written = []
    for phase in ("pretrain", "control"):
        logger.start(phase, 40)
        for steps in range(4, 41, 4):
            if logger.due(steps):
                logger.write(env_steps=steps, grad_steps=0)
                written.append(steps)
    assert written == [12, 24, 36, 12, 24, 36]


# ---- resume


def run(logger: Logger, steps: range) -> Iterator[int]:
    """A phase of a run that logs every 4 steps, with a column that comes late."""
    for step in steps:
        logger.add({"a/x": torch.tensor(0.1 * step)})
        if step > 9:
            logger.add({"b/late": float(step)})
        if logger.due(step):
            logger.write(env_steps=step, grad_steps=step)
        yield step


@pytest.mark.parametrize("saved_at", [1, 6, 8, 13, 20])
def test_a_resumed_run_ends_with_the_same_rows(tmp_path: Path, saved_at: int):
    whole = Logger(tmp_path / "whole", every=4)
    whole.start("pretrain", 20)
    list(run(whole, range(1, 21)))

    killed = Logger(tmp_path / "killed", every=4)
    killed.start("pretrain", 20)
    for step in run(killed, range(1, 19)):
        if step == saved_at:
            torch.save(killed.state_dict(), tmp_path / "logger.pt")
    if saved_at > 18:
        torch.save(killed.state_dict(), tmp_path / "logger.pt")
        saved_at = 18

    resumed = Logger(tmp_path / "killed", every=4)
    resumed.load_state_dict(torch.load(tmp_path / "logger.pt", weights_only=True))
    resumed.start("pretrain", 20, saved_at)
    list(run(resumed, range(saved_at + 1, 21)))
    assert list(map(untimed, rows(tmp_path / "killed"))) == list(map(untimed, rows(tmp_path / "whole")))
    elapsed = [float(row["time/elapsed_s"]) for row in rows(tmp_path / "killed")]
    assert elapsed == sorted(elapsed)


def test_a_finished_phase_loaded_on_the_way_to_the_next_costs_no_rows(tmp_path: Path):
    logger = Logger(tmp_path, every=4)
    logger.start("pretrain", 20)
    list(run(logger, range(1, 21)))
    after_pretrain = logger.state_dict()
    logger.start("control", 20)
    list(run(logger, range(1, 11)))
    within_control = logger.state_dict()
    list(run(logger, range(11, 21)))
    before = rows(tmp_path)

    resumed = Logger(tmp_path, every=4)
    resumed.load_state_dict(after_pretrain)
    resumed.start("pretrain", 20, 20)
    resumed.load_state_dict(within_control)
    resumed.start("control", 20, 10)
    list(run(resumed, range(11, 21)))
    assert list(map(untimed, rows(tmp_path))) == list(map(untimed, before))


def test_a_phase_does_not_inherit_what_the_last_one_left_unwritten(tmp_path: Path):
    logger = Logger(tmp_path)
    logger.start("pretrain", 10)
    logger.add({"a/x": 100.0})
    logger.start("control", 10)
    logger.add({"a/x": 1.0})
    assert logger.write(env_steps=1, grad_steps=1)["a/x"] == 1.0


def test_a_run_that_starts_again_replaces_the_old_rows(tmp_path: Path):
    for value in (1.0, 2.0):
        logger = Logger(tmp_path)
        logger.add({"a/x": value})
        logger.write(env_steps=1, grad_steps=1)
    assert [row["a/x"] for row in rows(tmp_path)] == ["2.0"]


def test_rows_that_are_gone_are_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    logger = Logger(tmp_path, every=1)
    list(run(logger, range(1, 4)))
    state = logger.state_dict()
    (tmp_path / "metrics.csv").unlink()
    resumed = Logger(tmp_path, every=1)
    resumed.load_state_dict(state)
    list(run(resumed, range(4, 6)))
    assert [row["env_steps"] for row in rows(tmp_path)] == ["4", "5"]
    assert "has only 0 of the 3 rows" in caplog.text


# ---- a full disk


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Any write beyond ``size`` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("new", ["a/x", "b/new"], ids=["append", "rewrite"])
def test_a_full_disk_is_one_clear_error_and_costs_no_row(tmp_path: Path, new: str):
    logger = Logger(tmp_path)
    logger.add({"a/x": 1.0})
    logger.write(env_steps=1, grad_steps=1)
    size = (tmp_path / "metrics.csv").stat().st_size
    logger.add({new: 2.0})
    clear = pytest.raises(OSError, match=r"metrics\.csv could not be written \(.*\): make room")
    with clear as caught, files_of_at_most(size + 5):
        logger.write(env_steps=2, grad_steps=2)
    assert caught.value.errno == errno.EFBIG and "\n" not in str(caught.value)
    assert [row["a/x"] for row in rows(tmp_path)] == ["1.0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv"]
    logger.add({"a/x": 3.0})
    logger.write(env_steps=3, grad_steps=3)
    assert [row["a/x"] for row in rows(tmp_path)] == ["1.0", "3.0"]


# ---- the console


def test_off_a_terminal_each_row_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    with Logger(tmp_path) as logger:
        logger.start("pretrain", 10)
        logger.progress(5)
        logger.add({"a/x": 1 / 3})
        logger.write(env_steps=10, grad_steps=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    cells = dict(cell.split("=") for cell in lines[0].split())
    assert cells["env_steps"] == "10" and cells["phase"] == "pretrain" and cells["a/x"] == "0.33333"


def test_on_a_terminal_there_is_a_bar_with_headline_metrics(tmp_path: Path):
    code = (
        "import sys, time; from skillrl.loggers import Logger\n"
        "with Logger(sys.argv[1], every=10) as logger:\n"
        "    logger.start('pretrain', 40)\n"
        "    for steps in range(1, 41):\n"
        "        time.sleep(0.05); logger.progress(steps); logger.add({'reward/intrinsic': 1.25})\n"
        "        if logger.due(steps): logger.write(env_steps=steps, grad_steps=0)\n"
    )
    main, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        while part := _read(main):
            shown += part
    os.close(main)
    text = shown.decode()
    assert process.returncode == 0
    assert "pretrain" in text and "40/40" in text and "intrinsic 1.25" in text and "/s" in text
    assert "env_steps=" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is given back


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_the_bar_may_be_asked_for_nothing_and_closed_twice():
    bar = Bar([])
    bar.progress(1)
    bar.row({"env_steps": 1})
    bar.close()
    bar.close()


# ---- other outputs


def test_tensorboard_has_each_phase_against_env_steps(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Logger(tmp_path, outputs=[TensorBoardOutput]) as logger:
        for phase in ("pretrain", "control"):
            logger.start(phase, 10)
            logger.add({"a/x": 0.5})
            logger.write(env_steps=7, grad_steps=2)
    for phase in ("pretrain", "control"):
        events = EventAccumulator(str(tmp_path / "tensorboard" / phase))
        events.Reload()
        assert [(event.step, event.value) for event in events.Scalars("a/x")] == [(7, 0.5)]
        assert [event.value for event in events.Scalars("grad_steps")] == [2]


def test_without_an_env_a_phase_is_drawn_against_updates(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Logger(tmp_path, outputs=[TensorBoardOutput]) as logger:
        logger.start("pretrain", 10)
        for updates in (2, 4):
            logger.add({"a/x": updates})
            logger.write(env_steps=0, grad_steps=updates, steps=updates)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "pretrain"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a/x")] == [(2, 2.0), (4, 4.0)]


def test_wandb_is_offline_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "config.yaml").write_text("learner: {lr: 0.125}\n")
    with Logger(tmp_path, outputs=[WandbOutput]) as logger:
        logger.start("pretrain", 10)
        logger.add({"a/x": 0.5})
        logger.write(env_steps=7, grad_steps=2)
        wandb_run = logger._outputs[0]._run  # type: ignore[attr-defined]
        assert wandb_run.summary["pretrain/a/x"] == 0.5 and wandb_run.summary["pretrain/env_steps"] == 7
        assert wandb_run.config["learner"] == {"lr": 0.125} and wandb_run.name == tmp_path.name
    [record] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 10  # W&B's own process writes the file a moment after the run is finished
    while record.stat().st_size < 100 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert record.stat().st_size > 100


def test_wandb_online_without_a_network_costs_seconds_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with Logger(tmp_path, outputs=[partial(WandbOutput, mode="online", timeout=2)]) as logger:
        logger.write(env_steps=1, grad_steps=1)
    [warning] = [record.getMessage() for record in caplog.records if record.name == "skillrl.loggers.logger"]
    assert warning.startswith("WandbOutput did not start, the run goes on without it:") and "\n" not in warning
    assert len(rows(tmp_path)) == 1


@contextmanager
def server_that_never_answers() -> Iterator[str]:
    """Its address. It takes every connection, and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen(100)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_wandb_online_with_a_network_that_hangs_costs_seconds_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with server_that_never_answers() as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        before = time.monotonic()
        with Logger(tmp_path, outputs=[partial(WandbOutput, mode="online", timeout=2)]) as logger:
            logger.write(env_steps=1, grad_steps=1)
        assert time.monotonic() - before < 30, "on a busy machine; W&B itself would go on for minutes"
    [warning] = [record.getMessage() for record in caplog.records if record.name == "skillrl.loggers.logger"]
    assert warning.startswith("WandbOutput did not start, the run goes on without it:") and "\n" not in warning
    assert len(rows(tmp_path)) == 1


class OfWandb:
    """W&B's run, as far as an output talks to it."""

    def __init__(self, **arguments: Any):
        self.arguments, self.summary, self.logged = arguments, {}, []

    def log(self, values: dict) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        pass


def test_wandb_groups_a_sweep_and_knows_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import wandb

    monkeypatch.setattr(wandb, "init", OfWandb)
    job = tmp_path / "my_sweep" / "seed-0"
    job.mkdir(parents=True)
    (job / "config.yaml").write_text("seed: 0\ndownstream: {x: 1}\n")
    runs = [WandbOutput(job)._run.arguments for _ in range(2)]
    assert runs[0]["group"] is None and runs[0]["job_type"] == "control" and runs[0]["name"] == "seed-0"
    assert runs[0]["id"] == runs[1]["id"] and runs[0]["config"]["seed"] == 0
    (tmp_path / "my_sweep" / "multirun.yaml").touch()
    assert WandbOutput(job)._run.arguments["group"] == "my_sweep"
    assert WandbOutput(job, group="mine")._run.arguments["group"] == "mine"
    other = WandbOutput(tmp_path / "alone")._run.arguments
    assert other["id"] != runs[0]["id"] and other["job_type"] == "pretrain" and other["group"] is None


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Figures and a video, as an evaluation leaves them."""
    import imageio_ffmpeg
    from PIL import Image

    folder = tmp_path / "eval"
    for name in ("figures", "videos"):
        (folder / name).mkdir(parents=True)
    for name in ("paths.png", "paths.dark.png"):
        Image.new("RGB", (30, 20), "red").save(folder / "figures" / name)
    video = imageio_ffmpeg.write_frames(folder / "videos" / "skills.mp4", (32, 16), fps=10, macro_block_size=16)
    video.send(None)
    for shade in (0, 100, 200):
        video.send(bytes([shade]) * (32 * 16 * 3))
    video.close()
    return folder


def test_tensorboard_shows_the_evaluation(tmp_path: Path, evaluation: Path, caplog: pytest.LogCaptureFixture):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Logger(tmp_path, outputs=[TensorBoardOutput]) as logger:
        logger.evaluated({"discriminability": 0.5, "num_skills": 3, "success_rate": None, "notes": []}, evaluation)
    assert not caplog.messages
    events = EventAccumulator(str(tmp_path / "tensorboard" / "evaluation"), size_guidance={"images": 0})
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["evaluation/discriminability", "evaluation/num_skills"]
    assert sorted(events.Tags()["images"]) == ["evaluation/paths", "evaluation/skills"]
    shown = {name: events.Images(f"evaluation/{name}")[0] for name in ("paths", "skills")}
    assert shown["paths"].encoded_image_string == (evaluation / "figures" / "paths.png").read_bytes()
    assert (shown["paths"].width, shown["paths"].height) == (30, 20)
    gif = Image.open(io.BytesIO(shown["skills"].encoded_image_string))
    assert gif.format == "GIF" and gif.n_frames == 3 and gif.size == (32, 16)


def test_wandb_gets_the_evaluation(tmp_path: Path, evaluation: Path, caplog: pytest.LogCaptureFixture):
    with Logger(tmp_path, outputs=[WandbOutput]) as logger:
        logger.evaluated({"discriminability": 0.5, "success_rate": None}, evaluation)
        assert logger._outputs[0]._run.summary["evaluation/discriminability"] == 0.5  # type: ignore[attr-defined]
    assert not [record for record in caplog.records if record.name == "skillrl.loggers.logger"]
    sent = [path for path in tmp_path.glob("wandb/offline-run-*/files/media/**/*") if path.is_file()]
    assert sorted(path.suffix for path in sent) == [".mp4", ".png"]
    assert [p.read_bytes() for p in sent if p.suffix == ".mp4"] == [(evaluation / "videos" / "skills.mp4").read_bytes()]


def test_a_mode_that_wandb_does_not_have_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="mode of WandbOutput is 'on': it must be offline or online"):
        Logger(tmp_path, outputs=[partial(WandbOutput, mode="on")])


class Breaking:
    """An output that writes once."""

    def __init__(self, directory: Path):
        self.seen: list[Row] = []

    def write(self, row: Row) -> None:
        if self.seen:
            raise RuntimeError("gone\naway")
        self.seen.append(row)

    def close(self) -> None:
        raise AssertionError("a broken output is not asked again")


def test_an_output_that_breaks_is_dropped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with Logger(tmp_path, outputs=[Breaking]) as logger:
        for step in range(4):
            logger.write(env_steps=step, grad_steps=0)
    assert len(rows(tmp_path)) == 4
    assert caplog.messages == ["Breaking failed, the run goes on without it: RuntimeError: gone away"]
