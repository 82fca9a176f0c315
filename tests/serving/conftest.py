from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.images.conftest import odd_images
from tests.inference.tiny import make_known_run

from resight.runs import Run

from .live import Live, serving

__all__ = ["odd_images"]


@pytest.fixture(scope="package")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Run that tells unknown pictures and has a map for each class. Not to be changed."""
    return make_known_run(tmp_path_factory.mktemp("runs") / "colours")


@pytest.fixture(scope="package")
def live(known: Run) -> Iterator[Live]:
    """A server for all tests that leave it as it is."""
    with serving({"colours": known.path, "again": known.path}) as found:
        yield found


@pytest.fixture
def run_path(known: Run) -> Path:
    return known.path
