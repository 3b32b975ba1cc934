"""What a reader pressed, taken whole.

Streamlit looks for the next press at each use of the session state, in a widget's callback too, and breaks the run off
for it. A callback that is broken off before it has kept its value is never called again with it: the grade stands on
the page and in no draft.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def take(key: str, keep: Callable[[Any], None]) -> None:
    """Give a widget's value to ``keep``; a press that came meanwhile has its turn after that.

    Args:
        key: of the widget in the session.
        keep: puts the value away without a use of the session state.

    Raises:
        RerunException: the press that came meanwhile; Streamlit's own, which it waits for.
    """
    import streamlit as st
    from streamlit.runtime.scriptrunner import RerunException

    pressed: RerunException | None = None
    while True:
        try:
            value = st.session_state[key]
            break
        except RerunException as press:
            pressed = press
    keep(value)
    if pressed is not None:
        raise pressed
