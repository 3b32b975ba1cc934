"""Shapes in signatures are checked while the tests run; real data is found once, or its absence is said."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from tests.postgres_server import PostgresServer

# The hook must stand before the first import of the package.
install_import_hook("workbench", "beartype.beartype")

ROOT = Path(__file__).resolve().parents[1]


def real_data_folder() -> Path | None:
    """Return the folder of real photographs, or None: WORKBENCH_REAL_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get("WORKBENCH_REAL_DATA")
    for candidate in [Path(named)] if named else [ROOT.parent / "shared" / "data"]:
        if candidate.is_dir():
            return candidate
    return None


@pytest.fixture(scope="session", autouse=True)
def _own_pseudonym_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the key of pseudonyms of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_PSEUDONYM_KEY", str(tmp_path_factory.mktemp("key") / "pseudonym.key"))
        yield


@pytest.fixture(autouse=True)
def _main_module_kept() -> Iterator[None]:
    """Put `__main__` back: Streamlit's AppTest leaves its script there, and a process started later would run that."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = real_data_folder()
    if folder is None:
        pytest.skip("real photographs are not here: set WORKBENCH_REAL_DATA to their folder (see datasets/)")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a PostgreSQL server of the tests' own."""
    from tests.postgres_server import PostgresServer

    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path | str]:
    """Return a function that returns where a new, empty database of reviews may be made, on both kinds of database."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").url  # type: ignore[no-any-return]
    numbers = itertools.count()
    return lambda: tmp_path / f"reviews-{next(numbers)}.sqlite"


@pytest.fixture
def where(new_place: Callable[[], Path | str]) -> Path | str:
    """Return where one new database may be made."""
    return new_place()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one invented run (`run_folder.make_run`), made once; do not write into it."""
    from tests.run_folder import make_run

    folder = tmp_path_factory.mktemp("finished") / "run"
    make_run(folder)
    return folder


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the invented run that a test may write into."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
