"""Dark unless the reader chooses otherwise: both themes, and what keeps the choice on every page."""

from __future__ import annotations

from functools import cache
from typing import Final

from workbench.schema.bundled import bundled

THEMES: Final[dict[str, dict[str, str]]] = {
    "dark": {
        "primaryColor": "#4cc2ff",
        "backgroundColor": "#0e1116",
        "secondaryBackgroundColor": "#1a1f27",
        "textColor": "#e8eaed",
    },
    "light": {
        "primaryColor": "#0a5d8f",
        "backgroundColor": "#ffffff",
        "secondaryBackgroundColor": "#eef2f6",
        "textColor": "#16202c",
    },
}
"""The app's two themes; with both stated, Streamlit's menu lets the reader choose."""


def theme_options() -> dict[str, str]:
    """Return Streamlit's settings of both themes."""
    stated = {f"theme.{name}.{key}": value for name, theme in THEMES.items() for key, value in theme.items()}
    return {"theme.base": "dark", **stated}


def keep_theme(pages: tuple[str, ...]) -> None:
    """Begin dark, and let the reader's choice hold on every one of ``pages``; nothing is shown."""
    import streamlit as st

    mount = st.components.v2.component("retina_trust_workbench.theme", js=_script())
    mount(data={"pages": list(pages)}, key="theme", height=1)


@cache
def _script() -> str:
    return (bundled("apps") / "theme" / "theme.js").read_text(encoding="utf-8")
