"""What maps are worth stands on an exam's page with the maps, and on no page of a stage before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.test_protocols import first_read, open_exam, press, sent
from tests.run_folder import CREDENTIALS, make_run

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
    pytest.mark.usefixtures("fresh_app"),
]
TELLING = (
    "What the maps are worth",
    "checks asked for in this run",
    "draws, 25 % matters",
    "Not checked:",
    "Beside a healthy eye of another patient",
    "What would flip",
    "Under stress",
)


@pytest.fixture(scope="module")
def credited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credited") / "run"
    make_run(folder, exams=7, more=CREDENTIALS)
    return folder


def test_no_stage_before_the_map_says_what_maps_are_worth(credited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = first_read(open_exam(credited, "blinded", monkeypatch))
    pages = {"first": sent(app)}
    press(app, "Save first read and lock it")
    pages["locked"] = sent(app)
    for stage, label in (("grade", "Show the model's grade"), ("uncertainty", "Show how sure it is")):
        press(app, label)
        pages[stage] = sent(app)
    for stage, page in pages.items():
        assert [words for words in TELLING if words in page] == [], stage
    press(app, "Show its map")
    shown = sent(app)
    assert [words for words in TELLING if words not in shown] == [], "so that the test above can fail"


def test_a_read_without_a_model_never_hears_of_maps(credited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = sent(open_exam(credited, "review_only", monkeypatch))
    assert [words for words in TELLING if words in page] == []
