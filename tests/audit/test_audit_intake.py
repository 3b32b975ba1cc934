"""An audit with a reference: unlikeness in the parts, flags, rows, and the policy that refers the unlike."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tests.audit.conftest import Small
from tests.small_audit import stored_bytes
from workbench.audit import layout, run_manifest, schemas
from workbench.audit.analysis import analyse
from workbench.audit.plan import all_units
from workbench.audit.results import Run, open_run
from workbench.audit.runner import run_audit
from workbench.models.checkpoint import load_model, model_hash
from workbench.schema.errors import WorkbenchError
from workbench.schema.manifest import read_manifest
from workbench.schema.specs import UNLIKE_SCORES
from workbench.uncertainty.flags import UNLIKE
from workbench.uncertainty.laterality import DiscSide
from workbench.uncertainty.laterality_check import BOTH, Laterality, Thresholds, write_laterality
from workbench.uncertainty.out_of_distribution import cutoff_of
from workbench.uncertainty.reference import REFERENCE, collect_reference, write_reference

OVERRIDES = ("explanations.methods=[]", "policy.unlike_training_percentile=20")


@pytest.fixture(scope="module")
def made(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, Run]:
    """The small cohort, a model with a reference of it and a network that flags every pair, and a finished audit."""
    from workbench.data.exams import open_exams

    root = tmp_path_factory.mktemp("intake")
    folder = shutil.copytree(small.model, root / "model")
    model, card = load_model(folder)
    exams = open_exams(read_manifest(small.manifest), card.preprocess, cache=small.manifest.parent / "cache")
    write_reference(collect_reference(model, exams, model_hash=model_hash(folder), manifest_hash=""), folder)
    write_laterality(Laterality(DiscSide().eval(), Thresholds(-1e9, 1e9, 1e9), {}), folder)
    own = Small(small.manifest, folder, root / "run")
    return own, run_audit(own.config(*OVERRIDES), own.run)


def test_every_measured_eye_has_its_scores_and_no_other(made: tuple[Small, Run]) -> None:
    _, run = made
    for name in ("clean", "noise@3"):
        part = pd.concat([run.part(name, chunk) for chunk in range(2)])
        done = part["status"] == "done"
        assert part.loc[done, list(UNLIKE_SCORES)].notna().all(axis=None)
        assert part.loc[~done, list(UNLIKE_SCORES)].isna().all(axis=None)
    answers = run.eye_answers()
    assert answers[["expected_entropy", *UNLIKE_SCORES]].notna().all(axis=None)
    alone = answers["exam_id"].isin(["e1", "e2"])
    assert answers.loc[alone, "eye_disagreement"].isna().all()
    assert answers.loc[~alone, "eye_disagreement"].notna().all()


def test_one_pass_of_the_model_judges_the_stressed_exams_and_tells_them_from_the_training_ones(
    made: tuple[Small, Run],
) -> None:
    from workbench.audit.preparation import open_bench
    from workbench.audit.units import measure

    own, run = made
    bench, _, _ = open_bench(own.config(*OVERRIDES))
    unit = next(one for one in all_units(run.manifest, list(run.exam_ids)) if one.measurement.id == "noise@3")
    stored = run.part("noise@3", unit.chunk)
    sizes: list[int] = []
    bench.model.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    rows = pd.DataFrame(measure(bench, unit))
    shown = sum(any(bench.photographed(index)) for index in range(len(unit.exam_ids)))
    assert sizes.count(shown) == 2, "the clean exams and the stressed ones, each once"
    np.testing.assert_array_equal(rows[list(UNLIKE_SCORES)].to_numpy(float), stored[list(UNLIKE_SCORES)])


def test_flags_say_why_and_are_those_of_the_held_out_eyes(made: tuple[Small, Run]) -> None:
    _, run = made
    held_out = layout.read_table(layout.reference_path(run.folder), schemas.HELD_OUT_SCHEMA)
    answers = run.eye_answers()
    cutoffs = {name: cutoff_of(held_out[name].to_numpy(dtype=float), 60.0) for name in ("appearance", "mahalanobis")}
    expected = (answers["appearance"] > cutoffs["appearance"]) | (answers["mahalanobis"] > cutoffs["mahalanobis"])
    assert answers["unlike_training"].tolist() == expected.tolist()
    pairs = ~answers["exam_id"].isin(["e1", "e2"])
    assert answers.loc[pairs, "flag"].str.startswith(BOTH).all()
    assert (answers["flag"].str.contains(UNLIKE, na=False) == expected).all()
    assert set(run.flags("e0")) == {"OD", "OS"}
    assert run.flags("e1").get("OS") is None


def test_rows_count_the_flagged_exams_and_tell_stressed_from_clean(made: tuple[Small, Run]) -> None:
    _, run = made
    rows, answers = run.rows(), run.eye_answers()
    worst = answers.groupby(["measurement", "exam_id"])[list(UNLIKE_SCORES)].max()
    for measurement in ("clean", "noise@3"):
        chosen = rows[(rows["measurement"] == measurement) & (rows["name"] == "unlike_training_rate")]
        assert set(chosen["of"].dropna()) == set(UNLIKE_SCORES)
        flagged = answers[answers["measurement"] == measurement].groupby("exam_id")["unlike_training"].any()
        assert chosen.loc[chosen["of"].isna(), "value"].iloc[0] == pytest.approx(flagged.astype(float).mean())
    told = rows[rows["name"] == "told_from_clean_auc"].set_index(["measurement", "of"])["value"]
    for name in UNLIKE_SCORES:
        after, before = worst.loc["noise@3", name], worst.loc["clean", name]
        slow = roc_auc_score([1] * len(after) + [0] * len(before), [*after, *before])
        assert told["noise@3", name] == pytest.approx(slow)
    turned = rows[rows["name"] == "intake_flagged_rate"]
    assert turned["measurement"].tolist() == ["clean"]
    assert turned["value"].iloc[0] == pytest.approx(4 / 6)


def test_the_run_names_what_it_was_measured_by(made: tuple[Small, Run]) -> None:
    small, run = made
    assert run.manifest.reference_sha256
    assert run.manifest.laterality_sha256
    plain = open_run(run.folder)
    assert plain.manifest.measurements[-1].kind == "intake"
    assert small.model.joinpath(REFERENCE).exists()


def test_the_policy_refers_the_unlike_and_says_so(made: tuple[Small, Run], tmp_path) -> None:
    _, run = made
    folder = shutil.copytree(run.folder, tmp_path / "run")
    policy = run.manifest.policy.model_copy(update={"refer_unlike_training": True})
    run_manifest.write_manifest(folder, run.manifest.model_copy(update={"policy": policy}))
    again = analyse(folder, resamples=20)
    clean = again.decisions().query("measurement == 'clean'").set_index("exam_id")
    flagged = again.eye_answers().query("measurement == 'clean'").groupby("exam_id")["unlike_training"].any()
    assert flagged.any()
    for exam_id, unlike in flagged.items():
        assert (UNLIKE in str(clean.loc[exam_id, "referred_why"])) == unlike
        assert clean.loc[exam_id, "referred"] or not unlike


def test_the_same_audit_gives_the_same_bytes(made: tuple[Small, Run], tmp_path) -> None:
    small, run = made
    run_audit(small.config(*OVERRIDES), tmp_path / "again")
    assert stored_bytes(tmp_path / "again") == stored_bytes(run.folder)


def test_another_reference_is_another_audit(made: tuple[Small, Run], tmp_path) -> None:
    small, run = made
    folder = shutil.copytree(small.model, tmp_path / "model")
    model, card = load_model(folder)
    from workbench.data.exams import open_exams

    exams = open_exams(read_manifest(small.manifest), card.preprocess, cache=small.manifest.parent / "cache")
    write_reference(collect_reference(model, exams, model_hash=model_hash(folder), manifest_hash="", eyes=3), folder)
    with pytest.raises(WorkbenchError, match="reference_sha256"):
        run_audit(Small(small.manifest, folder, run.folder).config(*OVERRIDES), run.folder)


@pytest.mark.parametrize(
    "override",
    ["policy.referral_score=energy", "policy.refer_unlike_training=true", "policy.referral_score=appearance"],
)
def test_a_policy_that_needs_a_reference_is_refused_without_one(small: Small, tmp_path, override) -> None:
    with pytest.raises(WorkbenchError, match=r"has no reference\.safetensors"):
        run_audit(small.config(override), tmp_path / "run")


def test_without_a_reference_nothing_is_flagged_and_nothing_is_claimed(small: Small) -> None:
    run = open_run(small.run)
    answers = run.eye_answers()
    assert answers[[*UNLIKE_SCORES, "unlike_training", "flag"]].isna().all(axis=None)
    assert answers["expected_entropy"].notna().all()
    assert not run.rows()["name"].isin(["unlike_training_rate", "told_from_clean_auc", "intake_flagged_rate"]).any()
    assert np.all([measurement.kind != "intake" for measurement in run.manifest.measurements])
