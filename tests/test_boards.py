"""Catch and Pac-Boy: what is seen, paid and ended, against cases worked out by hand."""

import numpy as np
import pytest

from envs.catch import Catch
from envs.pac_boy import AWAY, CELLS, FRUITS, MOVES, OBSERVE, START, WALLS, PacBoy, moved, one_hot

STAY, LEFT, RIGHT = range(3)
UP, DOWN, WEST, EAST = range(4)


def put(env: Catch | PacBoy, **arrays: list) -> None:
    """Sets named arrays of all rows."""
    state = env.state_dict()
    for name, value in arrays.items():
        state["now"][name][:] = value
    physics = [state["now"][name] for name in env._task.simulator(1).shapes]
    state["physics"] = np.concatenate(physics, axis=1)
    env.load_state_dict(state)


# --- Catch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("paddle", "action", "reward"), [(2, STAY, 1), (3, LEFT, 1), (5, LEFT, -1), (1, RIGHT, 1)])
def test_a_ball_is_caught_under_the_paddle_when_it_is_down(paddle: int, action: int, reward: int):
    env = Catch(num_envs=1, size=7)
    env.reset(seed=0)
    put(env, xy=[paddle, 0], ball=[2, 2])
    _, paid, terminated, _, _ = env.step(np.array([STAY]))
    assert paid.tolist() == [0] and not terminated.any()
    _, paid, terminated, truncated, info = env.step(np.array([action]))
    assert paid.tolist() == [reward] and terminated.all() and not truncated.any()
    assert info["final_info"]["success"].tolist() == [reward == 1] and not info["success"].any()


def test_an_episode_takes_size_minus_one_steps_and_the_paddle_stays_on_the_board():
    env = Catch(num_envs=1, size=7)
    _, info = env.reset(seed=0)
    assert info["xy"].tolist() == [[0, 0]]
    for i in range(6):
        assert env.state_dict()["now"]["ball"][0, 1] == 6 - i
        _, _, terminated, _, info = env.step(np.array([LEFT]))
        place = info["final_info"]["xy"] if i == 5 else info["xy"]
        assert terminated[0] == (i == 5) and place.tolist() == [[-min(i + 1, 3), 0]]


def test_what_is_seen_of_a_board():
    env = Catch(num_envs=2, size=5, sight=2, observe=["ball", "paddle", "near", "screen"])
    env.reset(seed=0)
    state = env.state_dict()
    state["now"]["xy"][:], state["now"]["ball"][:] = [[1, 0], [0, 0]], [[3, 3], [1, 3]]
    state["physics"] = np.concatenate([state["now"]["xy"], state["now"]["ball"]], axis=1)
    env.load_state_dict(state)
    obs = env.step(np.array([STAY, RIGHT]))[0]  # the ball is in row 2 now, the paddle in column 1
    assert obs[:, :3].tolist() == [[0.5, 0, -0.5], [-0.5, 0, -0.5]]
    assert obs[:, 3:6].tolist() == [[1, 1, 1], [0, 1, 1]]
    screen = obs[:, 6:].reshape(2, 5, 5)
    assert np.argwhere(screen[0]).tolist() == [[0, 0], [0, 1], [0, 2], [2, 3]]
    assert Catch(num_envs=1).reset(seed=3)[0][0, 3:].tolist() == [0, 0, 0]  # it starts too far up


def test_balls_come_from_every_column():
    env = Catch(num_envs=400, size=4)
    env.reset(seed=0)
    now = env.state_dict()["now"]
    assert all(60 < (now["ball"][:, 0] == column).sum() < 140 for column in range(4))
    assert (now["xy"] == [2, 0]).all() and (now["ball"][:, 1] == 3).all()


@pytest.mark.parametrize("paddle", [2, 9])
def test_a_paddle_that_does_not_fit_is_refused(paddle: int):
    with pytest.raises(ValueError, match=rf"^paddle={paddle}: must be odd and at most size, which is 7$"):
        Catch(size=7, paddle=paddle)


# --- Pac-Boy -----------------------------------------------------------------------------------------------------


def test_every_cell_can_be_walked_to_and_fruits_lie_apart_from_the_start():
    assert len(CELLS) == 37 and len(FRUITS) == 10 and not (FRUITS == START).all(axis=1).any()
    reached = {tuple(START)}
    for _ in range(len(CELLS)):
        at = np.array(sorted(reached))
        reached |= {tuple(xy) for move in MOVES for xy in moved(at, np.broadcast_to(move, at.shape))}
    assert reached == {tuple(xy) for xy in CELLS}
    assert one_hot(CELLS).tolist() == np.eye(37).tolist()


def nothing(env: PacBoy) -> np.ndarray:
    return np.zeros(len(FRUITS) + env._task.ghosts)


def test_a_fruit_pays_once_and_the_last_one_ends_the_episode():
    env = PacBoy(num_envs=1, ghosts=0, observe=OBSERVE[:11])
    env.reset(seed=0)
    above = FRUITS[0] + np.array([0, 1])
    assert not WALLS[tuple(above.astype(int))] and not (above == FRUITS).all(axis=1).any()
    fruits = np.zeros(len(FRUITS))
    fruits[[0, 5]] = 1
    put(env, xy=above, fruits=fruits)
    for action, paid, left in ((DOWN, 1, [5]), (UP, 0, [5]), (DOWN, 0, [5])):
        obs, reward, terminated, _, info = env.step(np.array([action]))
        wanted = nothing(env)
        wanted[0] = paid
        assert reward.tolist() == [paid] and info["concerns"][0].tolist() == wanted.tolist() and not terminated.any()
        assert np.flatnonzero(obs[0, 37:47]).tolist() == left
    put(env, fruits=fruits * 0 + np.eye(len(FRUITS))[0])
    _, reward, terminated, _, info = env.step(np.array([WEST]))  # against a wall: it stays
    assert reward.tolist() == [1] and terminated.all()
    assert info["final_info"]["success"].all() and info["final_info"]["concerns"][0, 0] == 1
    assert not info["concerns"].any() and info["xy"].tolist() == [[0, 0]]


def beside(columns: int) -> np.ndarray:
    return START + np.array([columns, 0])


def test_a_ghost_costs_where_it_stands_when_the_boy_has_moved():
    env = PacBoy(num_envs=1, bump=3.0)
    env.reset(seed=0)
    put(env, xy=START, ghosts=[beside(1), beside(1)], fruits=np.eye(10)[0])
    _, reward, _, _, info = env.step(np.array([EAST]))
    assert reward.tolist() == [-6] and info["concerns"][0, 10:].tolist() == [-3, -3]
    put(env, xy=START, ghosts=[START, beside(2)])
    assert env.step(np.array([WEST]))[1].tolist() == [0]  # moved away from the one, and not into the other
    put(env, xy=beside(3), ghosts=[START, beside(3)])
    assert env.step(np.array([EAST]))[1].tolist() == [-3]  # a wall: it stayed


def test_rewards_are_the_sum_of_the_concerns_and_ghosts_walk_on_free_cells():
    env = PacBoy(num_envs=16, horizon=30)
    env.reset(seed=0)
    rng, seen = np.random.default_rng(0), 0
    before = env.state_dict()["now"]["ghosts"]
    for _ in range(90):
        _, reward, terminated, truncated, info = env.step(rng.integers(4, size=16))
        ended = terminated | truncated
        concerns = np.where(ended[:, None], info["final_info"]["concerns"], info["concerns"])
        assert np.allclose(concerns.sum(axis=1), reward)
        seen += (concerns < 0).sum()
        now = env.state_dict()["now"]
        ghosts = now["ghosts"]
        assert not WALLS[tuple(ghosts.reshape(-1, 2).astype(int).T)].any()
        step = np.abs(ghosts - before).sum(axis=2)[~ended]
        assert (step <= 1).all()
        far = np.abs(ghosts[ended] - START).sum(axis=2)
        assert (far >= AWAY).all() and now["fruits"].any(axis=1).all()
        before = ghosts
    assert seen > 20
