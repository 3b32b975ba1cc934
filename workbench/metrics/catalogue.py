"""Every metric by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float

from workbench.metrics import agreement, calibration, discrimination, referral, weighted

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
}
"""Pure functions of arrays; a new one is added here and nowhere else."""

WEIGHTED: Final[dict[Metric, Callable[..., Float[np.ndarray, " resample"]]]] = {
    metric: getattr(weighted, name) for name, metric in METRICS.items() if hasattr(weighted, name)
} | {discrimination.roc_auc_change: weighted.roc_auc_change}
"""Those that take every resample in one pass, as `workbench.metrics.weighted` writes them."""
