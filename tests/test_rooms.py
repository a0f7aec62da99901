"""Four rooms: where moves lead, what is observed, and what is no action."""

import numpy as np
import pytest

from envs.rooms import MOVES, STATES, Rooms, index, moved

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def test_there_are_24_states_all_of_which_can_be_walked_to_but_one_in_8_steps():
    """As the notebook that it is from says."""
    assert len(STATES) == 24 and STATES[0].tolist() == [0, 0] and index(STATES).tolist() == list(range(24))
    reached = {0}
    for _ in range(8):
        at = STATES[sorted(reached)]
        reached |= {i for move in MOVES for i in index(moved(at, np.broadcast_to(move, at.shape))).tolist()}
    assert len(reached) == 23


def test_walls_stop_and_doors_let_through():
    env = Rooms(num_envs=1, horizon=100)
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == [[0, 0]]
    path = [(UP, (0, 0)), (LEFT, (0, 0)), (RIGHT, (1, 0)), (RIGHT, (1, 0)), (STAY, (1, 0)), (DOWN, (1, -1))]
    path += [(RIGHT, (2, -1)), (RIGHT, (3, -1)), (UP, (3, 0)), (LEFT, (3, 0)), (DOWN, (3, -1)), (DOWN, (3, -2))]
    for action, at in path:
        obs, reward, terminated, truncated, info = env.step(np.array([action]))
        assert tuple(obs[0]) == at == tuple(info["xy"][0])
        assert not reward.any() and not terminated.any() and not truncated.any()


def test_a_state_is_seen_one_hot_where_asked_for():
    env, other = Rooms(num_envs=3, observe=["cell"]), Rooms(num_envs=3)
    assert env.metadata["obs_names"] == {"cell": [0, 24]} and "xy" not in env.metadata["views"]
    env.reset(seed=0), other.reset(seed=0)
    for action in np.random.default_rng(0).integers(5, size=(60, 3)):
        one_hot, xy = env.step(action)[0], other.step(action)[0]
        assert (one_hot.sum(1) == 1).all() and np.array_equal(STATES[one_hot.argmax(1)], xy)


@pytest.mark.parametrize("action", [[5, 0], [-1, 0], [0.5, 0]])
def test_what_is_no_action_is_refused(action: list[float]):
    env = Rooms(num_envs=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^actions: must be whole numbers from 0 to 4$"):
        env.step(np.array(action))
    env.step(np.array(action), np.array([False, True]))  # of a row that waits nobody looks at it
