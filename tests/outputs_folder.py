"""Two small files as somebody else's model might leave them: outputs and labels of invented patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

GRADES = 5


def invented(patients: int = 30, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return outputs (image, p0 to p4) and labels (image, level, quality, site, age) of patients with two eyes."""
    generator = np.random.default_rng(seed)
    outputs, labels = [], []
    for number in range(patients):
        grades = generator.choice(GRADES, 2, p=[0.4, 0.15, 0.25, 0.1, 0.1])
        if number % 3:
            grades[1] = grades[0]
        for side, grade in zip(("left", "right"), grades, strict=True):
            logits = generator.normal(0, 1.2, GRADES)
            logits[grade] += 2
            p = np.exp(logits) / np.exp(logits).sum()
            image = f"{100 + number}_{side}"
            outputs.append({"image": image} | {f"p{grade}": value for grade, value in enumerate(p)})
            about = {"quality": number % 3, "site": ("north", "south")[number % 2], "age": 40 + number}
            labels.append({"image": image, "level": int(grade), **about})
    return pd.DataFrame(outputs), pd.DataFrame(labels)


def write_outputs(folder: Path, patients: int = 30, seed: int = 0) -> tuple[Path, Path]:
    """Write both files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "predictions.csv", folder / "labels.csv"
    for table, path in zip(invented(patients, seed), paths, strict=True):
        table.to_csv(path, index=False)
    return paths
