"""`workbench review readers`: what the readers did to the machine and the machine to the readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.review_database import DatabaseArgument, place_of
from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console


def readers(
    database: DatabaseArgument,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run that was read; DB itself when DB is a run's folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables (CSV, JSON) and exports for iMRMC and CoDoC.")
    ] = None,
    ungradable: Annotated[
        str, typer.Option(help="An eye that a reader calls ungradable: 'left-out' of the calls, or 'referable'.")
    ] = "left-out",
    resamples: Annotated[int, typer.Option(min=100, help="Behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
) -> None:
    """Say how far readers rely on the model, what its answer does to them, how they agree, and compare them.

    Readers stand under their pseudonyms, exams under numbers: what is written names nobody.

    Example: workbench review readers runs/demo --out runs/demo/readers
    """
    from workbench.audit.results import open_run
    from workbench.review.reader_exports import write_study
    from workbench.review.reader_study import stored_study

    if ungradable not in ("left-out", "referable"):
        raise WorkbenchError(f"--ungradable is {ungradable!r}", "it is 'left-out' or 'referable'")
    folder = run or Path(database)
    if not folder.is_dir():
        raise WorkbenchError(f"which run was read is not known: {folder} is no folder", "name it with --run RUN")
    study, tables = stored_study(
        place_of(database),
        open_run(folder),
        ungradable_is_referable=ungradable == "referable",
        resamples=resamples,
        seed=seed,
    )
    for section, said in study.sentences.items():
        console.print(f"[bold]{section.capitalize()}[/]", highlight=False)
        for sentence in said:
            console.print(f"  {sentence}", highlight=False, soft_wrap=True, markup=False)
    if out is not None:
        written = write_study(study, tables, out)
        console.print(f"wrote {len(written)} files to {out}", highlight=False, soft_wrap=True, markup=False)
