"""Splits by patient: shares, strata, order of rows, what is stated already."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.splits import complete_splits, split_by_patient
from workbench.schema.manifest import SPLITS


def cohort(grades: list[tuple[int | None, int | None]]) -> pd.DataFrame:
    rows = [
        {"patient_id": f"p{number}", "eye": eye, "icdr_grade": grade}
        for number, pair in enumerate(grades)
        for eye, grade in zip(("OD", "OS"), pair, strict=True)
    ]
    return pd.DataFrame(rows).astype({"patient_id": "string", "icdr_grade": "Int64"})


def random_cohort(patients: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    worse = rng.choice(5, patients, p=[0.735, 0.07, 0.15, 0.025, 0.02])
    return cohort([(int(grade), int(rng.integers(0, grade + 1))) for grade in worse])


def test_no_patient_is_in_two_splits() -> None:
    manifest = random_cohort(300, 1)
    split = split_by_patient(manifest)
    assert split.groupby(manifest["patient_id"]).nunique().max() == 1
    assert set(split) == set(SPLITS)


def test_shares_hold_in_all_and_in_each_grade() -> None:
    manifest = random_cohort(1000, 2)
    worse = manifest.groupby("patient_id")["icdr_grade"].max()
    split = split_by_patient(manifest).groupby(manifest["patient_id"]).first()
    for patients in [split.index, *(worse.index[worse == grade] for grade in range(5))]:
        for name, fraction in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
            assert abs((split[patients] == name).sum() - fraction * len(patients)) <= 2


def test_order_of_rows_does_not_matter() -> None:
    manifest = random_cohort(100, 3)
    shuffled = manifest.sample(frac=1, random_state=0)
    assert split_by_patient(shuffled).sort_index().equals(split_by_patient(manifest))


def test_the_seed_decides() -> None:
    manifest = random_cohort(100, 4)
    assert split_by_patient(manifest, seed=1).equals(split_by_patient(manifest, seed=1))
    assert not split_by_patient(manifest, seed=1).equals(split_by_patient(manifest, seed=2))


@pytest.mark.parametrize(("fractions", "expected"), [((0.0, 0.0, 1.0), {"test"}), ((1.0, 0.0, 0.0), {"train"})])
def test_a_share_of_nothing_stays_empty(fractions: tuple[float, float, float], expected: set[str]) -> None:
    assert set(split_by_patient(random_cohort(50, 5), fractions)) == expected


def test_a_patient_without_a_grade_is_split_too() -> None:
    manifest = cohort([(None, None)] * 10 + [(0, None)] * 10)
    assert split_by_patient(manifest).notna().all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, 0, 1, 2, 3, 4]), st.sampled_from([None, 0, 4])), min_size=1, max_size=40),
    st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.0, 0.5, 0.5)]),
)
def test_every_count_is_within_one_of_its_share(
    grades: list[tuple[int | None, int | None]], fractions: tuple[float, float, float]
) -> None:
    manifest = cohort(grades)
    split = split_by_patient(manifest, fractions).groupby(manifest["patient_id"]).first()
    for name, fraction in zip(SPLITS, fractions, strict=True):
        assert abs((split == name).sum() - fraction * len(grades)) <= 1 + 1e-9


def test_stated_splits_are_respected_and_completed() -> None:
    manifest = cohort([(0, 0), (1, 1), (2, 2)])
    manifest["split"] = pd.Series(["test", None, None, None, "train", "train"], dtype="string")
    complete = complete_splits(manifest, (0.0, 1.0, 0.0), seed=0)
    assert complete.tolist() == ["test", "test", "validation", "validation", "train", "train"]
