from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.report.conftest import Written
from workbench.report.figures import Figure, Figures
from workbench.report.uncertainty import KEPT, _at, _referral_sentences, short
from workbench.schema.words import SCORE_NAMES


class Invented(Figures):
    """Figures of no run."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._figures = list(figures)
        self._found = {(one.name, one.measurement, one.subgroup, one.at, one.of): one for one in figures}


def figure(
    name: str, value: float | None, low: float | None, high: float | None, at: float | None, of: str | None = None
) -> Figure:
    return Figure(name, value, low, high, 100, 50, None if value is not None else "not in this run", None, at=at, of=of)


def referral(gain: tuple[float, float, float]) -> list[str]:
    figures = [
        figure("auc_at_retained", 0.8, 0.7, 0.9, 1.0),
        figure("auc_at_retained", 0.8 + gain[0], 0.7, 0.95, 0.7998),
        figure("auc_at_retained", 0.8, 0.75, 0.85, KEPT, "random"),
        figure("auc_gain_over_random", *gain, KEPT),
        figure("error_rate_at_retained", 0.1, 0.05, 0.15, 0.7998),
        figure("error_rate_at_retained", 0.2, 0.18, 0.22, KEPT, "random"),
        figure("error_rate_at_retained", 0.0, None, None, KEPT, "oracle"),
    ]
    return _referral_sentences(Invented(figures), "margin")


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ((0.05, 0.01, 0.09), "raises the AUC"),
        ((-0.05, -0.09, -0.01), "lowers the AUC"),
        ((0.01, -0.01, 0.03), "no more than chance"),
    ],
)
def test_the_verdict_on_referral_is_what_the_interval_allows(gain: tuple[float, float, float], verdict: str) -> None:
    sentences = referral(gain)
    assert verdict in sentences[0]
    assert "10.0 % (5.0–15.0)" in sentences[1]
    assert "20.0 %" in sentences[1]
    assert any("read the two figures together" in one for one in sentences) == (gain[2] < 0)


def test_a_point_of_a_curve_is_found_though_ties_moved_it() -> None:
    figures = Invented([figure("auc_at_retained", value, None, None, at) for value, at in ((0.6, 0.79), (0.7, 0.801))])
    assert _at(figures, "auc_at_retained", 0.8).value == 0.7
    assert _at(figures, "auc_at_retained", 0.5).value is None


def test_a_cell_holds_the_value_and_its_interval_or_a_dash() -> None:
    assert short(figure("aurc", 0.5, 0.25, 0.75, None)) == ("0.500", "0.250–0.750")
    assert short(figure("auc_gain_over_random", -0.05, -0.1, 0.0, None)) == ("−0.050", "−0.100 to 0.000")
    assert short(figure("aurc", None, None, None, None)) == ("–", "")


def test_the_tables_hold_what_the_rows_hold(written: Written) -> None:
    told = written.report.evidence.uncertainty
    rows = written.run.rows()
    rows = rows[(rows["measurement"] == "clean") & (rows["subgroup"] == "all")]
    for line in told.scores:
        name = next(key for key, words in SCORE_NAMES.items() if words == line.words)
        wanted = rows[(rows["name"] == "aurc") & (rows["of"] == name)]["value"].item()
        drawn = next(one.value for one in line.figures if one.name == "aurc")
        assert drawn is not None
        assert np.isclose(drawn, wanted)
    assert [line.chosen for line in told.scores].count(True) == 1
    assert len(told.calibrations) == 5


def test_every_sentence_and_table_is_on_the_page(written: Written) -> None:
    start = written.page.index('id="uncertainty"')
    section = written.page[start : written.page.index("</section>", start)]
    for line in (*written.report.evidence.uncertainty.calibrations, *written.report.evidence.uncertainty.sets):
        assert line.words in section
    assert "None" not in section
    assert "nan" not in section.lower()
