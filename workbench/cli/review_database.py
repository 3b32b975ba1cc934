"""`workbench review verify|backup|restore|export|erase`: what an administrator does with the reviews."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

DatabaseArgument = Annotated[
    str, typer.Argument(metavar="DB", help="A run's folder, its reviews.sqlite, or postgresql://user@host/name.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="File of the pseudonym key; $WORKBENCH_PSEUDONYM_KEY or your own settings if not given."),
]


def verify(
    database: DatabaseArgument,
    head: Annotated[
        str | None, typer.Option(help="Hash of a last row that was written down before: it must still be in the trail.")
    ] = None,
) -> None:
    """Check the audit trail; the first row that was edited, deleted, moved or inserted is named (exit code 1).

    Example: workbench review verify runs/demo
    """
    from workbench.review.store import ReviewStore

    store = ReviewStore(place_of(database))
    verdict = store.verify()
    known = head is None or store.holds(head)
    store.close()
    if verdict.first_bad is not None:
        console.print(f"[bold red]broken[/] at row {verdict.first_bad} of {verdict.length}: {verdict.why}", style=None)
        raise typer.Exit(1)
    if not known:
        console.print(
            f"[bold red]broken[/]: no row has the hash {head}: this is not the trail that it was written from"
        )
        raise typer.Exit(1)
    typer.echo(f"whole: {verdict.length} rows, {verdict.erased} of them erased. The last row is {verdict.head}")


def backup(
    database: DatabaseArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="The backup: .jsonl or .jsonl.gz loads into SQLite and PostgreSQL, else a copy of the SQLite."
        ),
    ],
) -> None:
    """Write a backup while readers go on; its audit trail is checked first.

    Example: workbench review backup runs/demo --out reviews.jsonl.gz
    """
    from workbench.review.backup import back_up
    from workbench.review.database import Database

    opened = Database(place_of(database))
    verdict = back_up(opened, out)
    opened.close()
    typer.echo(f"{out}: {verdict.length} rows of the trail, all whole. The last row is {verdict.head}")


def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    into: Annotated[str, typer.Option(help="A new SQLite file, or an empty postgresql://user@host/name.")],
) -> None:
    """Load a backup into an empty database, wholly or not at all; this also moves from SQLite to PostgreSQL.

    Example: workbench review restore reviews.jsonl.gz --into postgresql://workbench@localhost/reviews
    """
    from workbench.review.backup import restore as load
    from workbench.review.database import Database

    opened = Database(place_of(into, new=True))
    verdict = load(file, opened)
    opened.close()
    typer.echo(f"restored: {verdict.length} rows of the trail, all whole. The last row is {verdict.head}")


def export(
    database: DatabaseArgument,
    out: Annotated[Path, typer.Option(help="A .csv or .json file; a folder gets one DICOM SR per submission.")],
    run: Annotated[str | None, typer.Option(help="Id of one run; all if not given.")] = None,
    history: Annotated[bool, typer.Option(help="Superseded reads too.")] = False,
    show_identifiers: Annotated[
        bool, typer.Option("--show-identifiers", help="True ids, names and notes instead of pseudonyms.")
    ] = False,
    key: KeyOption = None,
    by: Annotated[str | None, typer.Option(help="Who exports; this machine's user if not given.")] = None,
) -> None:
    """Write the reads for others, under pseudonyms, without free text; the export is noted in the audit trail.

    Example: workbench review export runs/demo --out reads.csv
    """
    from workbench.review.exports import export_reads
    from workbench.review.pseudonyms import Pseudonyms
    from workbench.review.store import ReviewStore

    store = ReviewStore(place_of(database))
    names = Pseudonyms.open(key)
    who = by or this_user()
    count = export_reads(store, out, names, by=who, run_id=run, history=history, identifiers=show_identifiers)
    store.close()
    typer.echo(f"{out}: {count} reads, {'with identifiers' if show_identifiers else 'under pseudonyms'}")


def erase(
    database: DatabaseArgument,
    patient: Annotated[str, typer.Argument(help="The patient's id, or pseudonym.")],
    exports: Annotated[
        list[Path] | None, typer.Option(help="Folder that holds copies of exports; may be given several times.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of caches of prepared photographs; all are deleted.")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Run whose pages show the patient, besides one that is named as the database."),
    ] = None,
    key: KeyOption = None,
    by: Annotated[str | None, typer.Option(help="Who erases; this machine's user if not given.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a patient from the database, its exports, the worklist and the caches; the audit trail still verifies.

    A patient whom nobody has read goes from the worklist of the run. An app that is open notices by itself.
    Backups, the tables of runs and the photographs themselves are not touched: delete them where they lie.

    Example: workbench review erase runs/demo patient-017
    """
    from workbench.review.database import Database
    from workbench.review.erasure import drop_caches, erase_patient
    from workbench.review.pseudonyms import Pseudonyms

    if not yes:
        typer.confirm("Erase all that was read of this patient? It cannot be brought back", abort=True)
    shown_in = [folder for folder in (Path(database), *(runs or ())) if (folder / "run.json").is_file()]
    opened = Database(place_of(database, new=Path(database) in shown_in))  # where nobody has read yet, it is noted too
    names = Pseudonyms.open(key)
    gone = erase_patient(opened, patient, names, by=by or this_user(), folders=exports or (), runs=shown_in)
    opened.close()
    typer.echo(f"erased: {gone.events} rows of the trail on {len(gone.exams)} exams; {len(gone.files)} exports cleaned")
    for file in gone.missing:
        typer.echo(f"an export is no longer where it was written, clean its copies: {file}")
    if cache is not None:
        typer.echo(f"{drop_caches(cache)} caches deleted; they are made again when needed")
    for folder in shown_in:
        typer.echo(f"no longer on any page of {folder}, nor in an app that is open on it")
    typer.echo("Not touched: backups, the photographs, and the tables of runs that were made with them")


def place_of(text: str, *, new: bool = False) -> Path | str:
    """Return the database that was meant: a URL, a file, or the one in a run's folder.

    Raises:
        WorkbenchError: there is no such file, and none is to be made.
    """
    if "://" in text:
        return text
    path = Path(text)
    file = path / "reviews.sqlite" if path.is_dir() else path
    if not new and not file.is_file():
        raise WorkbenchError(f"no reviews at {file}", "name a run's folder, its reviews.sqlite, or a database's URL")
    return file


def this_user() -> str:
    """Return the name under which this machine knows its user."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user entry
        return "unknown"
