"""What a clinician reads, and what a plan's hash is made of."""

import doctest

import pytest

from workbench.schema import words
from workbench.schema.files import canonical_hash
from workbench.schema.specs import FIRST_POLICY, PolicySpec
from workbench.schema.words import set_words


def test_examples_hold() -> None:
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0, "grade 0"),
        (3, 4, "grade 3 or 4"),
        (1, 4, "any grade from 1 to 4"),
        (0, 4, "cannot be narrowed down"),
        (None, None, "no answer"),
        (2, None, "no answer"),
    ],
)
def test_sets_of_grades_in_words(low: int | None, high: int | None, expected: str) -> None:
    assert set_words(low, high) == expected


def test_a_policy_of_before_keeps_its_hash_and_a_new_wish_changes_it() -> None:
    """A run that was begun before a field was there can be resumed: its default is not written down."""
    written = PolicySpec().model_dump(mode="json")
    assert tuple(written) == FIRST_POLICY
    assert PolicySpec.model_validate(written) == PolicySpec()
    wished = PolicySpec(conformal_coverage=0.95, calibration="none").model_dump(mode="json")
    assert set(wished) == {*FIRST_POLICY, "conformal_coverage", "calibration"}
    assert PolicySpec.model_validate(wished) == PolicySpec(conformal_coverage=0.95, calibration="none")
    assert canonical_hash(wished) != canonical_hash(written)
    assert set(PolicySpec().model_dump()) == set(PolicySpec.model_fields)
