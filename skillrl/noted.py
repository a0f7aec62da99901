"""A computation as the list of operations that it came to: noted once by watching it, and done again.

Done again, it needs no Python of its own, no views of tensors and none of autograd's books. It comes to the same bits.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from skillrl.operations import (
    COPY,
    EMPTY,
    Operation,
    aten,
    chooses_rows,
    copied,
    needed,
    outside,
    place,
    predecessor,
    tensors,
    whole,
    with_out,
    written_by,
)
from skillrl.spec import Metrics

LARGEST = 1 << 30  # bytes of its operations' results: where they are more, what the host does in between is little

UNKNOWABLE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
CONSTANT = {
    *(aten.arange, aten.scalar_tensor, aten.full, aten.ones, aten.zeros),
    *(aten.ones_like, aten.zeros_like, aten.full_like, aten.new_ones, aten.new_zeros, aten.new_full),
}
SHORTER: dict[Any, Callable[..., Any]] = {
    aten.mm.default: torch.mm,
    aten.addmm.default: torch.addmm,
    aten.relu_.default: torch.relu_,
    aten.mul.Tensor: torch.mul,
    aten.add.Tensor: torch.add,
    aten.sub.Tensor: torch.sub,
    aten.div.Tensor: torch.div,
    aten.neg.default: torch.neg,
    aten.exp.default: torch.exp,
    aten.tanh.default: torch.tanh,
    aten.sum.dim_IntList: torch.sum,
    aten.mean.dim: torch.mean,
    aten.cat.default: torch.cat,
    aten.stack.default: torch.stack,
}
"""torch's own functions of the same arguments: a microsecond less than by the dispatcher."""


class Watching(TorchDispatchMode):
    """While entered: notes what computes something. Views and copies of handles do not, and are what is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.known: set[int] = set()
        self.kept: list[Any] = []  # so that no memory is given out twice, and each piece has one name
        self.size = 0  # bytes
        self.obstacle = ""

    @property
    def too_large(self) -> bool:
        return self.size > LARGEST

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if UNKNOWABLE & set(func.tags) and not chooses_rows(func, args):
            self.obstacle = self.obstacle or f"{func} looks at a tensor's value"
        if self.obstacle or self.too_large:
            self.operations.clear()
            self.kept.clear()
            return func(*args, **named)
        self.known |= {place(tensor) for tensor in tensors((args, named))}
        result = func(*args, **named)
        results = tensors(result)
        made = [tensor for tensor in results if place(tensor) not in self.known]
        self.kept.append((args, named, results))
        self.known |= {place(tensor) for tensor in made}
        self.size += sum(tensor.untyped_storage().nbytes() for tensor in made)
        if made or func._schema.is_mutable:
            self.operations.append(Operation(func, args, named, results, made))
        return result


class Noted:
    """Operations on memory of their own, which those that are done earlier leave to later ones."""

    def __init__(self, operations: list[Operation], metrics: Metrics, owned: list[Tensor]):
        self.outside = outside(operations)
        operations = needed(copied(operations), {place(tensor) for tensor in metrics.values()} | self.outside)
        given = [leaf for each in operations for leaf in tree_leaves((each.arguments, each.named))]
        self.generators = list({id(leaf): leaf for leaf in given if isinstance(leaf, Generator)}.values())
        written = {place(tensor) for operation in operations for tensor in written_by(operation)}
        last = {
            place(tensor): index
            for index, operation in enumerate(operations)
            for tensor in [*operation.tensors(), *operation.made]
        } | {place(tensor): len(operations) for tensor in metrics.values()}
        self._lay_out(operations, written, last)
        # batch normalisation moves its buffers without saying so
        places = {place(tensor) for tensor in self.changed}
        self.changed += [whole(tensor) for tensor in owned if place(tensor) not in places]
        self.metrics = {name: self._mine(tensor) for name, tensor in metrics.items()}

    @torch.no_grad()
    def __call__(self) -> Metrics:
        for step in self.steps:
            step()
        return self.metrics

    def state(self) -> list[Tensor]:
        """All that it changes: what was there before it, and its generators."""
        return [
            *(tensor.clone() for tensor in self.changed),
            *(generator.get_state() for generator in self.generators),
        ]

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        for tensor, value in zip(self.changed, state, strict=False):
            tensor.copy_(value)
        for generator, value in zip(self.generators, state[len(self.changed) :], strict=True):
            generator.set_state(value)

    @torch.no_grad()
    def _lay_out(self, operations: list[Operation], written: set[int], last: dict[int, int]) -> None:
        """Operation by operation: where its results lie, and how it is called."""
        self.memory: dict[int, torch.UntypedStorage] = {}
        self.steps: list[Callable[[], Any]] = []
        changed: dict[int, Tensor] = {}
        free = defaultdict[int, list[torch.UntypedStorage]](list)
        for index, operation in enumerate(operations):
            made = {place(tensor): tensor.untyped_storage() for tensor in operation.made}
            if operation.call.overloadpacket in CONSTANT and not written & set(made):
                self.memory |= made  # as it is, for good
                last |= dict.fromkeys(made, len(operations))
                continue
            done_with = {place(tensor) for tensor in operation.tensors()}
            done_with = {at for at in done_with & self.memory.keys() if last[at] == index}
            before = predecessor(operation, done_with)
            for at, storage in made.items():
                size = storage.nbytes()
                if before is not None:
                    self.memory[at] = self.memory[before]
                else:
                    self.memory[at] = free[size].pop() if free[size] else torch.UntypedStorage(size)
            done_with -= {before}
            changed |= {place(tensor): whole(tensor) for tensor in written_by(operation)}
            is_there = operation.call.overloadpacket in COPY and before is not None
            if operation.call.overloadpacket not in EMPTY and not is_there:
                self.steps.append(self._step(operation))
            for at in done_with | {at for at in made if last[at] == index}:
                free[self.memory[at].nbytes()].append(self.memory[at])
        self.changed = [tensor for at, tensor in changed.items() if at not in self.memory]

    def _step(self, operation: Operation) -> Callable[[], Any]:
        call = operation.call
        args, named = tree_map_only(Tensor, self._mine, (operation.arguments, operation.named))
        if not operation.made:
            return partial(SHORTER.get(call, call), *args, **named)
        into = [self._mine(tensor) for tensor in operation.made]
        if len(into) == len(operation.results) == len(call._schema.returns):
            if call.overloadpacket in COPY:
                return partial(into[0].copy_, args[0])
            if call in SHORTER:
                return partial(SHORTER[call], *args, **named, out=into[0])
            if (found := with_out(call)) is not None:
                names = [argument.name for argument in found._schema.arguments]
                named = {name: value for name, value in named.items() if name in names}
                return partial(found, *args, **named, **dict(zip(names[-len(into) :], into, strict=True)))
        if len(operation.results) == 1 == len(call._schema.returns):
            (one,) = into
            return lambda: one.copy_(call(*args, **named))
        made = {place(tensor) for tensor in operation.made}
        which = [index for index, tensor in enumerate(operation.results) if place(tensor) in made]

        def step() -> None:
            results = tensors(call(*args, **named))
            for mine, index in zip(into, which, strict=True):
                mine.copy_(results[index])

        return step

    def _mine(self, tensor: Tensor) -> Tensor:
        """The same piece of this list's memory; what was there before is meant itself."""
        storage = self.memory.get(place(tensor))
        if storage is None:
            return tensor.detach() if tensor.requires_grad else tensor
        size, stride, offset = tensor.size(), tensor.stride(), tensor.storage_offset()
        return torch.empty(0, dtype=tensor.dtype).set_(storage, offset, size, stride)
