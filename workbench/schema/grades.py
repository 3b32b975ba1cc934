"""Eyes and grades, named once (ICDR: Wilkinson et al. 2003)."""

from __future__ import annotations

from typing import Final, Literal

Eye = Literal["OD", "OS", "unknown"]

EYES: Final = ("OD", "OS")
"""Right eye first, as it stands on a clinician's screen; also the channel order of ``x``."""

GRADES: Final = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
"""The International Clinical Diabetic Retinopathy scale, 0 to 4."""

REFERABLE_GRADE: Final = 2
"""Moderate non-proliferative retinopathy and worse is *referable*."""

UNGRADED: Final = -1
"""Stands for 'no grade' in integer arrays; tables hold a null instead."""
