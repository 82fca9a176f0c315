"""What can be said of compiling without doing it; `make soak` compiles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resight.models import create
from resight.training.compiling import compile_net

from .tiny import tiny_config


def test_every_shape_of_a_training_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", False)
    changes = {"data.start_scale": 0.47, "data.train_size": 60, "data.image_size": 60, "batch": 100}
    config = tiny_config(Path("nowhere"), changes)
    compile_net(create("resnet20", num_classes=3), config, share=100, micro_batch=13)
    assert torch._dynamo.config.recompile_limit == 2 * 9  # 28, 32 … 60 px; 13 pictures at a time and the last 9
    assert torch._dynamo.config.fail_on_recompile_limit_hit
