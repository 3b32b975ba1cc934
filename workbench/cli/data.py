"""`workbench data`: import photographs, make a synthetic cohort, inspect a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from workbench.schema.errors import WorkbenchError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Photographs become a manifest: import a data set, make a synthetic one, inspect what is there.",
)


@app.command("import", no_args_is_help=True)
def import_photographs(
    layout: Annotated[
        str, typer.Argument(help="eyepacs, odir5k, idrid, csv or folder; a card in datasets/ describes each")
    ],
    images: Annotated[Path, typer.Option(help="folder of the photographs")],
    out: Annotated[Path, typer.Option(help="folder for manifest.csv and import.json")],
    labels: Annotated[Path | None, typer.Option(help="label table (CSV)")] = None,
    quality: Annotated[
        Path | None, typer.Option(help="eyepacs: table image,quality (0 good, 1 usable, 2 reject)")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="idrid, csv: folder of lesion masks")] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=COLUMN", help="csv: which column holds a field; repeatable")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="name of the data set")] = None,
    dataset_version: Annotated[str | None, typer.Option(help="its version")] = None,
    camera: Annotated[str | None, typer.Option(help="the camera of all photographs")] = None,
    site: Annotated[str | None, typer.Option(help="the place of all photographs")] = None,
    split_fractions: Annotated[
        str, typer.Option(help="shares of train,validation,test; 0,0,1 keeps all for testing")
    ] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(help="decides which patient goes to which split")] = 0,
    allow_conflicts: Annotated[
        bool, typer.Option("--allow-conflicts", help="keep photographs that contradict each other; it is recorded")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="threads that read files")] = None,
) -> None:
    """Import photographs into a manifest: hash each, look for conflicts, split by patient.

    Nothing is copied: the manifest names the files where they lie.
    What cannot be used is left out and told, with the reason; an eye without a certain grade stays ungraded.

    [bold]Example[/]:

    workbench data import eyepacs --images eyepacs/images --labels eyepacs/trainLabels.csv --out data/eyepacs

    [bold]Any table[/]:

    workbench data import csv --images photos --labels visits.csv --column image=file --column eye=side --out data/mine
    """
    from workbench.data.importers.record import require_output, write_import
    from workbench.data.importers.registry import layout_of
    from workbench.data.importers.result import ImportOptions

    values = {
        "quality": quality,
        "masks": masks,
        "columns": dict(map(_field_and_column, column or ())),
        "dataset": dataset,
        "dataset_version": dataset_version,
        "camera": camera,
        "site": site,
        "split_fractions": _fractions(split_fractions),
        "seed": seed,
        "allow_conflicts": allow_conflicts,
        "workers": workers,
    }
    require_output(out)
    options = ImportOptions.model_validate(values)
    result = layout_of(layout).read(images, labels, options)
    record = write_import(out, result, layout=layout, images=images, labels=labels, options=options)
    console = Console()
    _print_import(record, console, f"{layout}: {images}")
    console.print(f"Wrote {escape(str(out))}/manifest.csv and import.json", soft_wrap=True)
    console.print(f"Next: [bold]workbench data inspect {escape(str(out))}[/]", soft_wrap=True)


@app.command("synth")
def synthesise(
    out: Annotated[Path, typer.Option(help="folder for images/, masks/ and manifest.csv")],
    patients: Annotated[int, typer.Option(min=1, help="number of patients, two eyes each")] = 500,
    size: Annotated[int, typer.Option(min=32, max=2048, help="side of each photograph, pixels")] = 256,
    seed: Annotated[int, typer.Option(help="another seed makes other patients")] = 0,
    prevalence: Annotated[
        str, typer.Option(help="enriched: 43 % of the eyes referable; eyepacs: 19.5 %, as in screening")
    ] = "enriched",
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: the processors")] = None,
) -> None:
    """Make a synthetic cohort of fundus photographs with grades, lesion masks, age, camera and quality.

    The same seed makes the same files. No real patient is in it, so it may be shared (see datasets/synthetic.md).

    [bold]Example[/]: workbench data synth --patients 500 --size 256 --seed 1 --out data/synthetic
    """
    from workbench.data.importers.record import require_output
    from workbench.data.summary import summarise
    from workbench.data.summary_tables import print_summary
    from workbench.data.synthetic.cohort import write_cohort

    manifest = write_cohort(
        require_output(out), patients=patients, size=size, seed=seed, prevalence=prevalence, workers=workers
    )
    console = Console()
    print_summary(summarise(manifest), console, f"synthetic cohort, seed {seed}, {size} px")
    console.print(f"Wrote {escape(str(out))}/manifest.csv, images/, masks/ and the facts behind them", soft_wrap=True)
    console.print(f"Next: [bold]workbench data inspect {escape(str(out))}[/]", soft_wrap=True)


@app.command("inspect", no_args_is_help=True)
def inspect_manifest(
    manifest: Annotated[Path, typer.Argument(help="manifest.csv, or the folder that holds it")],
    check_hashes: Annotated[
        bool, typer.Option("--hash/--no-hash", help="read each photograph and compare its sha256")
    ] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="threads that read files")] = None,
) -> None:
    """Summarise a manifest and verify it: files there, bytes unchanged, no conflicts; exit code 1 if anything is wrong.

    [bold]Example[/]: workbench data inspect data/eyepacs
    """
    from workbench.data.importers.record import read_record
    from workbench.data.importers.result import Remark
    from workbench.data.summary import summarise, verify_files
    from workbench.data.summary_tables import print_remarks, print_summary
    from workbench.schema.manifest import BLOCKING, find_conflicts, manifest_hash, read_manifest

    table = read_manifest(manifest)
    folder = manifest if manifest.is_dir() else manifest.parent
    record = read_record(folder)
    console = Console()
    if record is None:
        print_summary(summarise(table), console, str(manifest))
    else:
        _print_import({**record, "summary": summarise(table)}, console, str(manifest))
        if record["manifest_hash"] != manifest_hash(table):
            console.print("The manifest was changed after the import.")
    faults = verify_files(table, hashes=check_hashes, workers=workers)
    conflicts = [conflict for conflict in find_conflicts(table) if conflict.kind in BLOCKING]
    print_remarks("Files", faults, console)
    print_remarks("Conflicts", [Remark(found.message, found.kind) for found in conflicts], console)
    if faults or conflicts:
        console.print(
            f"[bold red]{len(faults)} file(s) and {len(conflicts)} conflict(s) are wrong[/]: "
            "bring the files back, or import again"
        )
        raise typer.Exit(1)
    checked = "files there, bytes unchanged" if check_hashes else "files there, bytes not compared"
    console.print(f"[bold green]In order[/]: {checked}, no conflicts")


@app.command("check", no_args_is_help=True)
def check_photographs(
    folder: Annotated[Path, typer.Argument(help="folder of photographs")],
    model: Annotated[Path, typer.Option(help="the folder of the model that is to grade them")],
    out: Annotated[Path | None, typer.Option(help="also write the table as CSV")] = None,
) -> None:
    """Check photographs before a model grades them: each with its flag, or none; exit code 1 if any is flagged.

    Flagged is what is no fundus photograph, what is unlike the photographs that the model learned from, and what looks
    upside down or like the other eye. PATIENT_left and PATIENT_right (or OD, OS) are a pair.

    [bold]Example[/]: workbench data check incoming/ --model runs/eyepacs256
    """
    from rich.table import Table

    from workbench.schema.files import write_text
    from workbench.schema.specs import UNLIKE_SCORES
    from workbench.schema.words import SCORE_NAMES
    from workbench.uncertainty.intake import check_folder, open_intake

    found = check_folder(folder, open_intake(model))
    scores = [name for name in UNLIKE_SCORES if name in found]
    table = Table("photograph", "eye", "flag", *(SCORE_NAMES[name] for name in scores), caption=_OF_TRAINING)
    for row in found.to_dict("records"):
        percentiles = ["" if row[name] != row[name] else f"{row[name]:.0f}" for name in scores]
        flag = row["flag"] if isinstance(row["flag"], str) else "none"  # pandas turns None into NaN
        table.add_row(escape(row["photograph"]), row["eye"], escape(flag), *percentiles)
    Console().print(table)
    if out is not None:
        write_text(out, found.to_csv(index=False))
    flagged = int(found["flag"].notna().sum())
    Console().print(f"{flagged} of {len(found)} photographs are flagged")
    if flagged:
        raise typer.Exit(1)


_OF_TRAINING = "numbers: percentile among training photographs"


def _print_import(record: dict[str, Any], console: Console, title: str) -> None:
    from workbench.data.importers.result import Remark
    from workbench.data.summary_tables import print_remarks, print_summary

    print_summary(record["summary"], console, title)
    fate = "kept, as --allow-conflicts says" if record["conflicts_allowed"] else "unknown sides kept, the rest left out"
    conflicts = [Remark(found["message"], found["kind"]) for found in record["conflicts"]]
    print_remarks(f"Conflicts among what was listed ({fate})", conflicts, console)
    for title_of_part, name in (("Left out", "left_out"), ("Without a grade", "ungraded"), ("Remarks", "remarks")):
        print_remarks(title_of_part, [Remark(**entry) for entry in record[name]], console)


def _field_and_column(text: str) -> tuple[str, str]:
    field, equals, name = text.partition("=")
    if not (equals and field and name):
        raise WorkbenchError(f"--column {text!r} is not FIELD=COLUMN", "write for example --column image=filename")
    return field.strip(), name.strip()


def _fractions(text: str) -> tuple[float, ...]:
    remedy = "give train,validation,test, each 0 or more, with the sum 1, for example 0.7,0.1,0.2"
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise WorkbenchError(f"--split-fractions {text!r} are not numbers", remedy) from None
    if len(fractions) != 3 or not all(0 <= share <= 1 for share in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise WorkbenchError(f"--split-fractions {text!r} are not three shares of 1", remedy)
    return fractions
