"""What the package offers is what its ``__all__`` says, sorted and documented; and it needs NumPy only."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

from resight import evaluation


def test_exported_names() -> None:
    names = {
        name
        for name, value in vars(evaluation).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names == set(evaluation.__all__)
    assert all(getattr(evaluation, name).__doc__ for name in evaluation.__all__)


def test_heavy_libraries_are_not_imported() -> None:
    code = "import sys, resight.evaluation; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
