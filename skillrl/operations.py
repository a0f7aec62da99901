"""Operations that torch was seen to do, and what can be said of lists of them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
EMPTY = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
MOVING = {aten.native_batch_norm}  # averages, without saying so
COPY = {aten._to_copy, aten.clone}
LAYOUT = {"dtype", "layout", "device", "pin_memory", "memory_format"}  # what a result has already


@dataclass
class Operation:
    call: Any  # an aten overload
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    results: list[Tensor]
    made: list[Tensor]
    """Those of the results that lie in memory which this operation took."""

    def tensors(self) -> list[Tensor]:
        """That it is given."""
        return tensors((self.arguments, self.named))


@cache
def with_out(call: Any) -> Any:
    """The overload of the same arguments that writes where it is told, if there is one. A loss's is not it: on its way
    to a mean it makes the result as large as what it is the mean of."""
    asked = {argument.name: str(argument.type) for argument in call._schema.arguments}
    if "reduction" in asked:
        return None
    for name in call.overloadpacket.overloads():
        found = getattr(call.overloadpacket, name)
        arguments = found._schema.arguments
        rest = {argument.name: str(argument.type) for argument in arguments if not argument.is_out}
        left_out = asked.keys() - rest.keys()
        if len(rest) < len(arguments) and rest.items() <= asked.items() and left_out <= LAYOUT:
            return found
    return None


def written_by(operation: Operation) -> list[Tensor]:
    """What it changes."""
    arguments = operation.call._schema.arguments
    given = dict(zip([argument.name for argument in arguments], operation.arguments, strict=False)) | operation.named
    changing = [each.name for each in arguments if each.alias_info is not None and each.alias_info.is_write]
    return tensors([given.get(name) for name in changing])


def copied(operations: list[Operation]) -> list[Operation]:
    """Memory that is taken and first filled with a copy, as autograd does with gradients, is that copy's result."""
    found, taken = list[Operation | None](), dict[int, tuple[int, Tensor]]()
    for operation in operations:
        call, given = operation.call, [place(tensor) for tensor in operation.tensors()]
        if call.overloadpacket is aten.copy_ and given[0] in taken and given.count(given[0]) == 1:
            into, source = operation.arguments[:2]
            index, empty = taken[given[0]]
            if alike(into, empty):
                found[index], operation = None, Operation(aten.clone.default, (source,), {}, [into], [into])
        for at in given:
            taken.pop(at, None)
        if call.overloadpacket in EMPTY and len(operation.made) == 1:
            taken[place(operation.made[0])] = len(found), operation.made[0]
        found.append(operation)
    return [operation for operation in found if operation is not None]


def predecessor(operation: Operation, done_with: set[int]) -> int | None:
    """Where that of its inputs lies whose memory its only result can take: no later operation wants it, it is laid out
    alike, and each number comes from that at its place."""
    call = operation.call
    if len(operation.results) != 1 or len(operation.made) != 1:
        return None
    if torch.Tag.pointwise not in call.tags and call.overloadpacket not in COPY:
        return None
    given = operation.tensors()
    for tensor in given:
        at = place(tensor)
        if at in done_with and all(alike(each, operation.made[0]) for each in given if place(each) == at):
            return at
    return None


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether they lie in the same way in memory of one size."""
    return (
        (one.dtype, one.shape, one.stride(), one.storage_offset())
        == (other.dtype, other.shape, other.stride(), other.storage_offset())
        and one.untyped_storage().nbytes() == other.untyped_storage().nbytes()
    )  # fmt: skip


def needed(operations: list[Operation], wanted: set[int]) -> list[Operation]:
    """Those that what is ``wanted`` comes from, or that draw: who draws after them must draw the same."""
    wanted, found = set(wanted), []
    for operation in reversed(operations):
        call = operation.call
        writes = {place(tensor) for tensor in [*operation.made, *written_by(operation)]}
        unseen = torch.Tag.nondeterministic_seeded in call.tags or call.overloadpacket in MOVING
        if unseen or wanted & writes:
            wanted |= {place(tensor) for tensor in operation.tensors()}
            found.append(operation)
    return found[::-1]


def outside(operations: list[Operation]) -> set[int]:
    """The memory that they use and did not make. What came from numpy has a new one each time."""
    made = {place(tensor) for operation in operations for tensor in operation.made}
    return {place(tensor) for operation in operations for tensor in operation.tensors()} - made


def chooses_rows(call: Any, args: Any) -> bool:
    """Whether it is an index by whole numbers, whose result has a shape known beforehand; by bools it would not."""
    return call is aten.index.Tensor and not any(each.dtype == torch.bool for each in tensors(args[1]))


def place(tensor: Tensor) -> int:
    """The memory that it lies in."""
    return tensor.untyped_storage()._cdata


def whole(tensor: Tensor) -> Tensor:
    """All of the memory that it lies in."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (storage.nbytes() // tensor.element_size(),), (1,))


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
