"""One kind of map as a plan asks for it: the method, what it explains, over how many draws; and its name in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from pydantic import Field, model_serializer, model_validator

from workbench.schema.config import Config

MUTUAL_INFORMATION: Final = "mutual_information"
"""The target that only several draws have."""

TOP: Final = 0.1
"""A pixel matters in a draw if it is among this share of the eye's pixels with the largest |map|."""

STABLE: Final = 0.9
"""Stable: it matters in at least this share of the draws; draws that know nothing of each other agree in `TOP`."""

FLICKERS: Final = 0.2
"""Flickers: it matters in at least this share of the draws, and is not stable."""

METHOD_WORDS: Final = {"integrated_gradients": "Integrated gradients", "grad_cam": "Grad-CAM", "layer_cam": "LayerCAM"}
TARGET_WORDS: Final = {
    "expected_grade": "the expected grade",
    "entropy": "what makes it unsure (entropy)",
    MUTUAL_INFORMATION: "what its draws contradict each other about (mutual information)",
}
SPEAKS_FOR: Final = {
    "expected_grade": "a higher grade",
    "entropy": "being unsure",
    MUTUAL_INFORMATION: "draws that disagree",
}
_KEY: Final = re.compile(r"(?P<name>\w+)(?:\.(?P<target>\w+?)(?=\.|$))?(?P<options>(?:\.\w+=[^=]+?)*)")
_DRAWS: Final = re.compile(r"\.(\d+)_draws$")


class MapSpec(Config):
    """Maps of one kind; in a configuration its method's name alone, or these fields."""

    name: str = Field(description="the method, e.g. integrated_gradients")
    target: str = Field("referable", description="referable, expected_grade, entropy, mutual_information, grade_3, ...")
    options: dict[str, float | int | bool | str] = Field(default_factory=dict, description="of the method")
    draws: int = Field(
        0, ge=0, le=255, description="0: of the model without draws; T: mean and steadiness over T draws"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _refuse_too_few_draws(self) -> MapSpec:
        if self.draws == 1 or (self.target == MUTUAL_INFORMATION and not self.draws):
            what = "one draw has no spread" if self.draws else f"{self.target} is of several draws"
            raise ValueError(f"{self.name}: {what}; give at least two, e.g. draws: 16")
        return self

    @model_serializer(mode="wrap", when_used="json")
    def _as_first_written(self, handler: Callable[[Any], Any]) -> Any:
        """Return the name alone where nothing else is said: a plan made before there was more keeps its hash."""
        return self.name if self == MapSpec(name=self.name) else handler(self)

    @property
    def key(self) -> str:
        """Name these maps wherever they are stored or counted.

        >>> MapSpec(name="grad_cam").key, MapSpec(name="grad_cam", target="entropy", draws=16).key
        ('grad_cam', 'grad_cam.entropy.16_draws')
        """
        target = "" if self.target == "referable" else f".{self.target}"
        options = "".join(f".{name}={self.options[name]}" for name in sorted(self.options))
        return self.name + target + options + (f".{self.draws}_draws" if self.draws else "")


def checked_as(key: str) -> str:
    """Return under which key these maps are checked: those of draws as the model's without draws.

    >>> checked_as("grad_cam.16_draws"), checked_as("grad_cam")
    ('grad_cam', 'grad_cam')
    """
    return _DRAWS.sub("", key)


def without_options(key: str) -> str:
    """Return what is explained and by which method, whatever its options and draws.

    >>> without_options("occlusion.stride=16.window=32"), without_options("grad_cam.entropy.16_draws")
    ('occlusion', 'grad_cam.entropy')
    """
    found = _KEY.fullmatch(checked_as(key))
    return key if found is None else ".".join(part for part in (found["name"], found["target"]) if part)


def map_words(key: str) -> str:
    """Return what a reader calls these maps.

    >>> map_words("smooth_grad"), map_words("grad_cam.grade_3_against_2.16_draws")
    ('Smooth grad', 'Grad-CAM of grade 3 against 2, mean of 16 draws')
    """
    drawn, found = _DRAWS.search(key), _KEY.fullmatch(checked_as(key))
    if found is None:
        return key.replace("_", " ")
    name, target, options = found["name"], found["target"], found["options"]
    words = METHOD_WORDS.get(name, name.replace("_", " ").capitalize())
    words += f" of {TARGET_WORDS.get(target, target.replace('_', ' '))}" if target else ""
    words += "".join(f", {option.replace('_', ' ')}" for option in re.split(r"\.(?=[a-z_]+=)", options) if option)
    if drawn is None:
        return words
    return f"{words}, {drawn[1]} draws" if target == MUTUAL_INFORMATION else f"{words}, mean of {drawn[1]} draws"


def speaks_for(key: str) -> str:
    """Return what a positive value of these maps speaks for.

    >>> speaks_for("grad_cam.16_draws"), speaks_for("grad_cam.entropy")
    ('referable', 'being unsure')
    """
    found = _KEY.fullmatch(checked_as(key))
    target = found["target"] if found is not None else None
    return "referable" if target is None else SPEAKS_FOR.get(target, target.replace("_", " "))
