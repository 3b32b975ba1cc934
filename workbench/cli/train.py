"""`workbench train`: photographs with grades become a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_command(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="a YAML file; a name such as 'eyepacs256' is found in configs/train/"),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="fields to change, e.g. train.epochs=3")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the model; without it the config's 'out'")] = None,
    intake: Annotated[
        bool, typer.Option("--intake/--no-intake", help="then keep what checks photographs before they are graded")
    ] = True,
) -> None:
    """Train a paired-eye model; a second call continues exactly where the first one stopped.

    The folder then holds weights.safetensors and model.json, history.csv, learning_curve.png and TensorBoard logs, and
    reference.safetensors and intake.safetensors (see 'workbench model reference').

    [bold]Example[/]:

    workbench train configs/train/eyepacs256.yaml train.epochs=3 --out runs/quick
    """
    from workbench.schema.config import load_config
    from workbench.schema.progress import console
    from workbench.training.config import TrainConfig

    settings = load_config(TrainConfig, _find(config), overrides or ())
    folder = out or settings.out

    from workbench.cli.defence import defence_of  # brings torch: only after the configuration has proved right
    from workbench.training.loop import train

    train(settings, folder, defence_of(settings))
    console.print(f"wrote {folder}: weights.safetensors, model.json, history.csv, learning_curve.png", soft_wrap=True)
    if intake:
        from workbench.cli.model import add_reference

        add_reference(folder, settings.data.manifest, settings.data.cache)
    console.print(
        f"Next: [bold]workbench audit --model {folder} --data {settings.data.manifest} --split test[/]"
        f"   (or: tensorboard --logdir {folder / 'tensorboard'})",
        soft_wrap=True,
    )


def _find(config: Path) -> Path:
    """Return the file itself, or the one of that name that ships with the package."""
    if config.is_file():
        return config
    from workbench.schema.bundled import bundled

    shipped = bundled("configs") / "train"
    matches = [shipped / config.name, shipped / f"{config.name}.yaml"] if config.parent.name in ("", "train") else []
    return next((match for match in matches if match.is_file()), config)
