"""What ends a run before its time, and how that is told: one line and an exit code, or a traceback."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

DONE, CRASH, BAD_INPUT = 0, 1, 2
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_PLACE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EROFS}


class BadInput(ValueError):
    """What a person asked for cannot be had. The message says in one line what, where, and what would be right."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run. ``code`` is the exit code, 128 + the signal's number; ``advice`` says how to go on."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code, self.advice = 128 + number, ""


class Past:
    """Takes an error past a caller that would say something of its own about it, as Hydra does in its jobs.

    ``with past:`` stands around what may fail, and ``past.settle()`` after the caller, where the first error is raised.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):  # stops and exits go their own way
            return False
        self.error = self.error or error
        return True

    def settle(self) -> None:
        """Errors: the one that was kept."""
        error, self.error = self.error, None
        if error is not None:
            raise error


@contextmanager
def bad_input(where: str) -> Iterator[None]:
    """What fails while things are built from a config is the config's fault: it becomes BadInput.

    AttributeError, KeyError and the like stay what they are, a program's mistake.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        cause: BaseException = error
        while _is_of(cause, "hydra") and cause.__cause__ is not None:  # Hydra's own layer says where, not what
            cause = cause.__cause__
        if not isinstance(cause, ValueError | TypeError | RuntimeError | ArithmeticError | OSError):
            raise
        where = getattr(error, "full_key", None) or where
        message = _line(cause)
        if not isinstance(cause, ValueError):
            message = f"{type(cause).__name__}: {message} (SKILLRL_TRACEBACK=1 shows where)"
        raise BadInput(message if message.startswith(where) else f"{where}: {message}") from error


def exit_code(error: BaseException) -> int:
    """Say on stderr what went wrong, as shortly as it deserves; SKILLRL_TRACEBACK=1 shows all of it."""
    if isinstance(error, BrokenPipeError):  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CRASH
    code, text = explain(error)
    print(text, file=sys.stderr)
    return code


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code, and what there is to say: a line, or a traceback where no line would do."""
    if isinstance(error, KeyboardInterrupt):
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        return stop.code, f"stopped by {stop}{stop.advice}"
    code, text = _judge(error), []
    if code is None or os.environ.get("SKILLRL_TRACEBACK"):
        text.append("".join(traceback.format_exception(error)).rstrip())
    if code is not None:
        text.append(f"error: {_line(error)}")
    return CRASH if code is None else code, "\n".join(text)


def _judge(error: BaseException) -> int | None:
    """The exit code of what one line can explain, else None."""
    if isinstance(error, BadInput) or _is_of(error, "hydra") or _is_of(error, "omegaconf"):
        return BAD_INPUT
    if (
        isinstance(error, ValueError) and _raised_by(error).split(".")[0] == "hydra"
    ):  # not all of its errors are its own
        return BAD_INPUT
    if isinstance(error, OSError):
        return BAD_INPUT if error.errno in NO_PLACE else CRASH if error.errno in NO_ROOM else None
    return None


def _is_of(error: BaseException, package: str) -> bool:
    return any(kind.__module__.split(".")[0] == package for kind in type(error).__mro__)


def _raised_by(error: BaseException) -> str:
    """The module in which it was raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""


def _line(error: BaseException) -> str:
    text = str(error).split("\nConfig search path")[0]  # of Hydra's, which nobody needs here
    return " ".join(text.split()) or type(error).__name__
