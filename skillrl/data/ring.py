"""Ring buffers of named tensors, one ring an env: the replay's only storage.

A ring counts what was ever written (``pos``) and keeps the newest ``capacity`` of it: entry i is at i % capacity.
Entries are written once, so a checkpoint only needs those since the last one.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Generator, Tensor


class Ring:
    """Per env, the last ``capacity`` entries of some named tensors.

    Storage is allocated at the first write, from the shapes and dtypes seen, zeroed so that reads are deterministic.
    """

    def __init__(self, num_envs: int, capacity: int, device: torch.device):
        self.num_envs, self.capacity, self.device = num_envs, capacity, device
        self.data: dict[str, Tensor] = {}  # name → (num_envs * capacity, ...)
        self.pos = torch.zeros(num_envs, dtype=torch.int64, device=device)  # the next entry of each env

    def flat(self, env: Tensor, at: Tensor) -> Tensor:
        """Where entry ``at`` of ``env`` lies in the storage; any shape."""
        return env * self.capacity + at % self.capacity

    def get(self, name: str, env: Tensor, at: Tensor) -> Tensor:
        """Entries ``at`` of ``env``, both of shape S → (*S, ...)."""
        return gather(self.data[name], self.flat(env, at))

    def put(self, env: Tensor, at: Tensor, entries: Mapping[str, Tensor], some: bool = False) -> None:
        """Store entries (R, ...) at ``at`` (R,) of ``env`` (R,); ``pos`` stays.

        Errors: ValueError for other names than before, unless only ``some`` are to be written.
        """
        if not self.data:
            self.data = {name: self._allocate(value) for name, value in entries.items()}
        if self.data.keys() != entries.keys() and not some:
            changed = ", ".join(sorted(self.data.keys() ^ entries.keys()))
            raise ValueError(f"the replay must be given the same entries each time, but these come and go: {changed}")
        where = self.flat(env, at)
        with in_any_order(self.device):
            for name, value in entries.items():
                self.data[name].index_copy_(0, where, value)

    def append(self, env: Tensor, entries: Mapping[str, Tensor]) -> Tensor:
        """Store one entry (R, ...) in each of the distinct envs ``env`` (R,), in ascending order. Returns which it is
        in each, (R,)."""
        at = self.pos.clone() if len(env) == self.num_envs else self.pos[env]
        self.put(env, at, entries)
        with in_any_order(self.device):
            self.pos.index_copy_(0, env, at + 1)
        return at

    def _allocate(self, value: Tensor) -> Tensor:
        shape = (self.num_envs * self.capacity, *value.shape[1:])
        return torch.zeros(shape, dtype=value.dtype, device=self.device)

    def segment(self, start: Tensor, stop: Tensor) -> dict[str, Tensor]:
        """What is stored of entries start ≤ i < stop, both (num_envs,): env (R,), at (R,) and each name (R, ...)."""
        if not self.data:
            return {}
        start = torch.maximum(start.to(self.device), (stop - self.capacity).clamp(min=0))
        count = (stop - start).clamp(min=0)
        env = torch.arange(self.num_envs, device=self.device).repeat_interleave(count)
        before = (count.cumsum(0) - count)[env]
        at = start[env] + torch.arange(len(env), device=self.device) - before
        return {"env": env, "at": at} | {name: self.get(name, env, at) for name in self.data}

    def load_segment(self, segment: Mapping[str, Tensor]) -> None:
        """Put a segment back where it was; ``pos`` is for the caller to restore."""
        moved = {name: value.to(self.device) for name, value in segment.items()}
        if moved:
            self.put(moved.pop("env"), moved.pop("at"), moved)

    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(value.nbytes for value in self.data.values())


class Index(Ring):
    """A ring of things that begin at a ``slot`` of the step ring, in order; those are live whose slot is still there.

    Slots are int32: 2^31 steps an env.
    """

    def __init__(self, num_envs: int, capacity: int, device: torch.device):
        super().__init__(num_envs, capacity, device)
        self.oldest = torch.zeros_like(self.pos)  # the first live entry of each env
        self.rows = torch.arange(num_envs, device=device)[:, None]  # (N, 1)

    def live(self) -> Tensor:
        """How many entries each env has, (N,)."""
        return self.pos - self.oldest

    def evict(self, slot: Tensor, window: Tensor) -> None:
        """Forget what begins before ``slot`` (N,). ``window`` is arange(W), W the most that can go at once."""
        if self.data:
            at = self.oldest[:, None] + window  # (N, W)
            gone = (self.get("slot", self.rows, at) < slot[:, None]) & (at < self.pos[:, None])
            self.oldest += gone.sum(1)

    def draw(self, batch_size: int, generator: Generator, span: int = 1) -> tuple[Tensor, Tensor]:
        """Uniformly, with replacement, over all live entries of all envs → env (B,), at (B,).

        span: only entries that have span − 1 later ones; in an env with fewer than ``span``, its oldest entry.
        """
        count = self.live()  # (N,)
        if span > 1:
            count = count.clamp(max=1).maximum(count - span + 1)
        stop = count.cumsum(0)
        # 62 random bits: the modulo's bias is below 1e-12 for any buffer that fits in memory
        draw = torch.randint(2**62, (batch_size,), generator=generator, device=self.device) % stop[-1]
        env = torch.searchsorted(stop, draw, right=True)
        return env, (self.oldest - stop + count)[env] + draw


@contextmanager
def in_any_order(device: torch.device) -> Iterator[None]:
    """Distinct rows are written alike in any order; told to keep to one, a GPU sorts them, at 0.2 ms a call."""
    if device.type == "cpu":
        yield
        return
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def gather(data: Tensor, where: Tensor) -> Tensor:
    """Rows ``where`` of data, whatever the shape of ``where``; index_select is the fastest form of it."""
    return data.index_select(0, where.reshape(-1)).view(*where.shape, *data.shape[1:])
