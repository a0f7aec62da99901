"""Pictures of MuJoCo rows, drawn off-screen in the main process from a model of their own."""

import atexit
import ctypes.util
import importlib
import os
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs.memory import Arrays
from envs.physics import ASSETS

BODY_COLOUR, LIMB_COLOUR = (0.95, 0.62, 0.22, 1.0), (0.85, 0.40, 0.20, 1.0)
GOAL_COLOUR = (0.10, 0.75, 0.35, 0.45)
FLOOR_COLOURS = (0.36, 0.44, 0.53), (0.44, 0.53, 0.62)
SKY_COLOURS = (0.80, 0.88, 0.96), (0.55, 0.68, 0.82)


@dataclass(frozen=True)
class Shot:
    """A camera: metres from what it looks at, degrees, that height, and half the width of the view from above."""

    distance: float
    elevation: float
    azimuth: float = 90.0
    height: float = 0.0
    extent: float = 4.0
    tile: float = 1.0  # metres of one square of the floor


class MujocoPicture:
    """Draws rows of one model. Its model is changed for looks only and never steps."""

    def __init__(self, xml: str, shot: Shot):
        self._model = _dressed(xml, shot.tile)
        self._data = mujoco.MjData(self._model)
        self._scene = mujoco.MjvScene(self._model, maxgeom=200)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0  # 85 % of the time in software rendering
        self._option = mujoco.MjvOption()
        self._shot = shot
        self._goal: tuple[float, float] | None = None
        self._screen: _Screen | None = None

    def show_goal(self, distance: float, radius: float) -> None:
        """Draws now["goal"] as a disc, and frames the start with all goals that are `distance` away."""
        self._goal = (distance, radius)

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray:
        """One row's arrays (qpos, and goal where there is one) to (height, width, 3) uint8."""
        self._data.qpos[:] = now["qpos"]
        mujoco.mj_forward(self._model, self._data)
        view = self._camera(camera, width / height)
        # First, because an endless floor is laid out around wherever the scene's camera stands.
        mujoco.mjv_updateCamera(self._model, self._data, view, self._scene)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, view, everything, self._scene)
        if self._goal is not None:
            self._add_disc(now["goal"], self._goal[1])
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
        if camera == "top":
            extent = shot.extent if self._goal is None else max(1.25 * sum(self._goal), 0.45 * shot.distance)
            view.elevation, view.distance = -90.0, extent / half
        elif self._goal is None:
            view.lookat[:2] = self._data.subtree_com[1, :2]
        else:  # a steep view, so that goals in front and behind take less of the picture's height
            view.elevation = min(shot.elevation, -55.0)
            view.distance = max(shot.distance, 1.05 * sum(self._goal) / half)
        return view

    def _add_disc(self, centre: np.ndarray, radius: float) -> None:
        geom = self._scene.geoms[self._scene.ngeom]
        size, position = np.array([radius, 0.005, 0.0]), np.array([*centre, self._floor() + 0.006])
        colour = np.array(GOAL_COLOUR, dtype=np.float32)
        mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_CYLINDER, size, position, np.eye(3).ravel(), colour)
        self._scene.ngeom += 1

    def _floor(self) -> float:
        return float(self._model.geom("floor").pos[2])


class _Screen:
    """An off-screen framebuffer of one size."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self.width, self.height = width, height
        self._context: Any = None
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
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


def _dressed(xml: str, tile: float) -> mujoco.MjModel:
    """The model with a calm checkered floor, a sky and two body colours."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / xml))
    for texture in spec.textures:
        if texture.name == "texplane":
            texture.rgb1, texture.rgb2 = FLOOR_COLOURS
            texture.width = texture.height = 256
        elif texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            texture.rgb1, texture.rgb2 = SKY_COLOURS
    floor = spec.material("MatPlane")
    floor.texuniform, floor.texrepeat = True, [1 / tile, 1 / tile]
    floor.reflectance, floor.shininess, floor.specular = 0.0, 0.1, 0.1
    for number, geom in enumerate(spec.geoms):
        if geom.name == "floor":
            geom.rgba = [1, 1, 1, 1]
            geom.size[:2] = 0  # without end: a body can go far
        else:
            geom.material = ""
            geom.rgba = BODY_COLOUR if number == 1 else LIMB_COLOUR
    model = spec.compile()
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:], model.vis.headlight.specular[:] = 0.4, 0.3, 0.0
    model.light_diffuse[:], model.light_specular[:] = 0.35, 0.05
    model.vis.map.zfar = 200 / model.stat.extent
    return model
