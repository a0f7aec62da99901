"""Named numpy arrays side by side in one buffer, which two processes can map."""

import mmap
import os
import tempfile
from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
Layout = Mapping[str, tuple[tuple[int, ...], str]]  # name -> (shape, dtype)

_ALIGN = 64  # a cache line: two workers never write to the same one across arrays


def layout_size(layout: Layout) -> int:
    """Bytes that `place` needs."""
    return sum(-(-_nbytes(*entry) // _ALIGN) * _ALIGN for entry in layout.values()) or _ALIGN


def place(layout: Layout, buffer) -> Arrays:
    """Views into `buffer`, one for each entry of `layout`, in order."""
    arrays, offset = {}, 0
    for name, (shape, dtype) in layout.items():
        arrays[name] = np.ndarray(shape, dtype, buffer=buffer, offset=offset)
        offset += -(-_nbytes(shape, dtype) // _ALIGN) * _ALIGN
    return arrays


def _nbytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def shared_file(size: int) -> int:
    """A file descriptor of anonymous memory: it has no name, so nothing is left behind however its users die."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("envs")
    else:
        with tempfile.TemporaryFile() as file:  # already unlinked; the copy keeps it open
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def map_shared(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, size)
