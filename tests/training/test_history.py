import math

import pandas as pd

from workbench.training.history import learning_curve, write_history, write_learning_curve

HISTORY = [
    {"epoch": float(n), "train_loss": 2 / n, "validation_loss": 2.2 / n, "auc_referable": math.nan, "qwk": 0.1 * n}
    for n in (1, 2, 3)
]


def test_the_table_holds_every_epoch_and_an_empty_cell_for_what_was_not_assessed(tmp_path):
    write_history(HISTORY, tmp_path)
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table["epoch"]) == [1, 2, 3]
    assert table["auc_referable"].isna().all()
    assert list(table["qwk"]) == [0.1, 0.2, 0.3]


def test_the_picture_is_written_in_both_forms_and_draws_no_nan(tmp_path):
    write_learning_curve(HISTORY, 2, tmp_path)
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "learning_curve.svg").read_text()
    assert "NaN" not in picture
    assert "quadratic weighted kappa" in picture


def test_the_rule_stands_at_the_epoch_that_was_kept():
    chart = learning_curve(pd.DataFrame(HISTORY), 2).to_dict()
    rules = [panel["layer"][1]["data"]["values"] for panel in chart["hconcat"]]
    assert rules == [[{"epoch": 2}]] * 2
