from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.small_audit import small_config, write_cohort, write_model
from workbench.audit.config import AuditConfig
from workbench.audit.runner import run_audit


@dataclass(frozen=True)
class Small:
    """A cohort, a model, and a finished audit of them that nobody writes into."""

    manifest: Path
    model: Path
    run: Path

    def config(self, *overrides: str) -> AuditConfig:
        return small_config(self.manifest, self.model, *overrides)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    root = tmp_path_factory.mktemp("small")
    made = Small(write_cohort(root / "cohort"), write_model(root / "model"), root / "run")
    threads = torch.get_num_threads()
    run_audit(made.config(), made.run)
    torch.set_num_threads(threads)
    return made


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Let no audit change the number of threads of the tests that follow."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
