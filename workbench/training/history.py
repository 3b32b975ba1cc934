"""What each epoch reached: `history.csv` and the learning curve."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import altair as alt
import pandas as pd
import vl_convert

from workbench.schema.files import atomic_path, write_text

PANELS: Final = {
    "loss": {"train_loss": "training", "validation_loss": "validation"},
    "validation": {"auc_referable": "AUC of referable disease", "qwk": "quadratic weighted kappa"},
}
"""What is drawn: a panel's title, and its columns with their names."""

COLOURS: Final = ("#4c78a8", "#e45756", "#54a24b", "#b279a2")


def write_history(history: list[dict[str, float]], folder: Path) -> None:
    """Write ``history.csv``, one row per epoch; an empty cell is a figure that could not be assessed."""
    buffer = io.StringIO()
    pd.DataFrame(history).to_csv(buffer, index=False, float_format="%.6g")
    write_text(folder / "history.csv", buffer.getvalue())


def write_learning_curve(history: list[dict[str, float]], best_epoch: int, folder: Path) -> None:
    """Draw ``learning_curve.png`` and ``.svg``: losses on the left, validation figures on the right."""
    specification = learning_curve(pd.DataFrame(history), best_epoch).to_dict()
    with atomic_path(folder / "learning_curve.png") as temporary:
        temporary.write_bytes(vl_convert.vegalite_to_png(specification, scale=2))
    write_text(folder / "learning_curve.svg", vl_convert.vegalite_to_svg(specification))


def learning_curve(table: pd.DataFrame, best_epoch: int) -> alt.HConcatChart:
    """Return the chart of a history; a dashed rule stands at the epoch whose weights were kept."""
    panels = [_panel(table, title, columns, best_epoch) for title, columns in PANELS.items()]
    return alt.hconcat(*panels).resolve_scale(color="independent")


def _panel(table: pd.DataFrame, title: str, columns: dict[str, str], best_epoch: int) -> alt.LayerChart:
    long = table.rename(columns=columns).melt("epoch", list(columns.values()), "what", "value").dropna()
    first = 0 if title == "loss" else 2
    colour = alt.Color("what:N", title=None, sort=list(columns.values())).scale(
        domain=list(columns.values()), range=list(COLOURS[first : first + 2])
    )
    zero = title != "loss"
    lines = (
        alt.Chart(_records(long))
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("value:Q", title=title).scale(zero=zero),
            color=colour.legend(orient="bottom"),
        )
    )
    rule = alt.Chart(_records(pd.DataFrame({"epoch": [best_epoch]}))).mark_rule(strokeDash=[4, 4], color="#888")
    return alt.layer(lines, rule.encode(x="epoch:Q")).properties(width=340, height=220)


def _records(table: pd.DataFrame) -> Any:
    return alt.Data(values=table.to_dict(orient="records"))
