from __future__ import annotations

import base64
import io
import re

import altair
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.report.conftest import Written
from workbench.metrics.calibration import reliability_table
from workbench.report import chart_style, charts, uncertainty_charts
from workbench.report.drawing import inline_svg
from workbench.report.performance import confusion, far_off, judged_eyes
from workbench.report.pictures import AGAINST, FOR, NEUTRAL, diverging_colours, map_uri
from workbench.schema.grades import REFERABLE_GRADE

CHARTS = {
    "rates": charts.three_rates_chart,
    "stress": charts.stress_chart,
    "reliability": uncertainty_charts.reliability_chart,
    "referral": uncertainty_charts.referral_chart,
    "net_benefit": uncertainty_charts.net_benefit_chart,
}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_is_a_picture_in_either_theme(written: Written, name: str, dark: bool) -> None:
    chart = CHARTS[name](written.report.evidence.figures, dark=dark)
    svg = inline_svg(chart, name)
    assert svg.startswith("<svg")
    assert "NaN" not in svg
    assert "://" not in svg
    assert (chart_style.DARK if dark else chart_style.LIGHT)[0] in svg


def test_the_rates_that_are_drawn_are_those_of_the_rows(written: Written) -> None:
    data = charts.three_rates_chart(written.report.evidence.figures).to_dict()["datasets"]
    drawn = sorted(row["value"] for table in data.values() for row in table if "rate" in row)
    rows = written.run.rows()
    names = ["error_rate", "referral_rate", "silent_failure_rate"]
    wanted = rows[rows["name"].isin(names) & (rows["subgroup"] == "all")]["value"].dropna()
    assert np.allclose(drawn, sorted(100 * wanted))


def test_strength_zero_is_the_same_exams_clean(written: Written) -> None:
    data = charts._strengths(written.report.evidence.figures, "attack")
    rows = written.run.rows()
    clean = rows[(rows["measurement"] == "clean") & (rows["name"] == "error_rate") & (rows["subgroup"] == "all")]
    zero = data[(data["strength"] == 0) & (data["rate"] == "Error")]
    assert len(zero) == 2
    assert np.allclose(zero["value"], 100 * clean["value"].item())


def test_the_reliability_diagram_is_the_metric_s_own_table(written: Written) -> None:
    eyes = judged_eyes(written.run)
    truth = (eyes["icdr_grade"] >= REFERABLE_GRADE).to_numpy(dtype=bool)
    table = reliability_table(truth, eyes["p_referable"].to_numpy(dtype=float))
    drawn = uncertainty_charts.reliability_points(written.report.evidence.figures, "none")
    assert np.allclose(drawn["mean_p"], 100 * table.mean_p)
    assert np.allclose(drawn["value"], 100 * table.observed)
    assert drawn["n"].tolist() == table.n.tolist()


def test_the_confusion_matrix_counts_eyes_with_their_own_grade(written: Written) -> None:
    matrix = confusion(written.run)
    eyes = judged_eyes(written.run)
    assert matrix.sum() == len(eyes)
    assert np.trace(matrix) == (eyes["icdr_grade"] == eyes["grade_predicted"]).sum()
    off = (eyes["icdr_grade"] - eyes["grade_predicted"]).abs() >= 2
    assert far_off(matrix) == (int(off.sum()), len(eyes))


def test_ids_of_two_charts_never_meet() -> None:
    line = altair.Chart(pd.DataFrame({"x": [0, 1], "y": [0, 1]})).mark_line(clip=True).encode(x="x", y="y")
    one, other = inline_svg(line, "one"), inline_svg(line, "other")
    found = set(re.findall(r'id="([^"]+)"', one))
    assert found
    assert not found & set(re.findall(r'id="([^"]+)"', other))
    assert set(re.findall(r"url\(#([^)]+)\)", one)) <= found


def test_the_colours_of_a_map_run_from_against_over_neutral_to_for() -> None:
    colours = diverging_colours().astype(int)
    assert np.abs(colours[0] - AGAINST).max() <= 1
    assert np.abs(colours[-1] - FOR).max() <= 1
    assert np.abs(colours[127:129].mean(axis=0) - NEUTRAL).max() <= 2
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness[:128]) >= 0).all()
    assert (np.diff(lightness[128:]) <= 0).all()


def test_a_map_keeps_its_side_and_an_empty_one_stays_neutral() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (255, 255, 255)).save(buffer, "JPEG")
    values = np.zeros((32, 32), dtype=np.float32)
    values[:, :16], values[:, 16:] = 1, -1

    def pixels(uri: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)

    drawn = pixels(map_uri(buffer.getvalue(), values, 1.0))
    assert np.abs(drawn[16, 4] - FOR).max() < 12
    assert np.abs(drawn[16, 28] - AGAINST).max() < 12
    empty = pixels(map_uri(buffer.getvalue(), np.zeros((32, 32), dtype=np.float32), 0.0))
    assert np.abs(empty - NEUTRAL).max() < 6
