"""`workbench model`: what is kept beside a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="What stands beside a trained model: the checks of photographs before they are graded.",
)


@app.callback()
def _group() -> None:
    """Let the group stand with one command only."""


@app.command("reference", no_args_is_help=True)
def reference(
    model: Annotated[Path, typer.Argument(help="the model's folder")],
    data: Annotated[Path, typer.Option(help="the manifest that it was trained on, or its folder")],
    split: Annotated[str, typer.Option(help="the split that it learned from")] = "train",
    cache: Annotated[Path | None, typer.Option(help="prepared pixels; default: 'cache' beside the manifest")] = None,
    eyes: Annotated[int, typer.Option(min=4, help="of the reference, at most; half are kept for percentiles")] = 1024,
) -> None:
    """Keep what the model made of some training eyes, and learn on which side the optic disc is.

    Writes reference.safetensors and intake.safetensors beside the weights. With them an audit measures how unlike the
    training photographs each eye is, and [bold]workbench data check[/] flags what should not be graded.
    [bold]workbench train[/] does this by itself.

    [bold]Example[/]: workbench model reference runs/eyepacs256 --data data/eyepacs
    """
    from workbench.uncertainty.intake import make_intake

    made = make_intake(model, data, cache=cache, split=split, eyes=eyes)
    if made.meter is not None:
        held_out = len(made.meter.held_out["energy"])
        console.print(f"reference.safetensors: features of {made.meter.reader.layer!r}, {held_out} eyes held out")
    if made.laterality is not None:
        console.print(f"intake.safetensors: {made.laterality.told()}", soft_wrap=True, highlight=False)
    console.print(f"Next: [bold]workbench data check FOLDER --model {model}[/]", soft_wrap=True)


def add_reference(model: Path, data: Path, cache: Path | None) -> None:
    """Do the same for a model that was just trained, unless it is there; a cohort too small for it is only told."""
    from workbench.models.checkpoint import read_card

    if read_card(model).provenance.reference_sha256:
        return
    try:
        reference(model, data, cache=cache)
    except WorkbenchError as error:
        console.print(f"[yellow]no checks before grading[/] {error}", soft_wrap=True, highlight=False)
