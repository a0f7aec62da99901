"""Figures and videos: that they show the numbers they were given, in colours that can be told apart."""

import json

import imageio_ffmpeg
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from skillrl.evaluation import figures, panels
from skillrl.evaluation.curves import STEPS, axis_of, baselines, curves_of, read_curves, smooth
from skillrl.evaluation.figures import runs
from skillrl.evaluation.rollouts import Film, Trajectories
from skillrl.evaluation.theme import BAD, GOOD, INK, skill_colours
from skillrl.evaluation.video import columns_of, control_video, pace, skill_video

LIGHT = INK["light"]


def told(dims=2, skills=3, copies=2, steps=4, plane=False):
    """Arrays as trajectories.npz has them: skill i walks i + 1 a step along the first axis, and i along the second."""
    labels = np.tile(np.arange(skills), copies)
    coordinates = np.zeros((len(labels), steps + 1, dims))
    coordinates[..., 0] = (labels + 1)[:, None] * np.arange(steps + 1)
    if plane:
        coordinates[..., 1] = labels[:, None] * np.arange(steps + 1)
    return {"coordinates": coordinates, "length": np.full(len(labels), steps), "label": labels, "spread": np.arange(2)}


@pytest.mark.parametrize("count", [8, 16, 50])
def test_colours_are_distinct_and_keep_to_one_lightness(count):
    colours = skill_colours(count)
    assert len(set(colours)) == count
    weights = np.array([0.2126, 0.7152, 0.0722])
    light = np.array([to_rgb(colour) for colour in colours]) @ weights
    assert light.min() > 0.15 and light.max() < 0.85  # seen on white and on black
    if count > 10:
        assert np.ptp(light) < 0.25


def test_what_was_learnt_from_data_is_drawn_over_updates(tmp_path):
    lines = ["env_steps,grad_steps,phase,reward/x", *[f"0,{10 * i},pretrain,{i}" for i in range(3)]]
    (tmp_path / "metrics.csv").write_text("\n".join([*lines, "5,1,control,1"]))
    rows = read_curves(tmp_path / "metrics.csv")
    assert curves_of(rows, "pretrain")["reward/x"][0].tolist() == [0, 10, 20]
    assert [STEPS[axis_of(rows, phase)] for phase in ("pretrain", "control")] == ["updates", "env steps"]


def test_trajectories_are_drawn_where_they_went_in_their_skills_colour():
    figure = figures.trajectories(told(plane=True), {"coverage_cell": 1.0}, LIGHT)
    axes = figure.axes[0]
    lines, dots = axes.collections
    assert axes.get_aspect() == 1.0
    drawn = {tuple(curve[-1]): tuple(colour[:3]) for curve, colour in zip(lines.get_segments(), lines.get_colors())}
    assert drawn == {(4.0 * (i + 1), 4.0 * i): to_rgb(skill_colours(3)[i]) for i in range(3)}
    assert sorted(dots.get_offsets()[:, 0]) == [4, 4, 8, 8, 12, 12]
    (legend,) = figure.legends
    named = [(text.get_text(), line.get_color()) for text, line in zip(legend.get_texts(), legend.get_lines())]
    assert named == [(str(i), skill_colours(3)[i]) for i in range(3)]


def test_a_body_on_a_line_is_drawn_over_time_and_not_beyond_its_end():
    arrays = told(dims=1, skills=1, copies=1)
    arrays["length"][:] = 2
    flat = told(dims=2, skills=1, copies=1) | {"length": arrays["length"]}  # states a y that never changes
    for known in (arrays, flat):
        figure = figures.trajectories(known, {"coverage_cell": 1.0}, LIGHT)
        assert figure.axes[0].collections[0].get_segments()[0].tolist() == [[0, 0], [1, 1], [2, 2]]
        assert figure.axes[0].get_xlabel() == "env step" and not figure.legends


def test_control_is_coloured_by_the_skill_in_use_and_rings_say_who_arrived():
    z = np.array([[0, 0, 1, 1], [2, 2, 2, 2]])
    arrays = {**told(skills=3, copies=1), "control_coordinates": told(copies=1, skills=2, plane=True)["coordinates"]}
    arrays |= {"control_z": z, "control_length": np.array([4, 3]), "control_success": np.array([True, False])}
    arrays["control_goal"] = np.array([[4.0, 0.0], [0.0, 4.0]])
    arrays["control_goal_radius"] = np.float32(1.0)
    axes = figures.control_trajectories(arrays, LIGHT).axes[0]
    lines = axes.collections[0]
    pieces = [(curve[:, 0].tolist(), tuple(c[:3])) for curve, c in zip(lines.get_segments(), lines.get_colors())]
    colours = [to_rgb(colour) for colour in skill_colours(3)]
    assert pieces == [([0, 1, 2], colours[0]), ([2, 3, 4], colours[1]), ([0, 2, 4, 6], colours[2])]
    assert not axes.texts and [to_hex(ring.get_edgecolor()) for ring in axes.patches] == [BAD, GOOD]


def test_a_goal_of_several_episodes_tells_how_many_arrived():
    arrays = {**told(skills=3, copies=1), "control_coordinates": told(copies=1, skills=3, plane=True)["coordinates"]}
    arrays |= {"control_z": np.zeros((3, 4), int), "control_length": np.array([4, 4, 4])}
    arrays |= {"control_success": np.array([True, True, False]), "control_goal_radius": np.float32(1.0)}
    arrays["control_goal"] = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    assert [text.get_text() for text in figures.control_trajectories(arrays, LIGHT).axes[0].texts] == ["67%"]


def test_the_confusion_matrix_shows_the_shares():
    shares = np.array([[0.75, 0.25], [0.0, 1.0]])
    axes = figures.confusion(shares, LIGHT).axes[0]
    assert np.array_equal(axes.images[0].get_array(), shares)
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}


def test_curves_are_read_by_phase_without_times_constants_and_gaps(tmp_path):
    lines = ["env_steps,grad_steps,phase,reward/x,time/s,alpha/value,episode/success"]
    lines += [f"{i},{i},pretrain,{i * i},{i},0.1," for i in range(3)]
    lines += [f"{i},{i},control,,{i},0.1,{i}" for i in range(2)]
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    rows = read_curves(tmp_path / "metrics.csv")
    found = curves_of(rows, "pretrain")
    assert list(found) == ["reward/x"]
    assert [values.tolist() for values in found["reward/x"]] == [[0, 1, 2], [0, 1, 4]]
    assert list(curves_of(rows, "control")) == ["episode/success"]
    assert curves_of([], "pretrain") == {} and read_curves(tmp_path / "none.csv") == []


def test_smoothing_and_stretches():
    assert smooth(np.array([0.0, 3.0, 6.0, 0.0])) == pytest.approx([1.5, 3.0, 3.0, 3.0])
    assert list(runs(np.array([2, 2, 5, 5, 5, 2]))) == [(0, 2), (2, 5), (5, 6)]


def test_every_figure_comes_for_light_and_dark_pages_and_the_same_each_time(tmp_path):
    def draw(run):
        (run / "eval").mkdir(parents=True)
        np.savez(run / "eval" / "trajectories.npz", **told(), confusion=np.eye(3))
        (run / "eval" / "metrics.json").write_text(json.dumps({"coverage_cell": 1.0}))
        figures.draw_all(run)
        return {path.name: path.read_bytes() for path in (run / "eval" / "figures").iterdir()}

    first = draw(tmp_path / "a")
    names = ("trajectories", "confusion", "coverage")
    assert set(first) == {f"{name}{theme}.png" for name in names for theme in ("", ".dark")}
    assert draw(tmp_path / "b") == first
    for name, own, other in (("trajectories.png", "light", "dark"), ("trajectories.dark.png", "dark", "light")):
        pixels = np.asarray(Image.open(tmp_path / "a" / "eval" / "figures" / name).convert("RGBA"))
        assert (pixels[..., 3] == 0).mean() > 0.3  # the page shows through
        solid = {tuple(pixel) for pixel in pixels[pixels[..., 3] == 255][:, :3].tolist()}
        inks = {theme: tuple(round(255 * part) for part in to_rgb(INK[theme]["text"])) for theme in INK}
        assert inks[own] in solid and inks[other] not in solid


# ---- videos


def filmed(steps=6, rows=5):
    """Skill i's frames are one grey; row 1 ends after 3 steps."""
    length = np.full(rows, steps)
    length[1] = 3
    grey = np.linspace(60, 200, rows).astype(np.uint8)
    return Trajectories(
        obs=np.zeros((rows, steps + 1, 2)), coordinates=np.random.default_rng(0).normal(size=(rows, steps + 1, 2)),
        reward=np.ones((rows, steps)), length=length, z=np.tile(np.arange(rows)[:, None], (1, steps)),
        terminated=np.zeros(rows, bool), success=np.arange(rows) == 1,
        frames={row: [np.full((96, 120, 3), grey[row], np.uint8)] * int(length[row]) for row in range(rows)},
    )  # fmt: skip


def decode(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


def has(picture, colour, near=40):
    return (np.abs(picture.astype(int) - (255 * np.array(to_rgb(colour)))).max(-1) < near).sum() > 20


def test_the_skill_video_plays_in_browsers_and_names_every_skill(tmp_path):
    path = tmp_path / "skills.mp4"
    skill_video(filmed(), Film(range(5)), path, fps=20.0)
    meta, pictures = decode(path)
    assert meta["codec"] == "h264" and meta["pix_fmt"].startswith("yuv420p") and meta["fps"] == 4.0
    assert all(side % 16 == 0 for side in meta["size"])
    assert len(pictures) == 6 + 3  # and 0.8 s on the last
    assert all(has(pictures[0], colour) for colour in skill_colours(5))
    assert not list(tmp_path.glob("*.partial*"))


def test_the_control_video_says_how_it_went(tmp_path):
    path = tmp_path / "control.mp4"
    control_video(filmed(), Film([0, 1]), path, fps=20.0, goal=np.zeros((5, 0)))
    _, pictures = decode(path)
    half = pictures[0].shape[1] // 2
    assert has(pictures[-1][:30, :half], BAD, 70) and has(pictures[-1][:30, half:], GOOD, 70)
    assert not has(pictures[0][:30, :half], BAD, 70)


def test_every_tile_has_a_video_of_its_own_as_long_as_the_others(tmp_path):
    skill_video(filmed(), Film(range(5)), tmp_path / "skills.mp4", fps=20.0)
    about = json.loads((tmp_path / "skills.json").read_text())
    assert [video["name"] for video in about["videos"]] == [f"skill {i}" for i in range(5)]
    frames = [decode(tmp_path / video["file"])[1] for video in about["videos"]]
    assert {len(pictures) for pictures in frames} == {len(decode(tmp_path / "skills.mp4")[1])}
    for pictures, colour in zip(frames, skill_colours(5)):
        assert pictures[0].shape[0] % 16 == pictures[0].shape[1] % 16 == 0 and has(pictures[0], colour)


def test_the_pace_is_real_time_where_that_can_be_watched():
    assert pace(120, fps=20.0, every=1) == 20  # as it was
    assert pace(120, fps=60.0, every=1) == 30 and pace(120, fps=2.0, every=1) == 12  # within what eyes and bytes bear
    assert (
        pace(40, fps=20.0, every=1) == 10 and pace(6, fps=20.0, every=1) == 4
    )  # a short one takes 4 s, or 4 steps a s


# ---- panels


def test_the_returns_of_each_skill_stand_at_its_number_with_their_mean():
    axes = panels.returns(np.array([1.0, 5.0, 3.0, 7.0]), np.array([0, 1, 0, 1]), LIGHT).axes[0]
    dots, means = axes.collections
    assert sorted(map(tuple, dots.get_offsets().tolist())) == [(0, 1), (0, 3), (1, 5), (1, 7)]
    assert [segment[0, 1] for segment in means.get_segments()] == [2, 6]


def test_coverage_stands_beside_the_untrained_networks():
    axes = panels.coverage(np.array([1, 4, 9]), np.array([1.0, 1.5, 2.0]), LIGHT).axes[0]
    assert {tuple(line.get_ydata()) for line in axes.lines} == {(1, 4, 9), (1.0, 1.5, 2.0)}
    assert {text.get_text() for text in axes.texts} == {"these skills: 9", "untrained: 2"}


def test_a_curve_stands_beside_its_baseline():
    levels = baselines("episode/success", {"success_rate_random": 0.25, "return_mean_random": 3.0})
    assert levels == [("skills by chance", 0.25)] and baselines("critic/loss", {"success_rate_random": 0.25}) == []
    axes = panels.curve("episode/success", np.arange(3), np.array([0.0, 0.5, 1.0]), LIGHT, levels=levels).axes[0]
    assert set(axes.lines[2].get_ydata()) == {0.25} and [t.get_text() for t in axes.texts] == ["skills by chance"]
    assert baselines("episode/success", {"success_rate_random": None}) == []


@pytest.mark.parametrize(("tiles", "columns"), [(1, 1), (4, 4), (8, 4), (10, 5), (12, 4), (16, 4)])
def test_grids_leave_no_empty_place_where_they_can(tiles, columns):
    assert columns_of(tiles) == columns
