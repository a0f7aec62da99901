"""docs/tasks.md: it has every body and task, says of each what is so, and shows a picture of it."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from envs.vector import BatchedEnv

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tasks.md").read_text()
PICTURES = ROOT / "docs" / "tasks"
MAKE: dict[str, Any] = runpy.run_path(str(PICTURES / "make.py"))
OPTIONS: dict[str, Path] = MAKE["options"]()
# `name` → the cells of its row in a table, with the column's title
ROWS = {
    name: dict(zip(titles, cells, strict=True))
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
    for titles, *rows in [[[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in table.splitlines()]]
    for cells in rows[1:]
    if (name := next(re.fullmatch(r"`(\w+)`", cell) for cell in cells if cell.startswith("`"))[1])
}


def test_the_page_has_every_body_and_every_task_and_no_others() -> None:
    files = {path.stem for group in ("env", "task") for path in (ROOT / "conf" / group).glob("*.yaml")}
    assert set(ROWS) == files


def built(name: str) -> BatchedEnv:
    return MAKE["build"](OPTIONS[name])


def parts(text: str) -> dict[str, int]:
    return {name: int(width) for name, width in re.findall(r"(\w+) (\d+)", text)}


@pytest.mark.parametrize("name", OPTIONS)
def test_horizon_and_parts_are_the_configs(name: str) -> None:
    row, config, env = ROWS[name], yaml.safe_load(OPTIONS[name].read_text()), built(name)
    assert int(row["Horizon"]) == config["horizon"]
    widths = {part: stop - start for part, (start, stop) in env.metadata["obs_names"].items()}
    said, _, more = row.get("Also observed", row.get("Observation", "")).partition("[")
    if "Body" in row:
        body = built(row["Body"]).metadata["obs_names"]
        widths = {part: width for part, width in widths.items() if part not in body}
    assert parts(said) == widths
    everything = MAKE["build"](OPTIONS[name], observe=list(env._task.parts())).metadata["obs_names"]
    assert all(everything[part][1] - everything[part][0] == width for part, width in parts(more).items())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "Success" in row])
def test_ends_are_said(name: str) -> None:
    """A task that ends on success does so; one that never ends goes on in it."""
    task = built(name)._task
    shapes = {**task.simulator(1).shapes, **task.own}
    now = {key: np.zeros((1, *shape)) for key, shape in shapes.items()}
    if "goals" in now:
        now["reached"][:] = task.waypoints
    if "inside" in now:
        now["inside"][:] = 1
    if "foot" in now:
        now["foot"][:] = 100.0
    assert task.infos()["success"](now).all()  # goals in the origin, and the body as well
    assert task.terminated(now).all() == (ROWS[name]["Ends early"] == "on success")


def test_pictures_are_there_shown_and_small() -> None:
    files = {path.name for path in PICTURES.glob("*.png")}
    shown = re.findall(r'<img src="tasks/([\w.]+)" width="(\d+)">', PAGE)
    assert {name for name, _ in shown} == files and len(shown) == len(files)
    for name in OPTIONS:
        layouts = MAKE["LAYOUTS"].get(name, [None])
        assert {f"{name}.png" if layout is None else f"{name}_{layout}.png" for layout in layouts} <= files
    assert sum((PICTURES / name).stat().st_size for name in files) < 1_500_000
    for name, width in shown:
        with Image.open(PICTURES / name) as image:
            assert image.size == (2 * int(width), 320)


@pytest.mark.parametrize("name", ["ant_maze", "half_cheetah_hurdles", "point_maze"])
def test_pictures_are_what_the_script_draws(name: str, tmp_path: Path) -> None:
    """Up to what OpenGL drivers do differently."""
    for file in MAKE["make"](name, OPTIONS[name], tmp_path):
        new, old = (np.asarray(Image.open(path).convert("RGB"), float) for path in (file, PICTURES / file.name))
        assert np.abs(new - old).mean() < 5
