"""`workbench report`: a finished run becomes one page and one file of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.schema.progress import console


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, made by 'workbench audit'.")],
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another run to set beside it: the same model on another set, or another model on the same exams. "
            "May be given several times: models on the same exams stand side by side, clean and under every stress.",
            metavar="OTHER_RUN",
        ),
    ] = None,
    cases: Annotated[
        bool, typer.Option("--cases/--no-cases", help="Show single exams; without, a copy that may be passed on.")
    ] = True,
    reviews: Annotated[
        str | None,
        typer.Option(help="Database of the readers' reads of RUN; RUN/reviews.sqlite if there is one.", metavar="DB"),
    ] = None,
    note: Annotated[
        str | None,
        typer.Option(help="A reviewer's own words on the attacks' figures; kept in RUN and shown beside their grade."),
    ] = None,
) -> None:
    """Write RUN/report.html, one page that fetches nothing from elsewhere, and RUN/report.json with every figure.

    The page answers first: when this model is wrong, does it know? Then it goes through 30 items, each reported, not
    assessed (why) or not applicable (why). A second call writes both files again.

    [bold]Example[/]:

    workbench report runs/eyepacs256/audit

    workbench report runs/eyepacs256/audit --compare runs/eyepacs256/audit-odir5k
    """
    from workbench.report.write import write_report

    page = write_report(run, tuple(compare or ()), cases=cases, readers=_readers(run, reviews), note=note)
    console.print(f"wrote {page} and {page.with_suffix('.json').name}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"Next: workbench review {run}", highlight=False, soft_wrap=True, markup=False)


def _readers(run: Path, reviews: str | None) -> Any:
    """Return the study of the stored reads, None where there are none."""
    from workbench.audit.results import open_run
    from workbench.cli.review_database import place_of
    from workbench.review.reader_study import stored_study

    if reviews is None and not (run / "reviews.sqlite").is_file():
        return None
    return stored_study(place_of(reviews or str(run)), open_run(run))[0]
