"""Skills in imagination, pretrained until they lead far, for places that pay in a small circle: by hand, `--proof`."""

import numpy as np
import pytest
import torch
from checks import Check
from near import NearTraining

from skillrl.learners.choreographer import ChoreographerPolicy

torch.set_num_threads(1)
NEAR = NearTraining(
    size={"step_radius": 0.25, "horizon": 48},  # a place 17 steps away is beyond what is imagined at once
    radius=1.5,
    codes=32,
    held=16,
    updates=3000,
    env_steps=2400,
    per_round=2,
    skills={"horizon": 10, "gamma": 0.95, "squash": False},
    choice={"horizon": 10, "gamma": 0.95, "lr": 1e-3, "target_every": 5, "random_steps": 1000},
)
PLACES = [(3.0, 3.0), (-3.0, 3.0), (-3.0, -3.0), (3.0, -3.0)]


@pytest.mark.proof
def test_four_places_with_skills_from_imagination_and_from_scratch(seed: int, check: Check):
    """At equal env steps of each task, with the same settings. The twin's model and skills are fresh."""

    def adapted(skills: ChoreographerPolicy, frozen: bool = False) -> float:
        learners = [NEAR.adapted(seed, skills, place, frozen=frozen) for place in PLACES]
        return float(np.mean([NEAR.returned(*pair, seed) for pair in zip(learners, PLACES, strict=True)]))

    skills = NEAR.pretrained(seed)
    check(
        {
            "mean return, of 48": (adapted(skills, frozen=True), ">= 15"),
            "mean return, of 48, trained further": (adapted(skills), ">= 15"),
            "mean return, of 48, from scratch": (adapted(NEAR.fresh(seed)), "< 15"),
        }
    )
