"""Skills in imagination, pretrained until they lead everywhere, for tasks in four directions: by hand, with --proof."""

import numpy as np
import pytest
import torch
from checks import Check
from near import NearTraining

torch.set_num_threads(1)
NEAR = NearTraining(
    size={"step_radius": 0.25, "horizon": 48},  # a place 17 steps away is beyond what is imagined at once
    radius=1.5,
    codes=32,
    held=16,
    updates=3000,
    env_steps=3200,
    per_round=2,
    skills={"horizon": 10, "gamma": 0.95},
    choice={"horizon": 10, "gamma": 0.95, "lr": 1e-3, "target_every": 5, "random_steps": 1600},
)
PLACES = [(3.0, 3.0), (-3.0, 3.0), (-3.0, -3.0), (3.0, -3.0)]


@pytest.mark.proof
@pytest.mark.parametrize("arm", ["frozen", "trained further", "from scratch"])
def test_tasks_in_four_directions_with_skills_from_imagination_and_from_scratch(arm: str, seed: int, check: Check):
    """Each pays only where fresh skills hardly come by chance. At equal env steps of each task, with the same
    settings. The twin's model and skills are fresh."""
    skills = NEAR.fresh(seed) if arm == "from scratch" else NEAR.pretrained(seed)
    learners = [NEAR.adapted(seed, skills, place, frozen=arm == "frozen") for place in PLACES]
    returns = [NEAR.returned(learner, seed, place) for learner, place in zip(learners, PLACES, strict=True)]
    check({"mean return, of 48": (float(np.mean(returns)), "< 15" if arm == "from scratch" else ">= 15")})
