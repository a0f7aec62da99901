"""Steps down a loss: Adam as all learners use it, and the networks that follow another slowly."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target ← (1 − τ) target + τ source, all parameters in one fused call."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, *, max_norm: float | None = None, weight_decay: float = 0.0
) -> None:
    """One step down ``loss``, for the optimiser's own parameters: no other weights that it runs through are
    differentiated (an actor's step costs no weight gradients of the critic). ``max_norm`` clips the gradient.
    ``weight_decay``: share of themselves that the weights lose first, whatever the learning rate is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    if weight_decay:
        with torch.no_grad():
            torch._foreach_mul_(parameters, 1 - weight_decay)
    optimizer.step()


def descend_where(due: Tensor, optimizer: "Adam", loss: Tensor) -> None:
    """``descend`` if ``due`` (a 0-d bool), without asking the device which it is: a step that is not is taken back."""
    optimizer.moments = optimizer.moments or optimizer.gather()
    state = [*optimizer.param_groups[0]["params"], *(value for values in optimizer.moments for value in values)]
    before = [value.detach().clone() for value in state]
    descend(optimizer, loss)
    with torch.no_grad():
        for value, old in zip(state, before, strict=True):
            value.copy_(torch.where(due, value, old))


@torch.no_grad()
def polyak_where(due: Tensor, target: nn.Module, source: nn.Module, tau: float) -> None:
    """``polyak`` if ``due`` (a 0-d bool), without asking the device which it is."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.lerp_(new, tau * due)


def frozen_copy(module: nn.Module) -> nn.Module:
    """A target network: the same weights, no gradients."""
    return deepcopy(module).requires_grad_(False)


class Adam(torch.optim.Adam):
    """``torch.optim.Adam``, fused, and bit for bit what that does with an lr and an eps; without its host work, which
    for layers of 256 takes longer than the arithmetic."""

    moments: list[list[Tensor]] | None = None

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, eps: float = 1e-8):
        super().__init__(parameters, lr=lr, eps=eps, fused=True)

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self.moments = None

    def gather(self) -> list[list[Tensor]]:
        """Averages, squares and counts of steps. Made at the first step: a learner is moved to its device before."""
        states = [self.state[parameter] for parameter in self.param_groups[0]["params"]]
        for parameter, state in zip(self.param_groups[0]["params"], states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            for name in ("exp_avg", "exp_avg_sq"):  # as its parameter lies in memory: an older checkpoint's need not
                state[name] = torch.empty_like(parameter).copy_(state[name])
        self.one = torch.ones_like(states[0]["step"])
        return [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Of the parameters that have a gradient."""
        if self.moments is None:
            self.moments = self.gather()
        (group,) = self.param_groups
        lists = [group["params"], [parameter.grad for parameter in group["params"]], *self.moments]
        if any(gradient is None for gradient in lists[1]):
            rows = [row for row in zip(*lists, strict=True) if row[1] is not None]
            if not rows:
                return
            lists = [list(one) for one in zip(*rows, strict=True)]
        parameters, gradients, averages, squares, steps = lists
        torch._foreach_add_(steps, self.one, alpha=1.0)  # a tensor: a number would be made one for each of them
        torch._fused_adam_(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    step.hooked = True  # type: ignore[attr-defined]  # torch wraps it for hooks and the profiler, which nobody asks for
