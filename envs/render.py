"""Pictures of MuJoCo rows, drawn off-screen in the main process from a model of their own."""

import atexit
import ctypes.util
import importlib
import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs.memory import Arrays
from envs.physics import Block, read_model
from envs.task import Area

BODY_COLOUR, LIMB_COLOUR = (0.95, 0.62, 0.22, 1.0), (0.85, 0.40, 0.20, 1.0)
BLOCK_COLOUR = (0.74, 0.77, 0.81, 1.0)
GOAL_COLOUR, LATER_COLOUR, ARROW_COLOUR = (0.10, 0.75, 0.35, 0.45), (0.10, 0.75, 0.35, 0.15), (0.10, 0.75, 0.35, 1.0)
FLOOR_COLOURS = (0.36, 0.44, 0.53), (0.44, 0.53, 0.62)
SKY_COLOURS = (0.80, 0.88, 0.96), (0.55, 0.68, 0.82)
COARSE, SAMPLES = 64, 4  # pixels of a side up to which edges are not smoothed; samples a pixel beyond


@dataclass(frozen=True)
class Shot:
    """A camera: metres from what it looks at, degrees, that height, and half the width of the view from above."""

    distance: float
    elevation: float
    azimuth: float = 90.0
    height: float = 0.0
    extent: float = 4.0
    tile: float = 1.0  # metres of one square of the floor
    arrow: float = 1.0  # metres above the body's centre of mass at which an arrow to the goal is drawn


class MujocoPicture:
    """Draws rows of one model. Its model is changed for looks only and never steps."""

    def __init__(self, xml: str, shot: Shot, blocks: Sequence[Block] = ()):
        self._model = _dressed(xml, blocks, shot.tile)
        self._data = mujoco.MjData(self._model)
        self._scene = mujoco.MjvScene(self._model, maxgeom=200)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0  # 85 % of the time in software rendering
        self._option = mujoco.MjvOption()
        self._shot, self._walled = shot, bool(blocks)
        self._radius: float | None = None  # of goals, where there are any
        self._area: Area | None = None  # what a camera that stands still shows
        self._extent = shot.extent  # half the width of the view from above
        self._screen: _Screen | None = None

    def show_goal(self, radius: float, area: Area) -> None:
        """Draws now["goal"] as a disc, and frames all of the area."""
        self._radius, self._area = radius, area

    def follow_goal(self, radius: float, extent: float) -> None:
        """Draws now["goal"] as a disc, and frames the body with `extent` around it; an arrow points to the goal.

        Goals that come later, now["goals"], are drawn where a task has them.
        """
        self._radius, self._extent = radius, extent

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray:
        """One row's arrays (qpos, goal and goals where there are any) to (height, width, 3) uint8."""
        self._data.qpos[:] = now["qpos"]
        mujoco.mj_forward(self._model, self._data)
        view = self._camera(camera, width / height)
        # First, because an endless floor is laid out around wherever the scene's camera stands.
        mujoco.mjv_updateCamera(self._model, self._data, view, self._scene)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, view, everything, self._scene)
        if self._radius is not None:
            for later in now.get("goals", ()):
                self._add_disc(later, self._radius, LATER_COLOUR)
            self._add_disc(now["goal"], self._radius, GOAL_COLOUR)
            if self._area is None:
                self._add_arrow(now["goal"])
        if self._screen is None or (self._screen.width, self._screen.height) != (width, height):
            self.close()
            self._screen = _Screen(self._model, width, height)
        return self._screen.draw(self._scene)

    def close(self) -> None:
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def _camera(self, camera: str, aspect: float) -> mujoco.MjvCamera:
        shot, view = self._shot, mujoco.MjvCamera()
        half = np.tan(np.radians(self._model.vis.global_.fovy / 2)) * min(1.0, aspect)  # per metre of distance
        view.type = mujoco.mjtCamera.mjCAMERA_FREE
        view.azimuth, view.elevation, view.distance = shot.azimuth, shot.elevation, shot.distance
        view.lookat[:] = (0.0, 0.0, shot.height)
        if self._area is not None:
            left, right, bottom, top = self._area
            view.lookat[:2] = (left + right) / 2, (bottom + top) / 2
            reach = max(right - left, top - bottom) / 2
            # Not from the side: goals in front and behind then take less of the picture's height, and walls hide less.
            view.elevation = min(shot.elevation, -70.0 if self._walled else -55.0)
            view.distance = max(shot.distance, 1.05 * reach / half)
            if camera == "top":
                view.azimuth, view.elevation = 90.0, -90.0
                view.distance = max(1.25 * reach, 0.45 * shot.distance) / half
            return view
        if camera == "track" or self._radius is not None:
            view.lookat[:2] = self._data.subtree_com[1, :2]
        if camera == "top":
            view.azimuth, view.elevation, view.distance = 90.0, -90.0, self._extent / half
        elif self._radius is not None:
            view.elevation, view.distance = min(shot.elevation, -25.0), max(shot.distance, self._extent / half)
        return view

    def _add_disc(self, centre: np.ndarray, radius: float, colour: tuple[float, ...]) -> None:
        size, position = np.array([radius, 0.005, 0.0]), np.array([*centre, self._floor() + 0.006])
        self._add(mujoco.mjtGeom.mjGEOM_CYLINDER, size, position, colour)

    def _add_arrow(self, goal: np.ndarray) -> None:
        """Above the body, as long as the goal is far, up to a sixth of the view's width."""
        start = self._data.subtree_com[1] + [0.0, 0.0, self._shot.arrow]
        way = np.array([*goal, start[2]]) - start
        length = np.sqrt(way @ way)
        stop = start + way * min(1.0, 0.35 * self._extent / max(length, 1e-9))
        geom = self._add(mujoco.mjtGeom.mjGEOM_ARROW, np.zeros(3), np.zeros(3), ARROW_COLOUR)
        mujoco.mjv_connector(geom, mujoco.mjtGeom.mjGEOM_ARROW, 0.015 * self._extent, start, stop)

    def _add(self, kind: mujoco.mjtGeom, size: np.ndarray, position: np.ndarray, colour: tuple[float, ...]) -> Any:
        geom = self._scene.geoms[self._scene.ngeom]
        mujoco.mjv_initGeom(geom, kind, size, position, np.eye(3).ravel(), np.array(colour, dtype=np.float32))
        self._scene.ngeom += 1
        return geom

    def _floor(self) -> float:
        return float(self._model.geom("floor").pos[2])


class _Screen:
    """An off-screen framebuffer of one size."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self.width, self.height = width, height
        self._context: Any = None
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        # a network's picture has jagged edges: smooth ones take three times as long where a CPU draws
        model.vis.quality.offsamples = 0 if max(width, height) <= COARSE else SAMPLES
        self._context = _gl_context(width, height)
        self._context.make_current()
        self._gpu = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._gpu)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        atexit.register(_close, weakref.ref(self))  # before OpenGL's own, which run in reverse order

    def draw(self, scene: mujoco.MjvScene) -> np.ndarray:
        self._context.make_current()
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        mujoco.mjr_render(self._rect, scene, self._gpu)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._gpu)
        return pixels[::-1].copy()  # OpenGL counts rows from the bottom

    def close(self) -> None:
        if self._context is None:
            return
        self._context.make_current()
        self._gpu.free()
        self._context.free()
        self._context = None

    __del__ = close


def _close(screen: weakref.ref) -> None:
    if (alive := screen()) is not None:
        alive.close()


def _gl_context(width: int, height: int):
    """An off-screen OpenGL context: MUJOCO_GL where it is set, else EGL, else OSMesa.

    mujoco itself chooses once, when it is first imported, and without a display it chooses a library that needs one.
    """
    backend = os.environ.get("MUJOCO_GL", "").strip().lower()
    if not backend and sys.platform == "linux":
        found = [name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(library)]
        if not found and not os.environ.get("DISPLAY"):
            raise RuntimeError("no off-screen OpenGL: install libegl1 and libgl1-mesa-dri (EGL) or libosmesa6 (OSMesa)")
        backend = found[0] if found else "glfw"
    try:
        if backend in ("egl", "osmesa", "glfw"):
            context = importlib.import_module(f"mujoco.{backend}").GLContext
        else:
            context = mujoco.GLContext
        return context(width, height)
    except Exception as error:  # each library fails in its own way
        raise RuntimeError(
            f"no off-screen OpenGL with MUJOCO_GL={backend or '(unset)'} ({error}): try MUJOCO_GL=egl or osmesa"
        ) from error


def _dressed(xml: str, blocks: Sequence[Block], tile: float) -> mujoco.MjModel:
    """The model with a calm checkered floor, a sky, two body colours and one for blocks."""
    spec = read_model(xml, blocks)
    for texture in spec.textures:
        if texture.name == "texplane":
            texture.rgb1, texture.rgb2 = FLOOR_COLOURS
            texture.width = texture.height = 256
        elif texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            texture.rgb1, texture.rgb2 = SKY_COLOURS
    floor = spec.material("MatPlane")
    floor.texuniform, floor.texrepeat = True, [1 / tile, 1 / tile]
    floor.reflectance, floor.shininess, floor.specular = 0.0, 0.1, 0.1
    torso = next(geom for geom in spec.geoms if geom.parent.name != "world")
    for geom in spec.geoms:
        if geom.name == "floor":
            geom.rgba = [1, 1, 1, 1]
            geom.size[:2] = 0  # without end: a body can go far
        else:
            geom.material = ""
            geom.rgba = BLOCK_COLOUR if geom.parent.name == "world" else LIMB_COLOUR
    torso.rgba = BODY_COLOUR
    model = spec.compile()
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:], model.vis.headlight.specular[:] = 0.4, 0.3, 0.0
    model.light_diffuse[:], model.light_specular[:] = 0.35, 0.05
    model.vis.map.zfar = 200 / model.stat.extent
    return model
