"""Where the odd pictures lie: they are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def odd_images() -> Path:
    shared = os.environ.get("RESIGHT_SHARED_DATA")
    if not shared:
        pytest.skip("RESIGHT_SHARED_DATA is not set: the odd pictures are not here")
    for folder in (Path(shared) / "odd-images", Path(shared) / "data" / "odd-images"):
        if folder.is_dir():
            return folder
    pytest.fail(f"RESIGHT_SHARED_DATA is {shared}, but there is no odd-images in it")
