"""One synthetic patient: what is so (drawn), and what the photographs show of it (rendered)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import UInt8

from workbench.data.synthetic.camera import (
    CAMERAS,
    SITES,
    Artefact,
    Camera,
    Conditions,
    Quality,
    aperture,
    dirt_of,
    draw_conditions,
    photograph,
)
from workbench.data.synthetic.eye import Complexion, draw_anatomy, draw_complexion, reflect
from workbench.data.synthetic.grades import draw_grades
from workbench.data.synthetic.lesions import DISC_DIAMETER, Findings, plan_findings
from workbench.data.synthetic.view import View
from workbench.schema.grades import EYES
from workbench.schema.seeds import seed_for

MISSING_SHARE: Final = 0.02
"""Share of patients with one eye only."""

QUALITY_SHARES: Final[dict[Quality, float]] = {"good": 0.72, "usable": 0.20, "reject": 0.08}


@dataclass(frozen=True)
class EyeFacts:
    """What is so in one eye and its photograph."""

    eye: Literal["OD", "OS"]
    icdr_grade: int
    dme: int
    """0 no hard exudate, 1 some, 2 some within one disc diameter of the fovea (as IDRiD grades it)"""
    view: View
    disc: tuple[float, float]
    findings: Findings
    conditions: Conditions

    @property
    def gradable(self) -> bool:
        """A rejected photograph is not."""
        return self.conditions.quality != "reject"


@dataclass(frozen=True)
class PatientFacts:
    """What is so in one patient; cheap, no pixel is touched."""

    patient_id: str
    index: int
    age: float
    """years"""
    sex: Literal["F", "M"]
    site: str
    camera: Camera
    complexion: Complexion
    artefacts: tuple[Artefact, ...]
    eyes: tuple[EyeFacts, ...]
    """one or two, OD first"""


@dataclass(frozen=True)
class EyePhotograph:
    """One eye's pixels (RGB), the mask of its lesions (RGB, `eye.MASK_COLOURS`) and the facts behind them."""

    pixels: UInt8[np.ndarray, "size size 3"]
    mask: UInt8[np.ndarray, "size size 3"]
    facts: EyeFacts


@dataclass(frozen=True)
class Patient:
    """One patient's photographs."""

    facts: PatientFacts
    photographs: tuple[EyePhotograph, ...]
    """one or two, OD first"""


def draw_patient(seed: int, index: int, size: int = 256, prevalence: str = "enriched") -> PatientFacts:
    """Draw what is so in one patient, whatever the number of the others.

    Args:
        seed: the cohort's.
        index: the patient's number in it.
        size: side of the photographs, pixels.
        prevalence: a key of `grades.PREVALENCES`.

    Raises:
        WorkbenchError: no such prevalence.
    """
    rng = np.random.default_rng(seed_for(seed, index, "patient"))
    grades = draw_grades(rng, prevalence)
    age = float(np.clip(rng.normal(58, 12), 21, 90).round())
    sex: Literal["F", "M"] = "F" if rng.random() < 0.5 else "M"
    site = str(rng.choice(list(SITES), p=[0.4, 0.25, 0.2, 0.15]))
    camera = CAMERAS[int(rng.choice(SITES[site]))]
    missing = int(rng.integers(2)) if rng.random() < MISSING_SHARE else None
    quality_bias = rng.normal()
    return PatientFacts(
        patient_id=f"P{index:05d}",
        index=index,
        age=age,
        sex=sex,
        site=site,
        camera=camera,
        complexion=draw_complexion(rng, age),
        artefacts=dirt_of(seed, site, camera, index),
        eyes=tuple(
            _draw_eye(seed, index, eye, grades[side], camera, age, size, quality_bias)
            for side, eye in enumerate(EYES)
            if side != missing
        ),
    )


def _draw_eye(
    seed: int, index: int, eye: str, grade: int, camera: Camera, age: float, size: int, quality_bias: float
) -> EyeFacts:
    rng = np.random.default_rng(seed_for(seed, index, eye, "facts"))
    view = View(
        eye="OD" if eye == "OD" else "OS",
        size=size,
        radius=camera.radius,
        field=camera.field,
        gaze=(float(rng.normal(3.4, 2.0)), float(rng.normal(0, 1.3))),
        roll=float(rng.normal(0, 0.06)),
        clip=camera.clip,
    )
    disc = (float(rng.normal(15.5, 0.7)), float(rng.normal(-1.6, 0.7)))
    findings = plan_findings(rng, grade, view, disc)
    # One eye's photograph is rarely bad alone: the same media, the same patience, the same hand.
    worse = 0.75 * quality_bias + 0.66 * rng.normal()
    conditions = draw_conditions(rng, _quality(worse), age)
    return EyeFacts(view.eye, grade, _dme(findings), view, disc, findings, conditions)


def _quality(worse: float) -> Quality:
    """Return the quality of a standard normal 'how bad': the shares are those of `QUALITY_SHARES`."""
    if worse < QUALITY_LIMITS[0]:
        return "good"
    return "usable" if worse < QUALITY_LIMITS[1] else "reject"


QUALITY_LIMITS: Final = (0.5828, 1.4051)
"""The standard normal's quantiles at 0.72 and 0.92."""


def _dme(findings: Findings) -> int:
    distances = [np.hypot(lesion.x, lesion.y) for lesion in findings.lesions if lesion.kind == "hard exudate"]
    return 0 if not distances else 2 if min(distances) < DISC_DIAMETER else 1


def render_patient(
    seed: int, index: int, size: int = 256, prevalence: str = "enriched", artefacts: bool = True
) -> Patient:
    """Render the photographs of one patient; the same bytes alone or in a cohort of any length.

    Args:
        seed: the cohort's.
        index: the patient's number in it.
        size: side of the photographs, pixels.
        prevalence: a key of `grades.PREVALENCES`.
        artefacts: False takes the same photographs with a clean camera.

    Raises:
        WorkbenchError: no such prevalence.
    """
    facts = draw_patient(seed, index, size, prevalence)
    return Patient(facts, tuple(_render_eye(seed, facts, eye, artefacts) for eye in facts.eyes))


def _render_eye(seed: int, patient: PatientFacts, eye: EyeFacts, artefacts: bool) -> EyePhotograph:
    def stream(name: str) -> np.random.Generator:
        return np.random.default_rng(seed_for(seed, patient.index, eye.eye, name))

    anatomy = draw_anatomy(stream("anatomy"), patient.complexion, eye.disc, eye.findings.beaded)
    scene, mask = reflect(stream("texture"), anatomy, eye.findings, eye.view)
    dirt = patient.artefacts if artefacts else ()
    pixels = photograph(stream("photograph"), scene, eye.view, patient.camera, eye.conditions, dirt)
    mask[~aperture(eye.view, patient.camera)] = 0
    return EyePhotograph(pixels, mask, eye)
