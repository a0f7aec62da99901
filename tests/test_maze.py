"""Mazes: walls that stop a point exactly and an Ant, goals in all cells that can be reached, and no others."""

import numpy as np
import pytest

from envs.ant_maze import AntMaze
from envs.goal import AntGoal
from envs.maze import LAYOUTS, SPREAD, Maze
from envs.point_maze import PointMaze

BELOW = np.nextafter(0.5, 0)  # the last place before a wall at 0.5


def maze(layout: str = "u", cell: float = 1.0) -> Maze:
    return Maze(layout=layout, cell=cell, radius=0.3 * cell)


def slide(one: Maze, xy: tuple[float, float], move: tuple[float, float]) -> tuple[float, float]:
    return tuple(one.slide(np.array([xy]), np.array([move]))[0].tolist())


def free(one: Maze, xy: np.ndarray) -> np.ndarray:
    x, y = one.index(xy).T
    return ~one.walls[x, y]


# --- the grid ----------------------------------------------------------------------------------------------------


def test_the_start_is_the_origin_and_rows_go_down() -> None:
    u = maze()
    expected = {(1.0, 0.0), (2.0, 0.0), (2.0, -1.0), (2.0, -2.0), (1.0, -2.0), (0.0, -2.0)}
    assert {tuple(goal) for goal in u.goals.tolist()} == expected
    assert {tuple(goal) for goal in maze(cell=4.0).goals.tolist()} == {(4 * x, 4 * y) for x, y in expected}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_goals_lie_in_every_open_cell_but_the_start(layout: str) -> None:
    one = maze(layout)
    assert len(one.goals) == sum(row.count(".") for row in LAYOUTS[layout])
    assert free(one, one.goals).all() and len(np.unique(one.goals, axis=0)) == len(one.goals)


def test_what_is_walled_in_has_no_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, "cut", ["#####", "#S#.#", "#.#.#", "#####"])
    assert maze("cut").goals.tolist() == [[0.0, -1.0]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_stand_in_every_wall_cell_and_in_no_other(layout: str) -> None:
    one = maze(layout, cell=4.0)
    cells = np.stack(np.meshgrid(*(np.arange(size) for size in one.walls.shape), indexing="ij"), axis=-1).reshape(-1, 2)
    corners = np.array([[0, 0], [-1.99, -1.99], [1.99, 1.99], [-1.99, 1.99], [1.99, -1.99]])
    for index in cells:
        for place in one.middle(tuple(index)) + corners:
            inside = [
                all(abs(place[k] - block.centre[k]) <= block.half[k] for k in (0, 1)) for block in one.blocks(2.0)
            ]
            assert sum(inside) == one.walls[tuple(index)]
    assert all(block.centre[2] == block.half[2] == 1.0 for block in one.blocks(2.0))  # on the floor, 2 high


@pytest.mark.parametrize("make", [PointMaze, AntMaze], ids=lambda make: make.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_goals_are_drawn_evenly_in_each_episode_early_and_late(make: type, layout: str) -> None:
    episodes, rows = (600, 16) if make is PointMaze else (40, 16)
    env = make(num_envs=rows, horizon=1, layout=layout, dtype="float64")
    one, (start, stop) = env._task.places, env.metadata["obs_names"]["goal"]
    obs, _ = env.reset(seed=0)
    seen = []
    for _ in range(episodes):
        seen.append(obs[:, start:stop])
        obs = env.step(np.zeros(env.action_space.shape, np.float32))[0]
    goals = np.array(seen)  # (episodes, rows, 2)
    offset = goals[:, :, None] - one.goals  # to each cell's middle
    near = np.abs(offset).max(axis=-1) <= SPREAD * one.cell + 1e-9
    assert (near.sum(axis=-1) == 1).all()
    within = offset[near] / (SPREAD * one.cell)
    assert np.abs(within).max() > 0.95 and np.abs(within.mean(axis=0)).max() < 4 / np.sqrt(3 * len(within))
    cells = near.argmax(axis=-1)  # (episodes, rows)
    for part in np.array_split(cells, 2):
        counts = np.bincount(part.ravel(), minlength=len(one.goals))
        expected = part.size / len(one.goals)
        degrees = len(one.goals) - 1
        assert ((counts - expected) ** 2 / expected).sum() < degrees + 4 * np.sqrt(2 * degrees)  # chi-squared
    assert (cells[:, 0] != cells[:, 1]).any()  # rows have their own


# --- walls and the point -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "move", "end"),
    [
        ((0.0, 0.0), (0.3, -0.2), (0.3, -0.2)),  # nothing in the way
        ((0.0, 0.0), (0.0, 0.7), (0.0, BELOW)),  # head-on, against an upper line
        ((0.0, 0.0), (0.0, -0.7), (0.0, -0.5)),  # against a lower line
        ((0.0, 0.0), (0.5, 0.625), (0.5, BELOW)),  # the rest of the move goes along the wall
        ((0.0, 0.0), (0.0, -2.0), (0.0, -0.5)),  # the corridor behind the wall is free, and not reached
        ((0.0, 0.0), (0.0, -100.0), (0.0, -0.5)),
        ((0.0, 0.0), (100.0, 0.0), (np.nextafter(2.5, 0), 0.0)),  # through all free cells of a row
        ((0.0, 0.0), (-100.0, -100.0), (-0.5, -0.5)),  # into a corner of two walls
        ((2.0, 0.0), (-1.0, -1.25), (1.5, -1.25)),  # along one wall, around nothing: x stops at the wall's edge
        ((2.0, 0.0), (0.0, -2.0), (2.0, -2.0)),  # down the connecting corridor, two lines in one step
        ((0.0, 0.0), (4.0, -2.0), (np.nextafter(2.5, 0), -0.5)),  # what a wall has taken is gone where the wall ends
    ],
)
def test_walls_stop_a_point_where_they_stand(start: tuple, move: tuple, end: tuple) -> None:
    assert slide(maze(), start, move) == pytest.approx(end, abs=1e-12)


def test_a_point_at_a_wall_stays_in_front_of_it_and_comes_away() -> None:
    u = maze()
    at = (0.0, float(BELOW))
    for _ in range(5):
        assert (at := slide(u, at, (0.0, 0.2))) == (0.0, BELOW)
    assert slide(u, at, (0.1, -0.2)) == pytest.approx((0.1, 0.3))
    at = slide(u, (0.0, 0.0), (0.0, -0.5))  # to the line exactly, which belongs to this cell
    assert at == (0.0, -0.5) and slide(u, at, (0.3, -0.2)) == (0.3, -0.5)


def test_no_way_leads_between_two_walls_that_touch_at_a_corner() -> None:
    one = maze("medium")
    # Open cells in the 5th and 6th row and the 4th and 5th column (from 0) touch at a corner between two walls.
    a, b = np.array([3.0, -4.0]), np.array([4.0, -5.0])
    assert free(one, np.array([a, b])).all() and not free(one, np.array([[4.0, -4.0], [3.0, -5.0]])).any()
    for way in (b - a, 1.5 * (b - a), b - a + [1e-9, 0], b - a - [1e-9, 0]):
        end = np.array(slide(one, tuple(a), tuple(way)))
        assert (one.index(end[None]) == one.index(a[None])).all()


def micro(one: Maze, xy: np.ndarray, move: np.ndarray, parts: int = 4000) -> np.ndarray:
    """The same by brute force: tiny steps; what leads into a wall, along x, along y or only along both, is lost."""
    xy, step = xy.copy(), move / parts
    for _ in range(parts):
        for axis in (0, 1):
            blocked = ~free(one, xy + step * np.eye(2)[axis])
            step[blocked, axis] = 0
        step[~free(one, xy + step), 1] = 0
        xy += step
    return xy


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [0.2, 1.5, 6.0])
def test_long_random_moves_end_where_tiny_steps_do(layout: str, length: float) -> None:
    one, rng = maze(layout), np.random.default_rng(0)
    xy = np.concatenate([one.goals] * 20) + rng.uniform(-0.45, 0.45, (20 * len(one.goals), 2))
    angle = rng.uniform(0, 2 * np.pi, len(xy))
    move = length * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    end = one.slide(xy, move)
    assert free(one, end).all()
    assert (np.linalg.norm(end - xy, axis=1) <= length + 1e-9).all()
    far = np.linalg.norm(end - micro(one, xy, move), axis=1) > 4 * length / 4000
    assert far.mean() < 0.03  # those that graze a corner: which side they take is a matter of the last digits
    alone = np.concatenate([one.slide(xy[i : i + 1], move[i : i + 1]) for i in range(50)])
    assert np.array_equal(alone, end[:50])  # rows do not depend on each other


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_sequence_of_moves_leads_into_a_wall(layout: str) -> None:
    one, rng = maze(layout), np.random.default_rng(1)
    xy, visited = np.zeros((500, 2)), set()
    for length in [0.2] * 60 + [3.0] * 20 + [50.0] * 20:
        move = length * rng.uniform(-1, 1, xy.shape)
        move[rng.random(500) < 0.2, 0] = 0.0  # along an axis
        xy = one.slide(xy, move)
        assert free(one, xy).all()
        visited |= {tuple(cell) for cell in one.index(xy).tolist()}
    assert len(visited) == len(one.goals) + 1  # and all of the maze has been seen


# --- the tasks ---------------------------------------------------------------------------------------------------


def way_to(one: Maze, goal: np.ndarray) -> list[np.ndarray]:
    """Middles of the cells from the start to the goal's cell, then the goal."""
    target, came = tuple(one.index(goal[None])[0].tolist()), {one.start: one.start}
    queue = [one.start]
    for i, j in queue:
        for nearby in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if not one.walls[nearby] and nearby not in came:
                came[nearby] = (i, j)
                queue.append(nearby)
    cells = [target]
    while cells[-1] != one.start:
        cells.append(came[cells[-1]])
    return [*[one.middle(cell) for cell in reversed(cells)], goal]


@pytest.mark.parametrize("layout, horizon", [("u", 100), ("medium", 200)])
def test_a_point_that_knows_the_way_enters_every_goal_and_one_that_goes_straight_does_not(layout, horizon) -> None:
    rates = []
    for knows in (True, False):
        env = PointMaze(num_envs=64, layout=layout, horizon=horizon, dtype="float64")
        one = env._task.places
        obs, info = env.reset(seed=0)
        assert not info["success"].any() and not obs[:, :2].any()
        goals = obs[:, 2:].copy()
        ways = [way_to(one, goal) if knows else [goal] for goal in goals]
        succeeded, running = np.zeros(64, dtype=bool), np.ones(64, dtype=bool)
        for _ in range(horizon):
            aim = np.array([way[0] for way in ways]) - obs[:, :2]
            obs, reward, terminated, truncated, info = env.step((aim / 0.2).astype(np.float32), running)
            last = info["final_obs"]
            entered = running & (np.linalg.norm(last[:, :2] - goals, axis=1) <= 0.3)
            assert np.array_equal(terminated, entered) and np.array_equal(reward, entered.astype(float))
            assert np.array_equal(info["final_info"]["success"][running], entered[running])
            assert free(one, last[:, :2]).all()
            succeeded |= entered
            running &= ~(terminated | truncated)
            for i in np.flatnonzero(running):
                if len(ways[i]) > 1 and np.linalg.norm(ways[i][0] - last[i, :2]) < 1e-6:
                    ways[i].pop(0)
        rates.append(succeeded.mean())
    assert rates[0] == 1.0 and rates[1] < 0.8


def thrown(env: AntMaze | AntGoal, velocity: tuple[float, float], steps: int) -> np.ndarray:
    """(steps, 2): where the Ant is, thrown from the start."""
    env.reset(seed=0)
    state = env.state_dict()
    state["physics"][0, 1 + 15 : 1 + 17] = velocity  # after time and 15 positions
    env.load_state_dict(state)
    return np.array([env.step(np.zeros((1, 8), np.float32))[4]["final_info"]["xy"][0] for _ in range(steps)])


@pytest.mark.parametrize("velocity, axis, line", [((0, 12), 1, 2.0), ((0, -12), 1, -2.0), ((-12, 0), 0, -2.0)])
def test_walls_stop_the_ant(velocity: tuple, axis: int, line: float) -> None:
    inside = thrown(AntMaze(num_envs=1), velocity, 60)[:, axis] * np.sign(line)
    outside = thrown(AntGoal(num_envs=1, distance=50.0, horizon=700), velocity, 60)[:, axis] * np.sign(line)
    assert inside.max() < abs(line) and inside.max() > 0.5  # it comes near, and its middle never enters the wall
    assert outside.max() > 3


def test_the_ant_reaches_the_goal_where_its_position_says_so() -> None:
    env = AntMaze(num_envs=3)
    env.reset(seed=0)
    state = env.state_dict()
    goal = state["now"]["goal"]
    for row, offset in ((0, 0.4), (1, 0.65)):
        state["now"]["qpos"][row, :2] = state["physics"][row, 1:3] = goal[row] + [offset, 0]
    env.load_state_dict(state)
    _, reward, terminated, _, info = env.step(np.zeros((3, 8), np.float32))
    assert reward.tolist() == [1.0, 0.0, 0.0] and terminated.tolist() == [True, False, False]
    assert info["final_info"]["success"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (PointMaze, {"layout": "w"}, "layout='w': must be one of u, medium"),
        (PointMaze, {"radius": 0.4}, r"radius=0.4: must be at most 0.354 with cell=1.0, or goals are reached round"),
        (PointMaze, {"cell": 0.0}, "cell=0.0"),
        (AntMaze, {"wall_height": 0}, "wall_height=0"),
        (AntMaze, {"radius": 1.5}, "radius=1.5: must be at most 1.41"),
    ],
)
def test_impossible_values_are_one_line(make: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)
