"""What each method's maps showed under every check, and whether the gate lets them through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.audit.results import Run, maps_id, trust_id
from workbench.report.figures import Figure, Figures
from workbench.schema.credibility import Outcome
from workbench.schema.maps import checked_as, map_words
from workbench.schema.specs import MapPolicySpec

CHECKS: Final = {
    "map_withheld_rate": "Withheld",
    "map_randomised_likeness": "Like the map of a network with random weights (1: the model plays no part)",
    "map_unlearned_likeness": "Like the map of a network trained on permuted labels",
    "map_deletion_gain": "Deletion, above random (0: chance)",
    "map_insertion_gain": "Insertion, above random",
    "map_road_gain": "ROAD, above random",
    "map_infidelity": "Infidelity (share of the answer's response that the map does not foretell)",
    "map_repeatability": "Stays under a camera's noise (rank correlation)",
    "map_max_sensitivity": "Largest relative change under that noise",
    "map_rephotograph_likeness": "Stays in a second, simulated photograph",
    "map_corruption_likeness": "Stays under JPEG at severity 3",
    "map_attack_likeness": "Stays under an attack on the map, the answer kept",
    "map_outside_share": "Outside the disc, share of the map",
    "map_border_share": "On the disc's rim, share of the map",
}


@dataclass(frozen=True)
class MapChecks:
    """The table: methods as columns, checks as rows, and why a whole method is withheld."""

    methods: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Figure, ...]], ...]
    refused: tuple[tuple[str, str], ...]


def map_checks(run: Run, figures: Figures) -> MapChecks | None:
    """Return the table, or None where no method was checked."""
    methods = run.methods()
    if all(measurement.kind != "map_trust" for measurement in run.manifest.measurements):
        return None
    found = {name: tuple(_figure(figures, name, method) for method in methods) for name in CHECKS}
    rows = ((CHECKS[name], row) for name, row in found.items() if any(one.value is not None for one in row))
    words = {method: map_words(method) for method in methods}
    refused = tuple((words[method], why) for method, why in run.summary.maps_withheld.items() if method in words)
    return MapChecks(tuple(words.values()), tuple(rows), refused)


def _figure(figures: Figures, name: str, method: str) -> Figure:
    of_maps = name in ("map_withheld_rate", "map_outside_share")
    if of_maps:
        return figures.get(name, maps_id(method), of=method)
    return figures.get(name, trust_id(checked_as(method)), of=checked_as(method))


def maps_that_are_shown(run: Run, figures: Figures) -> tuple[Outcome, str]:
    """Return whether each method that shows maps repeats them and depends on the weights, by the default thresholds.

    A run's own policy may let more through; that is what this check is about.
    """
    usual = MapPolicySpec.model_validate({})
    methods = [method for method in run.methods() if method not in run.summary.maps_withheld]
    if not methods:
        return "not applicable", "no method shows a map"
    told, beyond = [], []
    for method in methods:
        likeness, repeats = (
            figures.get(name, trust_id(checked_as(method)), of=checked_as(method)).value
            for name in ("map_randomised_likeness", "map_repeatability")
        )
        if likeness is None or repeats is None:
            return "not run", f"{method} was not checked: explanations.trust_exams above 0 does it"
        told.append(f"{method}: like random weights {likeness:.2f}, repeats {repeats:.2f}")
        if likeness > (usual.max_randomised_likeness or 1) or repeats < (usual.min_repeatability or 0):
            beyond.append(method)
    gap = run.manifest.policy.maps.max_completeness_gap
    if gap is None or gap > (usual.max_completeness_gap or 1):
        beyond.append("the policy shows incomplete maps")
    return ("failed" if beyond else "passed"), "; ".join([*beyond, *told])
