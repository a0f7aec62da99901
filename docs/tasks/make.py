"""Make the pictures of docs/tasks.md: every body and every task, as the project's own renderer draws it.

python docs/tasks/make.py             # all
python docs/tasks/make.py ant_maze    # one
"""

import importlib
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

FOLDER = Path(__file__).parent
CONF = FOLDER.parents[1] / "conf"
SIZE = {"width": 480, "height": 320}  # shown at half of that
COLOURS = 96
# A look at what the first steps of an episode do not show: arguments of `picture`.
MOMENTS: dict[str, dict[str, Any]] = {
    "catch": {"steps": 12},
    "half_cheetah_goal": {"settings": {"goal_range": 4.0}},
    "half_cheetah_hurdles": {"pose": {0: 1.6}},
    "humanoid_goal": {"seed": 13},
    "pac_boy": {"steps": 12},
    "point": {"steps": 20},
    "point_families": {"steps": 15},
    "rooms": {"steps": 20},
    "rooms_goal": {"steps": 20},
    "walker2d": {"steps": 1, "pose": {3: -0.9, 4: -0.3, 6: -0.1, 7: -0.6}},
}
ADAPTERS = ("gymnasium", "mpe")  # that draw by themselves, if at all
LAYOUTS = {"point_maze": ["u", "medium"], "ant_maze": ["u", "medium"], "rooms_goal": ["small", "large"]}


def options() -> dict[str, Path]:
    """Name → YAML of every env and task of ours."""
    found = [path for group in ("env", "task") for path in sorted((CONF / group).glob("*.yaml"))]
    return {path.stem: path for path in found if path.stem not in ADAPTERS}


def build(path: Path, **changes: Any) -> Any:
    """The env of an option, in this process."""
    config = {**yaml.safe_load(path.read_text()), **changes, "num_envs": 1}
    module, name = config.pop("_target_").rsplit(".", 1)
    if "workers" in config:
        config["workers"] = 0
    return getattr(importlib.import_module(module), name)(**config)


def picture(
    path: Path, *, seed: int = 3, steps: int = 4, pose: dict[int, float] | None = None, **settings: Any
) -> Image.Image:
    """A moment of an episode, as a palette image.

    Args:
        seed: of the env.
        steps: env steps of small random actions before it.
        pose: entries of qpos before that, where they are not those of the start.
    """
    with closing(build(path, **settings)) as env:
        env.reset(seed=seed)
        if pose:
            state = env.state_dict()
            for index, value in pose.items():
                state["physics"][0, 1 + index] = state["now"]["qpos"][0, index] = value  # after the time
            env.load_state_dict(state)
        rng, counted = np.random.default_rng(seed), getattr(env.single_action_space, "n", None)
        for _ in range(steps):
            small = 0.5 * rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            env.step(small if counted is None else rng.integers(counted, size=1))
        (frame,) = env.render_rows([0], **SIZE)
    return Image.fromarray(frame).quantize(COLOURS, dither=Image.Dither.NONE)


def make(name: str, path: Path, folder: Path = FOLDER) -> list[Path]:
    """Writes the option's PNGs, one for each layout where there are several."""
    moment = dict(MOMENTS.get(name, {}))
    settings = moment.pop("settings", {})
    written = []
    for layout in LAYOUTS.get(name, [None]):
        file = folder / (f"{name}.png" if layout is None else f"{name}_{layout}.png")
        picture(path, **moment, **settings, **({} if layout is None else {"layout": layout})).save(file, optimize=True)
        written.append(file)
    return written


if __name__ == "__main__":
    for name, path in options().items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            for file in make(name, path):
                print(f"{file.relative_to(FOLDER.parent)}  {file.stat().st_size / 1000:.0f} kB")
