"""What a test reports: evaluators, chosen by TEST.EVALUATOR, that take in batches of logits and give results."""
from __future__ import annotations

from .build import EVALUATOR_REGISTRY, build_evaluator
from .evaluator import Classification, EvaluatorBase

__all__ = ["EVALUATOR_REGISTRY", "Classification", "EvaluatorBase", "build_evaluator"]
