"""A chart as SVG inside the page: nothing is fetched, and no two charts share an id."""

from __future__ import annotations

import re
from typing import Any

import vl_convert
from markupsafe import Markup


def inline_svg(chart: Any, name: str) -> Markup:
    """Return an altair chart as an ``<svg>`` element; its ids begin with ``name``.

    Vega escapes the text that it draws, so the result is markup.
    """
    svg: str = vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[])
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)  # inside HTML they say nothing, and look like addresses
    return Markup(svg)
