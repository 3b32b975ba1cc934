"""Every metric by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from workbench.metrics import (
    agreement,
    brier_parts,
    calibration,
    costs,
    discrimination,
    recalibration,
    referral,
    selective,
    sufficient,
    two_eyes,
)
from workbench.metrics.sufficient import Sufficient

Metric = Callable[..., float]

METRICS: Final[dict[str, Metric]] = {
    "roc_auc": discrimination.roc_auc,
    "average_precision": discrimination.average_precision,
    "sensitivity": discrimination.sensitivity,
    "specificity": discrimination.specificity,
    "quadratic_weighted_kappa": agreement.quadratic_weighted_kappa,
    "accuracy": agreement.accuracy,
    "brier": calibration.brier,
    "expected_calibration_error": calibration.expected_calibration_error,
    "mean": referral.mean,
    "aurc": selective.aurc,
    "excess_aurc": selective.excess_aurc,
    "augrc": selective.augrc,
}
"""Pure functions of arrays; a new one is added here and nowhere else."""

SUFFICIENT: Final[dict[Metric, Callable[..., Sufficient]]] = {
    metric: getattr(sufficient, name) for name, metric in METRICS.items() if hasattr(sufficient, name)
} | {
    discrimination.roc_auc_change: sufficient.roc_auc_change,
    **two_eyes.IN_ONE_PASS,
    **brier_parts.IN_ONE_PASS,
    **recalibration.IN_ONE_PASS,
    **selective.IN_ONE_PASS,
    **costs.IN_ONE_PASS,
}
"""Those that take every resample in one pass, as `workbench.metrics.sufficient` writes them."""
