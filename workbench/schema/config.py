"""One YAML file states a whole job; a field may be overridden; an unknown key names its nearest neighbour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.schema.errors import WorkbenchError, did_you_mean


class Config(BaseModel):
    """Base of every configuration: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(kind: type[ConfigT], path: Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """Read ``path`` as ``kind``, then apply overrides such as ``train.epochs=3``.

    Args:
        kind: the configuration's class.
        path: a YAML file, or None for the defaults alone.
        overrides: ``dotted.key=value``; the value is parsed as YAML.

    Raises:
        WorkbenchError: no such file, no valid YAML, an unknown key, a value of the wrong kind.
    """
    values = _read_yaml(path) if path is not None else {}
    for override in overrides:
        _apply(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explain(kind, error, source=str(path or "defaults")) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkbenchError(f"no configuration at {path}", "check the path; configs/ holds examples") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise WorkbenchError(f"{path} is not valid YAML: {line}", "mend the file at that place") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise WorkbenchError(f"{path} holds {type(loaded).__name__}, not keys and values", "write 'key: value'")
    return loaded


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise WorkbenchError(f"override {override!r} has no '='", "write it as section.key=value")
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise WorkbenchError(f"override {override!r}: {parent!r} is a value, not a section", "check the key")
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise WorkbenchError(f"override {override!r} has an unreadable value", "quote it as YAML") from None


def _explain(kind: type[BaseModel], error: ValidationError, source: str) -> WorkbenchError:
    first = error.errors()[0]
    dotted = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        remedy = did_you_mean(dotted, sorted(_dotted_keys(kind)))
        return WorkbenchError(f"unknown key {dotted!r} in {source}", remedy)
    if first["type"] == "missing":
        return WorkbenchError(f"{source} lacks {dotted!r}", f"add {dotted!r}")
    remedy = f"{first['msg']}"
    return WorkbenchError(f"{source}: {dotted} = {first['input']!r} is not valid", remedy)


def _dotted_keys(kind: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in kind.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted_keys(field.annotation, f"{prefix}{name}.")
