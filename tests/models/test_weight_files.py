"""Reading weights from disk: every format, and no code of anybody's."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from resight.errors import RunError, WeightsError
from resight.images import Geometry
from resight.models import create, read_state_dict, read_weights
from resight.runs import Architecture, Run, RunCard

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.num_batches_tracked": torch.tensor(3)}


class Malicious:
    """Unpickled, it makes a directory: the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def save_raw(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def same(found: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(STATE) and all(torch.equal(found[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin", ".tar"])
@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_pytorch_files_of_both_formats(tmp_path: Path, suffix: str, save: Any) -> None:
    path = tmp_path / f"weights{suffix}"
    save(STATE, path)
    state, metadata = read_state_dict(path)
    assert same(state)
    assert metadata == {}


def test_safetensors_with_metadata(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path, metadata={"classes": json.dumps(["cat", "dog"]), "arch": "resnet20"})
    state, metadata = read_state_dict(str(path))
    assert same(dict(sorted(state.items())))
    assert metadata == {"classes": ["cat", "dog"], "arch": "resnet20"}
    save_file(STATE, path, metadata={"classes": "cat, dog"})
    with pytest.raises(WeightsError, match="'classes' is not JSON"):
        read_state_dict(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_becomes_float32_and_counters_stay(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"w": torch.tensor([0.5, 2.0], dtype=dtype), "n": torch.tensor(9)}, tmp_path / "w.pt")
    state, _ = read_state_dict(tmp_path / "w.pt")
    assert state["w"].dtype == torch.float32
    assert state["w"].tolist() == [0.5, 2.0]
    assert state["n"].dtype == torch.int64


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net", "ema", "model_ema"])
def test_wrapping_dicts_are_opened_and_their_values_kept(tmp_path: Path, wrapper: str) -> None:
    content = {
        wrapper: STATE,
        "epoch": 7,
        "arch": "resnet18",
        "class_names": ("cat", "dog"),
        "optimizer": {"state": {}},
    }
    torch.save(content, tmp_path / "w.pt")
    state, metadata = read_state_dict(tmp_path / "w.pt")
    assert same(state)
    assert metadata["wrapper"] == wrapper
    assert metadata["classes"] == ["cat", "dog"]
    assert (metadata["epoch"], metadata["arch"]) == (7, "resnet18")
    assert "optimizer" not in metadata


def test_averaged_weights_go_first_and_nesting_is_followed(tmp_path: Path) -> None:
    other = {"a.weight": torch.zeros(2, 3)}
    torch.save({"model": other, "model_ema": {"state_dict": STATE}, "ema": {}}, tmp_path / "w.pt")
    state, metadata = read_state_dict(tmp_path / "w.pt")
    assert same(state)
    assert metadata["wrapper"] == "model_ema.state_dict"


def test_class_to_idx_gives_names_in_order(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "class_to_idx": {"dog": 1, "ant": 2, "zebra": 0}}, tmp_path / "w.pt")
    assert read_state_dict(tmp_path / "w.pt")[1]["classes"] == ["zebra", "dog", "ant"]


@pytest.mark.parametrize("save", [torch.save, save_legacy, save_raw])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_malicious_file_is_refused_and_nothing_of_it_runs(tmp_path: Path, save: Any, hidden: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pt"
    trap: object = Malicious(canary)
    save({"state_dict": STATE, "epoch": trap} if hidden else trap, path)
    with pytest.raises(WeightsError, match=r"holds more than tensors|damaged, or not a file") as refused:
        read_state_dict(path)
    assert str(path) in refused.value.message
    assert not canary.exists()
    if save is save_raw:  # the trap works where somebody does unpickle it
        pickle.loads(path.read_bytes())
        assert canary.exists()


def test_the_refusal_names_what_the_file_asked_for(tmp_path: Path) -> None:
    torch.save(Malicious(tmp_path / "canary"), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"asks for '(posix|nt|os)\.mkdir'") as refused:
        read_state_dict(tmp_path / "w.pt")
    assert "state_dict()" in (refused.value.hint or "")
    torch.save(create("resnet20"), tmp_path / "net.pt")
    with pytest.raises(WeightsError, match=r"asks for 'resight\.models\.resnet\.ResNet'"):
        read_state_dict(tmp_path / "net.pt")


@pytest.mark.parametrize("suffix", [".pt", ".th", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x80\x02garbage", b"PK\x03\x04" + b"x" * 50])
def test_files_of_another_kind_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as refused:
        read_state_dict(path)
    assert str(path) in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("suffix", [".pt", ".th", ".safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    big = {"w": torch.randn(4000)}
    if suffix == ".safetensors":
        save_file(big, path)
    else:
        (torch.save if suffix == ".pt" else save_legacy)(big, path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 10):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="weights"):
            read_state_dict(path)


def test_missing_unknown_and_empty(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no weights file"):
        read_state_dict(tmp_path / "none.pt")
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"ends in '\.onnx', expected one of \.safetensors"):
        read_state_dict(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="not a Run"):
        read_state_dict(tmp_path)
    for content, reason in [
        ({}, "holds no tensors"),
        ([STATE], "holds a list"),
        ({"epoch": 3}, "holds no tensors"),
    ]:
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=reason):
            read_state_dict(tmp_path / "w.pt")


def test_a_torchscript_program_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        program = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    program.save(tmp_path / "program.pt")
    with pytest.raises(WeightsError, match="TorchScript program"):
        read_state_dict(tmp_path / "program.pt")


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    card = RunCard(
        architecture=Architecture("resnet20", {"stem": "tiny"}),
        classes=("cat", "dog", "owl"),
        channels=3,
        geometry=Geometry("squash", 64),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
    )
    Run.create(tmp_path / "run", card)
    save_file(create("resnet20", stem="tiny", num_classes=3).state_dict(), tmp_path / "run" / "model.safetensors")
    return tmp_path / "run"


def test_a_run_brings_all_it_knows(run_directory: Path) -> None:
    source = read_weights(str(run_directory))
    assert (source.architecture, source.options) == ("resnet20", {"stem": "tiny"})
    assert source.classes == ("cat", "dog", "owl")
    assert source.geometry == Geometry("squash", 64)
    assert (source.mean, source.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    net = create("resnet20", weights=run_directory)
    assert (net.spec.stem, net.num_classes) == ("tiny", 3)
    assert torch.equal(net.fc.weight, source.state["fc.weight"])


def test_a_damaged_run_is_refused(run_directory: Path) -> None:
    (run_directory / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no model\.safetensors"):
        read_state_dict(run_directory)
    (run_directory / "run.json").write_text("{")
    with pytest.raises(RunError, match="not valid JSON"):
        read_state_dict(run_directory)
