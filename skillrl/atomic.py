"""Files that are written as a whole or not at all, however the process ends."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from torch import nn


def write(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Written beside its place, synced, renamed. content: a callable gets the open file.

    Errors: OSError (a full disk), with what stood at ``path`` intact.
    """
    beside = path.with_name(path.name + ".partial")
    try:
        with beside.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_tensors(path: Path, module: nn.Module) -> None:
    """A module's parameters and buffers as safetensors. What is shared inside the module is written under each name."""
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    write(path, safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}))
