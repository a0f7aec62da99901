"""A worker process: owns some rows of an env, steps them when told to, and ends when its parent does.

It is started with `python -c`, so the user's script is not imported again (it needs no `if __name__` guard).
Messages in both directions: one byte, and where there is more to say a length (8 bytes) and a pickle.
"""

import contextlib
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from typing import Any

from envs.memory import map_shared, place
from envs.slice import Slice

STEP, RESET, STATE, LOAD = b"s", b"r", b"g", b"l"
DONE, VALUE, ERROR = b".", b"=", b"!"


def send(sock: socket.socket, kind: bytes, *payload: Any) -> None:
    """Sends a byte, and at most one object."""
    if not payload:
        sock.sendall(kind)
        return
    body = pickle.dumps(payload[0], protocol=pickle.HIGHEST_PROTOCOL)
    sock.sendall(kind + struct.pack("!Q", len(body)) + body)


def receive_object(sock: socket.socket) -> Any:
    """The object after a byte that announced one. The other side is our own parent or child."""
    (size,) = struct.unpack("!Q", receive(sock, 8))
    return pickle.loads(receive(sock, size))


def receive(sock: socket.socket, size: int, idle: Callable[[], None] | None = None) -> bytes:
    """Exactly `size` bytes; `idle` is called when the socket's own time limit passes. EOFError: nobody is there."""
    parts = []
    while size:
        try:
            part = sock.recv(min(size, 1 << 20))
        except BlockingIOError:
            if idle is not None:
                idle()
            continue
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(socket_fd: int, memory_fd: int, parent: int) -> None:
    """Serves until the socket closes or the parent is gone."""
    # The parent decides what an interrupt means (it may want to save first); its end closes the socket, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sock = socket.socket(fileno=socket_fd)
    # The kernel's limit, not Python's `settimeout`, which costs more calls a step.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(sock, memory_fd, parent)


def _serve(sock: socket.socket, memory_fd: int, parent: int) -> None:
    rows: Slice | None = None
    while True:
        kind = _next(sock, parent)
        try:
            if kind == STEP and rows is not None:
                rows.step()
                answer: tuple = ()
            else:
                message = receive_object(sock)
                if rows is None:
                    rows = _build(message, memory_fd)
                    answer = ()
                else:
                    answer = () if (value := answer_to(rows, kind, message)) is None else (value,)
        except (EOFError, ConnectionError):
            raise
        except Exception:  # whatever a task raised belongs in the parent's hands
            send(sock, ERROR, traceback.format_exc())
        else:
            send(sock, VALUE if answer else DONE, *answer)


def _next(sock: socket.socket, parent: int) -> bytes:
    """The next byte. A look at the parent each second covers the case that a fork of it still holds its socket."""

    def look() -> None:
        if os.getppid() != parent:
            raise EOFError

    return receive(sock, 1, look)


def _build(message: dict[str, Any], memory_fd: int) -> Slice:
    start, stop = message["rows"]
    arrays = place(message["layout"], map_shared(memory_fd, message["size"]))
    os.close(memory_fd)
    own = {name: array[start:stop] for name, array in arrays.items()}
    task = pickle.loads(message["task"])
    return Slice(task, own, first=start, horizon=message["horizon"], observe=message["observe"])


def answer_to(rows: Slice, kind: bytes, message: Any) -> Any:
    """Their state, where that was asked for, else None."""
    if kind == RESET:
        return rows.reset(*message)
    if kind == STATE:
        return rows.state()
    if kind == LOAD:
        return rows.load(message)
    raise RuntimeError(f"unknown message {kind!r}")
