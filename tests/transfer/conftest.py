"""Data, weights and a short seal for ladders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from tests.training.tiny import tiny_config, write_patterns

from resight.commands import resume as resuming
from resight.exporting import seal as sealing
from resight.runs import ONNX, WEIGHTS, Run
from resight.training import prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("ladder") / "data")


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that has learned nothing yet, with five classes."""
    path = tmp_path_factory.mktemp("weights") / "resnet20.safetensors"
    net = prepare.build_net(tiny_config(data), 5, None, lambda _: None)
    save_file(net.state_dict(), path)
    return path


@pytest.fixture(scope="module", autouse=True)
def no_export() -> Iterator[None]:
    """Sealing without calibration, graph, metrics and their summary, which take seconds and are tested elsewhere."""

    def seal(run: Run, net: Any, samples: Any, logits: Any, say: Any) -> None:
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, run.path / WEIGHTS)
        (run.path / ONNX).write_bytes(b"not tested here")
        run.seal()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "seal", seal)
        patch.setattr(resuming, "_summary", lambda run, say: None)
        yield
