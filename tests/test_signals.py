"""Ctrl-C and SIGTERM: they wait for the end of a round, save, and say how to go on."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import train as train_script
from skillrl.errors import Stopped
from skillrl.signals import Signals

TINY = ["pretrain.env_steps=160", "pretrain.warmup=80", "learner.hidden_dims=[8]", "learner.batch_size=8"]


def train(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """train.py in this process; exit code."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return train_script.main()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a foreground process: what a shell starts with & may be given SIGINT as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_signals_wait_only_while_they_are_told_to():
    with pytest.raises(Stopped) as error, Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.code == 143
    with pytest.raises(Stopped) as error, Signals() as signals:
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.seen == signal.SIGINT
        pytest.fail("it was forgotten")
    assert error.value.code == 130
    with pytest.raises(Stopped), Signals() as signals, signals.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one does not wait")
    with Signals() as signals, signals.deferred():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    """In the middle of training; test_resume.py shows that the run goes on exactly."""
    from skillrl.learners.diayn import DIAYN

    fit, calls = DIAYN.fit, []

    def signalled(self: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return fit(self, batch)

    monkeypatch.setattr(DIAYN, "fit", signalled)
    assert train(monkeypatch, *TINY, f"hydra.run.dir={tmp_path}") == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("stopped by SIG") and f"resume={tmp_path}" in said[0]
    assert [path.name for path in tmp_path.glob("checkpoints/pretrain/*.pt")] == ["000000000096.pt"]
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"


def test_ctrl_c_before_anything_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skillrl.run.Run.rehearse", interrupted)
    assert train(monkeypatch, f"hydra.run.dir={tmp_path / 'run'}") == 130
    assert "Traceback" not in capsys.readouterr().err and not (tmp_path / "run").exists()
