"""`workbench handover`: learn which cases to hand to a reader, and report what that does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

app = typer.Typer(
    no_args_is_help=True,
    help="Learn which cases to hand to a reader, and report team against reader against model.\n\n"
    "A table has one row per case and the columns y_true (0 or 1), y_model (0 to 1) and reader_score (0 or 1), as "
    "CoDoC's tables do; patient_id, uncertainty and split (tune or else) are used where they are there.",
)
TableArgument = Annotated[Path, typer.Argument(help="CSV, TSV or Parquet: y_true, y_model, reader_score.")]


@app.command("fit", no_args_is_help=True)
def fit(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Where the rule is written, e.g. rule.json.")],
    by: Annotated[
        Literal["y_model", "uncertainty"],
        typer.Option(help="Hand over by the region of the model's score (CoDoC), or above an uncertainty."),
    ] = "y_model",
    objective: Annotated[
        Literal["specificity", "sensitivity"], typer.Option(help="What is made as large as can be.")
    ] = "specificity",
    keep_sensitivity: Annotated[
        float, typer.Option(min=0, max=2, help="Times the reader's own sensitivity: the least the team must have.")
    ] = 1.0,
    keep_specificity: Annotated[
        float, typer.Option(min=0, max=2, help="Times the reader's own specificity: the least the team must have.")
    ] = 1.0,
    most_handed_over: Annotated[
        float, typer.Option(min=0, max=1, help="Share of cases for the reader, at most.")
    ] = 0.5,
    regions: Annotated[int, typer.Option(min=1, help="Regions of the score for the reader, at most.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the halving of the patients, where the table has no split.")] = 0,
) -> None:
    """Learn a rule from TABLE: half of its patients teach what each region gains, the others choose among the rules.

    A column 'split' says which half is which: 'tune' teaches. Evaluate the rule on other cases, with 'report'.

    [bold]Example[/]:

    workbench handover fit cases.csv --out rule.json --objective sensitivity
    """
    from workbench.audit.handover_table import read_handover_table
    from workbench.report.handover import rule_words
    from workbench.schema.files import sha256_file, write_text
    from workbench.uncertainty.handover import HandoverSearch, fit_cutoff, fit_rule, halves

    read = read_handover_table(table)
    tuning = halves(read.patients, seed) if read.tuning is None else read.tuning
    if tuning.all() or not tuning.any():
        raise WorkbenchError(f"{table.name}: its split leaves one half empty", "write 'tune' for some rows only")
    search = HandoverSearch(
        objective=objective,
        keep_sensitivity=keep_sensitivity,
        keep_specificity=keep_specificity,
        most_handed_over=most_handed_over,
        most_regions=regions,
    )
    patients = len(set(read.patients.tolist())) if read.patients_known else None
    known = {"cases": len(tuning), "patients": patients, "table_sha256": sha256_file(table)}
    find = fit_cutoff if by == "uncertainty" else fit_rule
    rule = find(read.cases.at(tuning), read.cases.at(~tuning), search, known)
    write_text(out, rule.model_dump_json(indent=2) + "\n")
    console.print(rule_words(rule), highlight=False, soft_wrap=True, markup=False)
    line = f"wrote {out}; next: workbench handover report {out} OTHER_CASES --out FOLDER"
    console.print(line, highlight=False, soft_wrap=True, markup=False)


@app.command("report", no_args_is_help=True)
def report(
    rule: Annotated[Path, typer.Argument(help="A rule, made by 'workbench handover fit'.")],
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Folder for handover.html, .md, .csv and .json.")],
    resamples: Annotated[int, typer.Option(min=100, help="Of patients, behind each interval.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    photograph_cost: Annotated[float, typer.Option(min=0, help="One case's photographs, any currency.")] = 0.0,
    grade_cost: Annotated[float, typer.Option(min=0, help="A human reading one case.")] = 0.0,
    missed_cost: Annotated[float, typer.Option(min=0, help="A missed case, if you count it.")] = 0.0,
) -> None:
    """Report team against reader alone against model alone on TABLE, with intervals and paired differences.

    With a cost given, the cost per case found is reported too. A rule looks better on the table that it was learnt
    from: that table is refused.

    [bold]Example[/]:

    workbench handover report rule.json validation.csv --out handover --grade-cost 12 --photograph-cost 20
    """
    from workbench.audit.handover_table import read_handover_table, read_rule, unseen
    from workbench.metrics.costs import Costs
    from workbench.report.handover import write_handover
    from workbench.uncertainty.handover_effect import handover_effect

    learnt = read_rule(rule)
    read = unseen(read_handover_table(table), table, learnt)
    any_cost = photograph_cost or grade_cost or missed_cost
    costs = Costs(photograph=photograph_cost, human_grade=grade_cost, missed_case=missed_cost) if any_cost else None
    effect = handover_effect(
        learnt,
        read.cases,
        read.patients,
        patients_known=read.patients_known,
        costs=costs,
        resamples=resamples,
        seed=seed,
    )
    page = write_handover(learnt, effect, out, patients_known=read.patients_known)
    console.print(f"wrote {page} and its .md, .csv and .json", highlight=False, soft_wrap=True, markup=False)


@app.command("table", no_args_is_help=True)
def table_of(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, made by 'workbench audit'.")],
    readers: Annotated[Path, typer.Argument(help="CSV with exam_id and reader_score (0 or 1).")],
    out: Annotated[Path, typer.Option(help="Where the table is written, e.g. cases.csv.")],
) -> None:
    """Make a table of the exams of RUN that a reader has scored: truth, P(referable), reader, patient, uncertainty.

    [bold]Example[/]:

    workbench handover table runs/eyepacs256 reader.csv --out cases.csv
    """
    from workbench.audit.handover_table import table_of_run

    count = table_of_run(run, readers, out)
    console.print(f"wrote {out}: {count} exams", highlight=False, soft_wrap=True, markup=False)
    console.print(f"Next: workbench handover fit {out} --out rule.json", highlight=False, soft_wrap=True, markup=False)
