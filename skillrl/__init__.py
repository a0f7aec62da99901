"""skillrl: learn skills without reward, and compose them. Exports are lazy: ``import skillrl`` imports no torch."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Spec": "skillrl.spec",
    "Schedule": "skillrl.training",
    "train": "skillrl.training",
    "Replay": "skillrl.data.replay",
    "Dataset": "skillrl.data.dataset",
    "load": "skillrl.skill_library",
    "save": "skillrl.skill_library",
    "SkillEnv": "skillrl.composition.skill_env",
    "SkillVectorEnv": "skillrl.composition.skill_env",
    "SB3VecEnv": "skillrl.composition.sb3_vec_env",
    "make_env": "skillrl.record",
}
__all__ = [
    "Dataset",
    "Replay",
    "SB3VecEnv",
    "Schedule",
    "SkillEnv",
    "SkillVectorEnv",
    "Spec",
    "load",
    "make_env",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'skillrl' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
