"""What each method's maps showed under every check, and whether the gate lets them through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.audit.results import Run, maps_id, trust_id
from workbench.report.figures import Figure, Figures
from workbench.schema.maps import checked_as, map_words

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
