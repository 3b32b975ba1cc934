"""The exact columns of every table in a run folder. No torch here."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from workbench.schema.specs import UNLIKE_SCORES

EXAMS_SCHEMA: Final = pa.schema(
    [
        ("exam_id", pa.string()),
        ("patient_id", pa.string()),
        ("eye", pa.string()),
        ("status", pa.string()),  # ok | missing | ungradable
        ("reason", pa.string()),
        ("sha256", pa.string()),
        ("pixels_sha256", pa.string()),  # what the model was given: a changed photograph shows here
        ("icdr_grade", pa.int64()),
        ("dme", pa.int64()),
        ("gradable", pa.bool_()),
        ("quality", pa.string()),
        ("camera", pa.string()),
        ("site", pa.string()),
        ("age", pa.float64()),
        ("sex", pa.string()),
        ("split", pa.string()),
        ("dataset", pa.string()),
        ("dataset_version", pa.string()),
        ("label_source", pa.string()),
        ("label_level", pa.string()),
        ("crop_x", pa.float64()),
        ("crop_y", pa.float64()),
        ("crop_side", pa.float64()),
        ("photo_width", pa.int64()),
        ("photo_height", pa.int64()),
    ]
)
"""`exams.parquet`: two rows per exam, OD then OS. No path and no name of a file: a run may be passed on."""

_ROW_OF_A_PART: Final = [
    ("exam_id", pa.string()),
    ("eye", pa.string()),
    ("status", pa.string()),  # done | failed | skipped
    ("reason", pa.string()),
]
_UNLIKENESS: Final = [(name, pa.float64()) for name in UNLIKE_SCORES]
DRAWS_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("seed", pa.int64()),
        ("probabilities", pa.list_(pa.float32())),  # draw-major: draws × grades
        ("linf", pa.float64()),  # the largest change of a pixel of this eye, in the pixel range [0, 1]
        ("within_budget", pa.bool_()),
        ("in_box", pa.bool_()),
        ("flipped", pa.bool_()),
        ("survives_8bit", pa.bool_()),
        ("notes", pa.string()),
        (
            "distance",
            pa.float64(),
        ),  # the change of this eye in the threat's norm and units, or null in an older run
        ("success", pa.bool_()),  # the threat's goal is reached; null where it does not apply
        ("already", pa.bool_()),  # it was reached by the exam as it is
        *_UNLIKENESS,
        ("pattern_sha256", pa.string()),  # of the pattern that was added; null under any other stress
    ]
)
PATTERN_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,  # exam_id is null: a pattern is of no exam
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("values", pa.binary()),  # 3 × height × width little-endian float32, of the pixel range [0, 1]
        ("sha256", pa.string()),  # of both eyes' values, OD first
        ("fitted_on", pa.int64()),  # exams; 0: signs by lot
        ("fitted_success", pa.float64()),  # share of them on which the goal is reached; null where not known
        ("fitted_already", pa.float64()),  # the same without the pattern
    ]
)
"""One perturbation for all exams, an eye a row."""
INTAKE_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("filed_rightly_log_odds", pa.float64()),  # evidence that the photograph is of the eye it is filed under
        ("flag", pa.string()),  # why it is flagged, or null
    ]
)
HELD_OUT_SCHEMA: Final = pa.schema(_UNLIKENESS)
"""`reference.parquet`: the scores of training eyes that percentiles are taken from; there if the model has them."""
MAPS_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("scale", pa.float64()),  # the map is values × scale: float16 alone would lose small attributions
        ("values", pa.binary()),  # little-endian float16, row-major
        ("withheld", pa.string()),
        ("completeness_gap", pa.float64()),
        ("fellow_share", pa.float64()),
        ("outside_share", pa.float64()),  # of the map's strength, outside the disc
        ("outside_change", pa.float64()),  # of P(referable), when what is outside the discs is made one colour
        ("draws", pa.int64()),  # of which the map is the mean; null: of the model without draws
        ("agreeing", pa.binary()),  # bytes, row-major: in how many of the draws a pixel is in the map's strongest tenth
        (
            "steadiness",
            pa.float64(),
        ),  # of the pixels that matter in a fifth of the draws, the share that does in nine tenths
        ("draws_likeness", pa.float64()),  # of the mean over draws with the map of the model without draws
    ]
)
INFLUENCES: Final = ("blank", "healthy", "mean", "exchanged", "outside")
"""What is done to an exam to see what else an eye's answer was read from; see `audit.influence`."""
INFLUENCE_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("p", pa.float64()),  # P(referable) of the eye, mean over draws
        *[(f"p_{name}", pa.float64()) for name in INFLUENCES],
        ("rise_low", pa.float64()),  # of p - p_healthy, over healthy fellows and draws
        ("rise_high", pa.float64()),
        ("donors", pa.int64()),
    ]
)
"""A null `p_…` could not be had (no fellow eye, no healthy eye of another patient)."""
TRUST_CHECKS: Final = (
    "randomised_likeness",
    "randomised_structure",
    "independent_likeness",
    "deletion_gain",
    "insertion_gain",
    "road_gain",
    "infidelity",
    "max_sensitivity",
    "repeatability",
    "rephotograph_likeness",
    "corruption_likeness",
    "attack_likeness",
    "attack_moved",
    "unlearned_likeness",
    "border_share",
)
SHARES_OF_THE_CHANGE: Final = ("deletion_gain", "insertion_gain", "road_gain")
"""Those of `TRUST_CHECKS` that are shares of ``answer_change``; over several eyes each counts by how large that is."""
MAP_TRUST_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        *[(name, pa.float64()) for name in TRUST_CHECKS],
        ("answer_change", pa.float64()),  # of the explained number, when the eye's detail is all gone
    ]
)
"""What a method's map of one eye shows under each check; null where it says nothing there."""
PHOTOGRAPHS_SCHEMA: Final = pa.schema([*_ROW_OF_A_PART, ("jpeg", pa.binary())])
STRESSED_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("png", pa.binary()),  # what the model was given, in 8 bits; lossless, since an attack lives in the last ones
        ("clean_png", pa.binary()),
    ]
)
MARKS_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("labels", pa.binary()),  # PNG of one grey level per kind (`schema.lesions.LABELS`); null: no mask
        ("over", pa.string()),  # photograph: its own pixels; square: what the model saw, at any resolution
    ]
)
"""Where lesions lie: by the data set's masks, or as an experimental detector found them."""
MILDEST_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("severity", pa.float64()),  # of the exam: the mildest that flips its call; null where none up to 5 does
        ("steady", pa.bool_()),  # every level above flips it too
        ("clean_rejection_score", pa.float64()),  # of this eye: log-odds that graders reject the photograph
        ("rejection_score", pa.float64()),  # the same at that severity
        ("accepted", pa.bool_()),  # of the exam: graders would accept each photograph, before and after
    ]
)
SMALLEST_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        (
            "epsilon",
            pa.float64(),
        ),  # of the exam: the smallest that turns its call; 0 already wrong; null none up to the largest
        ("already", pa.bool_()),  # the exam is wrong as it is
        ("distance", pa.float64()),  # how far this eye was moved, in the norm's units
        ("survives_8bit", pa.bool_()),  # the call is still turned after rounding to 8 bits; null where none was turned
        ("seed", pa.int64()),
    ]
)
"""linf in 1/255 of the pixel range; l2, l1 of the pixel range [0, 1]."""
CERTIFIED_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("called_referable", pa.bool_()),  # the smoothed call of the exam; null: it abstains
        ("abstained", pa.bool_()),
        ("radius", pa.float64()),  # L2 over both eyes together, of the pixel range [0, 1]; 0 where it abstains
        ("p_lower", pa.float64()),  # lower bound of the share of noisy pictures that are called so
        ("counts", pa.int64()),  # of the samples, how many agree with the call that the first ones chose
        ("samples", pa.int64()),
        ("seed", pa.int64()),
    ]
)
HEAD_MARGIN_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("margin", pa.float64()),  # L2 distance of the eye's features to the nearest change of its grade
        ("margin_share", pa.float64()),  # the same over the length of the features
    ]
)
CREDIBILITY_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("norms_training", pa.int64()),  # batch norms that were in training mode while the model was measured
        ("buffers_changed", pa.bool_()),
        ("probabilities", pa.bool_()),  # the attacked model answers probabilities, not logits
        ("passes_differ", pa.bool_()),  # five passes of the exam are not the same
        ("averages", pa.bool_()),  # an attack on such a model averages over its draws
        ("classes", pa.int64()),
        ("gradient_fault", pa.bool_()),  # zero everywhere, or not finite
        ("gradient_cut", pa.bool_()),  # zero or missing although the answer changes with the pixels
        ("difference_cosine", pa.float64()),  # between the gradient and finite differences, along patches
        ("difference_sign", pa.bool_()),
        ("already", pa.bool_()),  # the goal was reached by the exam as it is
        ("fgsm", pa.bool_()),
        ("pgd", pa.bool_()),  # the attack under examination
        ("pgd_more", pa.bool_()),  # with twice the steps and a second start
        ("pgd_rises", pa.float64()),  # share of its steps in which the margin rose
        ("best_kept", pa.bool_()),  # what it returned is the best that it saw
        ("within_budget", pa.bool_()),
        ("survives_8bit", pa.bool_()),
        ("untargeted", pa.bool_()),
        ("targeted", pa.bool_()),
        ("ladder_epsilon", pa.list_(pa.float64())),
        ("ladder", pa.list_(pa.bool_())),  # broken at each of these ε, the whole pixel range last
        ("unbounded", pa.bool_()),
        ("held_epsilon", pa.float64()),  # the largest ε of the ladder at which the exam was not broken
        ("holds", pa.bool_()),  # there, against twice the effort too; and there as well:
        ("square", pa.bool_()),
        ("label_only", pa.bool_()),
        ("noise", pa.bool_()),
        ("transfer", pa.bool_()),
        ("no_draws", pa.string()),  # why nothing was attacked over draws; null: it was
        ("draws_spread", pa.float64()),  # standard deviation of P(referable) over draws
        ("clean_flip_share", pa.float64()),  # of single draws whose call is not that of most
        ("fixed_mask", pa.bool_()),
        ("averaged", pa.list_(pa.bool_())),  # broken with 1, 5, 20, 50 draws behind each gradient
        ("selected", pa.bool_()),  # by the draws that the attack saw
        ("fresh_wrong", pa.int64()),
        ("fresh_draws", pa.int64()),
        ("silent_by_crossing", pa.bool_()),
        ("silent", pa.bool_()),  # by an attack that minds the referral rule
        ("self_test", pa.string()),  # what the bench did wrong on models of which the answer is known; empty: nothing
    ]
)
"""What an attack shows under examination, two equal rows per exam; see `stress.credibility`."""
PART_SCHEMAS: Final = {
    "masks": MARKS_SCHEMA,
    "lesions": MARKS_SCHEMA,
    "draws": DRAWS_SCHEMA,
    "pattern": PATTERN_SCHEMA,
    "maps": MAPS_SCHEMA,
    "photographs": PHOTOGRAPHS_SCHEMA,
    "stressed": STRESSED_SCHEMA,
    "intake": INTAKE_SCHEMA,
    "influence": INFLUENCE_SCHEMA,
    "mildest": MILDEST_SCHEMA,
    "smallest": SMALLEST_SCHEMA,
    "credibility": CREDIBILITY_SCHEMA,
    "certified": CERTIFIED_SCHEMA,
    "head_margin": HEAD_MARGIN_SCHEMA,
    "map_trust": MAP_TRUST_SCHEMA,
}

ROWS_SCHEMA: Final = pa.schema(
    [
        ("name", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("clusters", pa.int64()),
        ("measurement", pa.string()),
        ("stress", pa.string()),
        ("strength", pa.float64()),
        ("subgroup", pa.string()),  # all | camera=… | site=… | sex=… | age=… | quality=… | grade=…
        ("at", pa.float64()),  # the point of a curve: retained share, grade, bin; else null
        ("of", pa.string()),  # which one, where there are several: an uncertainty score, a calibration; else null
        ("seed", pa.int64()),
        ("model_hash", pa.string()),
        ("manifest_hash", pa.string()),
        ("workbench_version", pa.string()),
        ("reason", pa.string()),  # why there is no value
    ]
)
DECISIONS_SCHEMA: Final = pa.schema(
    [
        ("measurement", pa.string()),
        ("exam_id", pa.string()),
        ("patient_id", pa.string()),
        ("referable", pa.bool_()),
        ("p_referable", pa.float64()),
        ("called_referable", pa.bool_()),
        ("score", pa.float64()),
        ("referred", pa.bool_()),
        ("referred_why", pa.string()),
        ("wrong", pa.bool_()),
        ("silent_failure", pa.bool_()),
    ]
)
ATTENTION_SCHEMA: Final = pa.schema(
    [
        ("exam_id", pa.string()),
        ("eye", pa.string()),
        ("method", pa.string()),  # an explanation, or a floor: floor.random, floor.edges
        ("source", pa.string()),  # mask | found | field
        ("kind", pa.string()),  # of lesion, any lesion, optic disc, fovea; of the field: rim, outside
        ("area", pa.float64()),  # share of the field: what a map without information would give as energy and precision
        ("energy", pa.float64()),  # share of the positive attribution
        ("average_precision", pa.float64()),
        ("overlap", pa.float64()),  # intersection over union at equal area
        ("pointing", pa.float64()),  # 1: the hottest point lies on it
        ("lesions", pa.int64()),
        ("looked_at", pa.int64()),  # lesions that the hottest twentieth of the field reaches
    ]
)
"""`analysis/attention.parquet`: one row per map that is shown, and kind of mark."""
MEAN_MAPS_SCHEMA: Final = pa.schema(
    [
        ("method", pa.string()),
        ("grade", pa.int64()),  # of the eye; null: all eyes
        ("eyes", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("scale", pa.float64()),
        ("values", pa.binary()),
    ]
)
"""`analysis/mean_maps.parquet`: attention over eyes laid on each other's optic disc, left eyes mirrored; 1 is even."""
EYES_SCHEMA: Final = pa.schema(
    [
        ("measurement", pa.string()),
        ("exam_id", pa.string()),
        ("eye", pa.string()),
        ("icdr_grade", pa.int64()),
        ("grade_predicted", pa.int64()),
        ("p_referable", pa.float64()),
        ("p_referable_sd", pa.float64()),
        ("predictive_entropy", pa.float64()),
        ("mutual_information", pa.float64()),
        ("margin", pa.float64()),
        *[(f"p{grade}", pa.float64()) for grade in range(5)],
        ("p_referable_calibrated", pa.float64()),  # by the policy's calibration; null where nothing was fitted
        ("set_low", pa.int64()),  # the conformal set of grades, from the lowest to the highest
        ("set_high", pa.int64()),
        ("expected_entropy", pa.float64()),
        ("eye_disagreement", pa.float64()),
        *_UNLIKENESS,
        ("unlike_training", pa.bool_()),  # by the policy's scores and percentile; null where there is no reference
        ("flag", pa.string()),  # why the photograph is flagged before it is graded, or null
    ]
)
