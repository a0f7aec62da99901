"""Where metrics go. Updates hand over tensors; they are averaged here and become numbers only when a row is written."""

from skillrl.console import Row
from skillrl.loggers.logger import Logger
from skillrl.loggers.tensorboard import TensorBoardOutput
from skillrl.loggers.wandb import WandbOutput

__all__ = ["Logger", "Row", "TensorBoardOutput", "WandbOutput"]
