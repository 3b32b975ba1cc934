"""The viewer of two eyes: what it is given, how that travels, and what comes back.

Pixels travel inside the component's own message over the page's own websocket: they have no address that another
user could open. A message that did not change is not sent twice, so a rerun of the page sends no pixels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Final

from workbench.review.drawn import LESION_KINDS, Drawn, Square, from_browser, to_browser
from workbench.review.pictures import Picture
from workbench.review.presses import take
from workbench.schema.bundled import bundled
from workbench.schema.files import canonical_hash

SCRIPTS: Final = ("pixels.js", "heat.js", "drawing.js", "pane.js", "keys.js", "viewer.js", "strokes.js")
"""One module, in this order; each holds one noun."""
MAGIC: Final = b"RTW1"


@dataclass(frozen=True)
class Shown:
    """A picture and what it is called on the screen, e.g. ``PGD attack, ε = 2/255`` or ``Last visit``."""

    label: str
    picture: Picture


@dataclass(frozen=True)
class Comparison:
    """Two pictures of an eye between which a reader flickers.

    Args:
        name: in the list of comparisons; the same for both eyes.
        before: None stands for the eye's own photograph. Give it where the other picture has another resolution (an
            attack on the model's input, say), or else the reader sees the resolution change.
        after: None where this eye has none.
    """

    name: str
    after: Shown | None
    before: Shown | None = None


@dataclass(frozen=True)
class MapLayer:
    """One heat map of an eye, or why it is withheld.

    Args:
        method: its key; the same for both eyes.
        name: what the list of methods calls it.
        png: grey levels around 128 (`pictures.map_picture`); None where it is withheld.
        largest: what the levels 1 and 255 stand for; both eyes share it.
        units: of ``largest``.
        withheld: why there is no map; empty where there is one.
        about: what a positive value speaks for.
        draws: of which it is the mean; 0: a map of no draws.
        agreement: PNG of which places matter in which share of them (`pictures.agreement_png`); None: not known.
    """

    method: str
    name: str
    png: bytes | None
    largest: float
    units: str
    withheld: str = ""
    about: str = "referable"
    draws: int = 0
    agreement: bytes | None = None


@dataclass(frozen=True)
class EyePane:
    """One eye.

    Args:
        eye: ``OD`` or ``OS``.
        title: over the pane.
        square: x, y and side of the square that the model saw, in pixels of the photograph as taken. Both eyes' squares
            lie on each other, which links their zoom; marks are counted in these pixels.
        shown: the photograph; None where there is none.
        about: its size, in words.
        status: ``missing``, ``ungradable`` or ``failed``; empty when all is well.
        reason: more words on the status.
        maps: in the order of the list of methods.
        comparisons: in the order of the list.
        answer: words and bars below the pane (`panes.answer_of`); None shows no answer, as in a blinded read.
        no_answer: what stands there instead.
    """

    eye: str
    title: str
    square: Square
    shown: Shown | None = None
    about: str = ""
    status: str = ""
    reason: str = ""
    maps: tuple[MapLayer, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    answer: dict[str, Any] | None = field(default=None, hash=False)
    no_answer: str = ""


@dataclass(frozen=True)
class ViewerInputs:
    """All that the viewer is given.

    Args:
        exam: names the exam on the page (``data-ready`` of the viewer once both eyes stand).
        panes: OD first, so that it stands on the left, as the clinician faces the patient.
        draft: whose drawing on which exam this is, e.g. a hash of reader and exam; when it changes, the viewer begins
            with ``drawn`` and forgets what it held.
        drawn: what the viewer begins with.
        can_draw: whether lesions may be marked; rulers and the grid always may.
        keys_everywhere: whether the viewer hears keys while the focus is elsewhere on the page (never in a text field).
            No digit is ever taken, so that a page may grade with 0 to 4.
    """

    exam: str
    panes: tuple[EyePane, EyePane]
    draft: str = ""
    drawn: Drawn = field(default_factory=Drawn, hash=False)
    can_draw: bool = True
    keys_everywhere: bool = True

    @property
    def squares(self) -> dict[str, Square]:
        """Eye → square, of the eyes that have a photograph."""
        return {pane.eye: pane.square for pane in self.panes if pane.shown is not None}


def viewer(inputs: ViewerInputs, *, key: str = "viewer") -> Drawn:
    """Put the viewer on a Streamlit page and return what stands drawn on it.

    The page runs again when a stroke is finished (not while it is drawn, and for no slider or key); keep what is
    returned, and hand it back as ``inputs.drawn`` when the exam is opened another time.

    Args:
        inputs: what to show.
        key: of the component; one per viewer on a page.

    Returns:
        Marks, rulers and grids in pixels of the photographs as taken; ``inputs.drawn`` as long as nothing was drawn.
    """
    import streamlit as st  # here alone, so that the room and the command line start without it

    unread: dict[str, dict[str, Any]] = st.session_state.setdefault(f"{key}|unread", {})
    drawn = from_browser(unread.get(inputs.draft), inputs.squares)
    if drawn is not None:
        inputs = replace(inputs, drawn=drawn)
    name = f"{key}|opening"
    opening = st.session_state.get(name)
    # What it began with stays in the message while it is on the page: were it what is drawn now, each stroke would
    # send the pixels again. A component that was off the page has lost its state, and begins with the page's.
    if opening is None or opening[0] != inputs.draft or key not in st.session_state:
        opening = st.session_state[name] = (inputs.draft, inputs.drawn)
    mount = st.components.v2.component("retina_trust_workbench.viewer", **_assets())
    state = mount(data=message(inputs, opening[1]), key=key, on_drawn_change=partial(_hear, key, unread))
    said = state.get("drawn")
    # Taken only now that it is returned: the reader's next press may break the run off in any line before.
    unread.pop(inputs.draft, None)
    if not isinstance(said, dict) or said.get("draft") != inputs.draft:
        return inputs.drawn
    drawn = from_browser(said, inputs.squares)
    return inputs.drawn if drawn is None else drawn


def message(inputs: ViewerInputs, opening: Drawn | None = None) -> bytes:
    """Return what travels to the browser: four letters, the length of the head, the head as JSON, then the files.

    Args:
        inputs: what to show.
        opening: what the drawing begins with; None takes that of the inputs.
    """
    files: list[bytes] = []
    head = {
        "exam": inputs.exam,
        "draft": inputs.draft,
        "panes": [_pane(pane, files) for pane in inputs.panes],
        "drawn": to_browser(inputs.drawn if opening is None else opening, inputs.squares),
        "kinds": [{"kind": kind, "code": code, "name": name} for kind, (code, name) in LESION_KINDS.items()],
        "can_draw": inputs.can_draw,
        "keys_everywhere": inputs.keys_everywhere,
    }
    head["version"] = canonical_hash([head["exam"], head["draft"], head["panes"], inputs.can_draw, _digest(files)])[:16]
    text = json.dumps(head).encode("utf-8")
    return b"".join([MAGIC, len(text).to_bytes(4, "little"), text, *files])


def _digest(files: list[bytes]) -> list[str]:
    return [hashlib.blake2b(one, digest_size=16).hexdigest() for one in files]


def _pane(pane: EyePane, files: list[bytes]) -> dict[str, Any]:
    return {
        "eye": pane.eye,
        "title": pane.title,
        "square": list(pane.square),
        "about": pane.about,
        "status": pane.status,
        "reason": pane.reason,
        "answer": pane.answer,
        "no_answer": pane.no_answer,
        "shown": _shown(pane.shown, files),
        "maps": [
            {
                "method": layer.method,
                "name": layer.name,
                "file": _filed(layer.png, files),
                "largest": layer.largest,
                "units": layer.units,
                "withheld": layer.withheld,
                "about": layer.about,
                "draws": layer.draws,
                "agreement": _filed(layer.agreement, files),
            }
            for layer in pane.maps
        ],
        "comparisons": [
            {"name": one.name, "before": _shown(one.before, files), "after": _shown(one.after, files)}
            for one in pane.comparisons
        ],
    }


def _shown(shown: Shown | None, files: list[bytes]) -> dict[str, Any] | None:
    if shown is None:
        return None
    picture = shown.picture
    return {
        "label": shown.label,
        "file": _filed(picture.jpeg, files),
        "width": picture.width,
        "height": picture.height,
        "crop": list(picture.crop),
    }


def _filed(content: bytes | None, files: list[bytes]) -> list[int] | None:
    """Add a file behind the head and return where it begins, counted from the first, and its length."""
    if content is None:
        return None
    begins = sum(map(len, files))
    files.append(content)
    return [begins, len(content)]


@cache
def _assets() -> dict[str, str]:
    folder = bundled("apps") / "viewer"
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("viewer.html", "viewer.css", *SCRIPTS)}
    script = "\n".join(text[name] for name in SCRIPTS)
    return {"html": text["viewer.html"], "css": text["viewer.css"], "js": script}


def _hear(key: str, unread: dict[str, dict[str, Any]]) -> None:
    """Keep what was drawn until the page asks: this same run of it may already be on its way to another exam."""

    def keep(state: Any) -> None:
        said = state.get("drawn")
        if isinstance(said, dict):
            unread[str(said.get("draft"))] = said

    take(key, keep)
