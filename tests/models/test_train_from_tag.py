"""``resight train DATA --weights TAG``, as it is typed, with a local server in the hub's place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from tests.training.tiny import CLASSES, write_patterns
from typer.testing import CliRunner

from resight.cli import app
from resight.images import Geometry
from resight.inference import Predictor
from resight.models import create
from resight.models.hub import here
from resight.runs import PREDICTIONS, WEIGHTS, Run

from .conftest import FileServer
from .test_hub import REPOSITORY, changed


@pytest.fixture
def published(server: FileServer) -> dict[str, torch.Tensor]:
    """Weights with timm's names and 1,000 classes, at 40 px of 44: small, so that this is quick."""
    torch.manual_seed(3)
    state = {k: v for k, v in create("resnet18").state_dict().items() if not k.endswith("num_batches_tracked")}
    settings = {"input_size": [3, 40, 40], "crop_pct": 0.9, "mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25]}
    server.files[REPOSITORY + "config.json"] = changed(**settings)
    server.files[REPOSITORY + "model.safetensors"] = save(state)
    return state


def test_a_tag_is_fetched_trained_from_and_sealed(
    server: FileServer, published: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """The Run sees pictures as the publisher says, its backbone is what was published, and its graph answers so."""
    data, out = write_patterns(tmp_path / "data"), tmp_path / "run"
    assert not here("resnet18", "a1_in1k")
    options = ["--weights", "resnet18.a1_in1k", "--recipe", "features", "--device", "cpu", "--set", "threads=1"]
    done = CliRunner().invoke(app, ["train", str(data), *options, "--out", str(out)])
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert {path for _, path, _ in server.seen} == {REPOSITORY + name for name in ("config.json", "model.safetensors")}
    assert here("resnet18", "a1_in1k")

    run = Run.open(out)
    assert run.card.geometry == Geometry("crop", 40, 44, "bicubic", version=run.card.geometry.version)
    assert (run.card.mean, run.card.std) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.25))
    assert (run.card.architecture.name, run.classes) == ("resnet18", CLASSES)
    assert json.loads(run.read("config.json"))["model"]["weights"] == "resnet18.a1_in1k"
    sealed = load_file(run.file(WEIGHTS))
    assert all(torch.equal(sealed[name], value) for name, value in published.items() if not name.startswith("fc."))
    assert sealed["fc.weight"].shape == (3, 512)

    with np.load(run.file(PREDICTIONS)) as arrays:
        found = arrays["test_logits"].argmax(1)
    rows = [line.split(",") for line in run.file("split.csv").read_text().replace('"', "").splitlines()[1:]]
    tested = [data / row[0] for row in rows if row[3] == "test"]
    answers = list(Predictor(run, threads=1).predict(tested))
    assert sorted(item.top[0][0] for item in answers) == sorted(run.classes[k] for k in found)
