"""What skills are used for. A use is a Learner to train on the task's env, and the budget that it gets."""

from skillrl.downstream.control import Control
from skillrl.downstream.finetune import Finetune
from skillrl.downstream.imitate import Imitate
from skillrl.downstream.zero_shot import ZeroShot

__all__ = ["Control", "Finetune", "Imitate", "ZeroShot"]
