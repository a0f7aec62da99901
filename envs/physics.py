"""Rows of MuJoCo physics, one `MjData` each, stepped exactly as Gymnasium's v5 environments step theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import gymnasium
import mujoco
import numpy as np

from envs.memory import Arrays
from envs.task import whole

# Gymnasium's own models, so that there is nothing to keep equal.
ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION  # with the solver's warm start: without it a resumed run drifts
_AFTER_STEP = ("cacc", "cfrc_int", "cfrc_ext")  # filled by mj_rnePostConstraint only


@dataclass(frozen=True)
class Block:
    """A box that stands still, a wall or a hurdle: its centre and half of its sides, in metres."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]


def read_model(xml: str, blocks: Sequence[Block] = ()) -> mujoco.MjSpec:
    """A model with blocks in its world; their geoms are named block0, block1, ... Friction is the model's default."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / xml))
    for number, block in enumerate(blocks):
        spec.worldbody.add_geom(
            name=f"block{number}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=block.centre,
            size=block.half,
            contype=1,
            conaffinity=1,  # the bodies' own geoms have 0: they do not touch each other
        )
    return spec


class Physics:
    """n rows of one model.

    Args:
        xml: a file in Gymnasium's assets, or an absolute path.
        frame_skip: physics steps in one env step.
        fields: name -> (attribute of MjData, index or None for all of it). Copied after each step.
        n: rows.
        blocks: walls and hurdles.
    """

    def __init__(
        self,
        *,
        xml: str,
        frame_skip: int,
        fields: Mapping[str, tuple[str, int | None]],
        n: int,
        blocks: Sequence[Block] = (),
    ):
        whole(1, frame_skip=frame_skip)
        self.model = read_model(xml, blocks).compile()
        self.frame_skip = frame_skip
        self.dt = self.model.opt.timestep * frame_skip
        self.action_dim = self.model.nu
        self._low, self._high = self.model.actuator_ctrlrange.astype(np.float32).T
        self._data = [mujoco.MjData(self.model) for _ in range(n)]
        self._ctrl = [data.ctrl for data in self._data]
        self._views = {name: [_view(data, *field) for data in self._data] for name, field in fields.items()}
        self._post_constraint = any(attribute in _AFTER_STEP for attribute, _ in fields.values())
        self.shapes = {name: views[0].shape for name, views in self._views.items()}
        self.initial = MappingProxyType({"qpos": self.model.qpos0.copy(), "qvel": np.zeros(self.model.nv)})

    def bind(self, arrays: Arrays) -> None:
        """Takes the arrays (n, ...) that `step` and `restart` fill, one for each field."""
        self._out = {name: arrays[name] for name in self._views}
        # One concatenate fills a whole field; both sides are flat views of the same memory.
        self._gather = [
            ([view.reshape(-1) for view in views], self._out[name].reshape(-1)) for name, views in self._views.items()
        ]

    def control(self, action: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1] scaled to the actuators' range, in float32. Shapes (n, nu)."""
        action = np.minimum(np.maximum(action, np.float32(-1)), np.float32(1))  # half of np.clip's time
        return self._low + np.float32(0.5) * (action + np.float32(1)) * (self._high - self._low)

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        """One env step of `rows`; the others do not move."""
        model, skip, step, all_move = self.model, self.frame_skip, mujoco.mj_step, len(rows) == len(self._data)
        each = list(zip(self._data, self._ctrl, control.astype(np.float64), strict=True))
        for data, ctrl, own in each if all_move else [each[row] for row in rows]:
            ctrl[:] = own
            step(model, data, skip)
            if self._post_constraint:
                mujoco.mj_rnePostConstraint(model, data)
        if all_move:
            for views, out in self._gather:
                np.concatenate(views, out=out)
        else:
            for row in rows:
                self._copy(row)

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        """Starts `row` afresh from start["qpos"] and start["qvel"]."""
        data = self._data[row]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:] = start["qpos"]
        data.qvel[:] = start["qvel"]
        mujoco.mj_forward(self.model, data)
        self._copy(row)

    def state(self) -> np.ndarray:
        """(n, size) float64: time, positions, velocities, activations, controls, warm start."""
        out = np.empty((len(self._data), mujoco.mj_stateSize(self.model, _STATE)))
        for row, data in enumerate(self._data):
            mujoco.mj_getState(self.model, data, out[row], _STATE)
        return out

    def load(self, state: np.ndarray) -> None:
        """Puts back what `state` gave. Derived fields are not recomputed: the bound arrays are saved beside it."""
        for data, row_state in zip(self._data, state, strict=True):
            mujoco.mj_resetData(self.model, data)
            mujoco.mj_setState(self.model, data, np.ascontiguousarray(row_state, np.float64), _STATE)

    def _copy(self, row: int) -> None:
        for name, views in self._views.items():
            self._out[name][row] = views[row]


def _view(data: mujoco.MjData, attribute: str, index: int | None) -> np.ndarray:
    array = getattr(data, attribute)
    return array if index is None else array[index]
