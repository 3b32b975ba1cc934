"""`workbench lesions`: an experimental detector of lesions, to hold a model's maps against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="An experimental lesion detector: train it on masks, test it on others.", no_args_is_help=True)


@app.command("train", no_args_is_help=True)
def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="a YAML file, see configs/lesions/")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="fields to change, e.g. steps=600")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the detector; without it the config's 'out'")] = None,
) -> None:
    """Train a small U-Net on lesion masks; the folder then holds weights.safetensors and lesions.json.

    [bold]Example[/]:

    workbench lesions train configs/lesions/synthetic.yaml steps=600
    """
    from workbench.schema.config import load_config
    from workbench.schema.progress import console
    from workbench.training.lesions import LesionTrainConfig, train_detector

    settings = load_config(LesionTrainConfig, config, overrides or ())
    folder = out or settings.out
    train_detector(settings, folder)
    console.print(f"wrote {folder}: weights.safetensors, lesions.json", soft_wrap=True)
    console.print(f"Next: [bold]workbench lesions test {folder} --data data/idrid[/]", soft_wrap=True)


@app.command("test", no_args_is_help=True)
def measure(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="its folder")],
    data: Annotated[Path, typer.Option(help="manifest.csv with mask_path, or its folder")],
    split: Annotated[str, typer.Option(help="train, validation, test")] = "test",
) -> None:
    """Measure a detector against masks it was not trained on, and keep the figures in its card.

    [bold]Example[/]:

    workbench lesions test runs/lesions --data data/idrid
    """
    from rich.table import Table

    from workbench.models.lesion_net import load_detector, save_detector
    from workbench.schema.lesions import SOUGHT
    from workbench.schema.progress import console
    from workbench.training.lesion_test import FIGURES, measure_detector

    loaded = load_detector(detector)
    tested = measure_detector(loaded, data, split)
    save_detector(
        loaded.model, loaded.card.model_copy(update={"tested_on": tested.on, "figures": tested.values}), detector
    )
    table = Table("kind", *FIGURES.values(), title=f"{tested.on}: {tested.photographs} photographs")
    for kind in SOUGHT:
        table.add_row(kind, *(tested.words(kind, name) for name in FIGURES))
    console.print(table)
    for reason in tested.left_out:
        console.print(f"left out: {reason}", soft_wrap=True, highlight=False)
