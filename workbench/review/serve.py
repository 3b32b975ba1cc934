"""The review app's server: everything is loaded, and the run is open, before the first browser comes."""

from __future__ import annotations

import contextlib
import gc
import logging

from streamlit import net_util
from streamlit.web.cli import main

from workbench.review import desk, form, markup, trust_markup, viewer, worklist_rows
from workbench.review.entrance import open_desk
from workbench.review.worklist import WorklistFilter
from workbench.schema.errors import WorkbenchError

PAGES = (desk, form, markup, trust_markup, viewer, worklist_rows)
"""What the pages import: the first of them to be asked for need not wait for it."""


def warm_up() -> None:
    """Open the run as the first page will find it; what is wrong with it the page says.

    After every run of a page Streamlit collects garbage through all that is alive, 0.15 s for the libraries alone, and
    no answer is sent meanwhile. What is loaded here stays for good, so the collector need not look at it again.
    """
    told = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    told.disabled = True  # there is no page yet, as it would tell
    with contextlib.suppress(WorkbenchError):
        opened = open_desk()
        len(opened.worklist("", WorklistFilter(search="P-")))
        first = opened.worklist("").page(0, 50)["exam_id"]
        if len(first):
            opened.trust(opened.case(str(first[0])).exam_id)
    told.disabled = False
    gc.collect()
    gc.freeze()


def ask_nobody() -> None:
    """Keep Streamlit from asking other machines which address this one has.

    It does so when a page of another site knocks at the websocket, to see whether that is itself under another name;
    what it may be called is stated on the command line.
    """
    net_util.get_internal_ip = net_util.get_external_ip = lambda: None


if __name__ == "__main__":
    ask_nobody()
    warm_up()
    main(prog_name="streamlit")
