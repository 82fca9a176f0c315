from __future__ import annotations

from pathlib import Path

import pytest

from .tiny import write_patterns


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 learnable pictures of three classes; never written to."""
    return write_patterns(tmp_path_factory.mktemp("patterns") / "data")
