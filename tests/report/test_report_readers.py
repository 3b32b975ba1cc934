from __future__ import annotations

from workbench.report.readers import GRADERS, HUMAN, findings
from workbench.schema.reader_study import ReaderFigure, ReaderStudy

ALPHA = ReaderFigure(name="krippendorff_alpha_without", words="alpha", value=0.7, low=0.6, high=0.8, n=80, patients=20)
CHANGE = ReaderFigure(name="error_change", words="change", value=-0.1, low=-0.2, high=-0.05, n=40, patients=20)


def study(*figures: ReaderFigure, **more: object) -> ReaderStudy:
    return ReaderStudy(run_id="r", readers=("Reader 1", "Reader 2"), figures=figures, **more)  # type: ignore[arg-type]


def test_without_reads_the_items_stay_as_the_run_alone_states_them() -> None:
    assert findings(None) == {}
    assert findings(ReaderStudy(run_id="r")) == {}


def test_agreement_is_reported_with_what_it_lacks() -> None:
    found = findings(study(ALPHA, sentences={"agreement": ("Alpha 0.70.",)}))[GRADERS]
    assert found.status == "reported"
    assert found.words == "2 readers of this run. Alpha 0.70."
    assert "themselves" in found.lacking
    seen = findings(study(ALPHA.model_copy(update={"name": "krippendorff_alpha_with"})))[GRADERS]
    assert seen.status == "reported"
    assert "without the model" in seen.lacking
    twice = {"pairs of readers": ({"condition": "without the model, twice", "value": 0.8},)}
    assert findings(study(ALPHA, tables=twice))[GRADERS].lacking == ""


def test_human_with_ai_needs_reads_both_ways() -> None:
    why = {"reveal": "no exam was read both ways", "agreement": "1 reader: agreement needs two"}
    missing = findings(study(not_assessed=why))
    assert (missing[HUMAN].status, missing[HUMAN].words) == ("not assessed", why["reveal"])
    assert (missing[GRADERS].status, missing[GRADERS].words) == ("not assessed", why["agreement"])
    said = {"reveal": ("Error fell.",), "team": ("Better.",), "multi-reader": ("p = 0.02.",)}
    found = findings(study(CHANGE, sentences=said, not_assessed={"multi-reader roc_auc": "one class"}))[HUMAN]
    assert found.status == "reported"
    assert found.words == "Error fell. Better. p = 0.02."
    assert "multi-reader roc_auc (one class)" in found.lacking
