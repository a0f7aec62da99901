"""Evaluation: rollouts, what is measured on them, pictures of them, and the report."""

from skillrl.evaluation.protocol import evaluate
from skillrl.evaluation.report import build_report

__all__ = ["build_report", "evaluate"]
