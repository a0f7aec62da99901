"""Layers side by side and one after the other: what networks and learners' own parts are made of."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

relu = partial(nn.ReLU, inplace=True)  # a linear layer's output is needed by nobody else: a pass over memory less


class Layers(nn.Sequential):
    """``nn.Sequential``, walked without the host work of calling each layer as a module: a microsecond a layer, of
    which an update of SAC has forty. Hooks belong on the whole, not on a layer."""

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self._modules.values():
            inputs = layer.forward(inputs)  # type: ignore[union-attr]
        return inputs


def mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int, activation: Callable[[], nn.Module] = relu) -> Layers:
    """Linear layers with ``activation`` between them, PyTorch's own initialisation (as Stable-Baselines3's)."""
    if any(width < 1 for width in hidden_dims):
        raise ValueError(f"hidden_dims is {list(hidden_dims)}: each width must be at least 1")
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers += [linear(in_dim, width), activation()]
        in_dim = width
    return Layers(*layers, linear(in_dim, out_dim))


def linear(in_dim: int, out_dim: int) -> nn.Linear:
    """``nn.Linear`` with weights that lie in memory along their longer side. The product for their gradient is then as
    wide as it can be: for 23 inputs of 256 units twice as fast, for 6 four times."""
    layer = nn.Linear(in_dim, out_dim)
    if in_dim < out_dim:
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    return layer


def feature_mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> Layers:
    """An ``mlp`` whose first layer is normalised and squashed, as DrQ-v2's and, after it, FB's and HILP's code have it:
    how large an observation is says little."""
    if len(hidden_dims) == 0:
        raise ValueError("the widths of a feature network are []: it needs at least one hidden layer")
    first, *others = hidden_dims
    return Layers(linear(in_dim, first), nn.LayerNorm(first), nn.Tanh(), *mlp(first, others, out_dim))


def tanh_mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int, gain: float) -> Layers:
    """With tanh, orthogonal weights scaled by √2 (in the last layer by ``gain``) and no biases at first: the form of
    on-policy agents since OpenAI's baselines, and Stable-Baselines3's."""
    net = mlp(in_dim, hidden_dims, out_dim, nn.Tanh)
    for layer in (layer for layer in net if isinstance(layer, nn.Linear)):
        nn.init.orthogonal_(layer.weight, gain if layer is net[-1] else math.sqrt(2))
        nn.init.zeros_(layer.bias)
    return net
