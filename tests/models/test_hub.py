"""Tags: what they mean, and how they are fetched."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from resight.errors import DownloadError, UsageError, WeightsError
from resight.images import Geometry
from resight.models import (
    ARCHITECTURES,
    create,
    fetch,
    known_tags,
    load_weights,
    parse_tag,
    read_weights,
    resolve,
)
from resight.models.hub import TIMM_TAGS
from resight.runs.storage import cache_directory, is_cache

from .conftest import FileServer

REPOSITORY = "/timm/resnet18.a1_in1k/resolve/main/"
CONFIG: dict[str, Any] = {  # the layout of timm's config.json
    "architecture": "resnet18",
    "num_classes": 1000,
    "num_features": 512,
    "pretrained_cfg": {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 1000,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
    },
}


def changed(**settings: Any) -> bytes:
    return json.dumps(CONFIG | {"pretrained_cfg": CONFIG["pretrained_cfg"] | settings}).encode()


def test_parse_tag() -> None:
    assert parse_tag("resnet50.tv2_in1k") == ("resnet50", "tv2_in1k")
    assert parse_tag("resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k")[0] == "resnext50_32x4d"
    for wrong in ["resnet50", "resnet50.", "resnet50.a/b", "resnet50.a.b", ".a1_in1k"]:
        with pytest.raises(UsageError):
            parse_tag(wrong)
    with pytest.raises(UsageError, match="no model named 'resnet5'"):
        parse_tag("resnet5.a1_in1k")


def test_torchvision_tags_bring_everything_without_a_network() -> None:
    found = resolve("tv2_in1k", "resnet50")
    assert found.source == "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert found.sha256 == "11ad3fa6"
    assert found.geometry == Geometry("crop", 224, 232, "bilinear", version=1)
    assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert found.classes is not None
    assert (len(found.classes), found.classes[0], found.classes[999]) == (1000, "tench", "toilet tissue")
    assert resolve("IMAGENET1K_V2", "resnet50") == resolve("DEFAULT", "resnet50") == found
    old = resolve("tv_in1k", "resnet18")
    assert old == resolve("DEFAULT", "resnet18")
    assert old.geometry == Geometry("crop", 224, 256, "bilinear", version=1)
    assert old.tag == "tv_in1k"


def test_a_tag_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no weights 'tv2_in1k' for resnet18") as refused:
        resolve("tv2_in1k", "resnet18")
    assert "a1_in1k" in (refused.value.hint or "")
    for architecture in ["resnet20", "preact_resnet50", "resnet50_v1", "resnet18_plain"]:
        for tag in ["a1_in1k", "tv_in1k", "DEFAULT"]:
            with pytest.raises(UsageError):
                resolve(tag, architecture)
    with pytest.raises(UsageError, match="not a tag"):
        resolve("../../etc", "resnet18")


def test_known_tags() -> None:
    assert known_tags("resnet50")[:3] == ("tv_in1k", "tv2_in1k", "a1_in1k")
    assert known_tags("resnext101_64x4d") == ("tv_in1k", "c1_in1k", "gluon_in1k")
    assert known_tags("resnet20") == ()
    assert set(TIMM_TAGS) <= set(ARCHITECTURES)


def test_timm_tags_come_from_the_hub(server: FileServer) -> None:
    torch.manual_seed(1)
    original = create("resnet18").eval()
    state = {k: v for k, v in original.state_dict().items() if not k.endswith("num_batches_tracked")}
    server.files[REPOSITORY + "config.json"] = json.dumps(CONFIG).encode()
    server.files[REPOSITORY + "model.safetensors"] = save(state)
    net = create("resnet18", weights="a1_in1k").eval()
    pictures = torch.randn(1, 3, 64, 64)
    assert torch.equal(net(pictures), original(pictures))
    asked = len(server.seen)
    assert all(path.startswith(REPOSITORY) for _, path, _ in server.seen), "nothing else is asked for"

    found = resolve("a1_in1k", "resnet18")
    assert found.source == "timm/resnet18.a1_in1k"
    assert found.geometry == Geometry("crop", 224, 235, "bicubic", version=1)  # floor(224 / 0.95)
    assert found.license == "apache-2.0"
    assert found.classes is not None
    assert len(found.classes) == 1000
    assert fetch(found).suffix == ".safetensors"
    assert is_cache(cache_directory("weights"))
    assert all(method == "HEAD" for method, _, _ in server.seen[asked:]), "cached files are not fetched again"

    small = create("resnet18", num_classes=3)
    loaded = load_weights(small, "resnet18.a1_in1k", "resnet18")
    assert loaded.report.replaced_head
    assert loaded.report.head_from == 1000
    assert loaded.geometry == found.geometry


def test_a_damaged_file_in_the_hubs_cache_is_found_and_removed(server: FileServer) -> None:
    server.files[REPOSITORY + "config.json"] = json.dumps(CONFIG).encode()
    server.files[REPOSITORY + "model.safetensors"] = save({"conv1.weight": torch.zeros(2)})
    found = resolve("a1_in1k", "resnet18")
    blob = fetch(found).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with pytest.raises(DownloadError, match="damaged"):
        fetch(found)
    assert fetch(found).resolve().read_bytes() == server.files[REPOSITORY + "model.safetensors"]


def test_a_repository_that_does_not_exist(server: FileServer) -> None:
    with pytest.raises(DownloadError, match=r"timm/resnet18\.a9_in1k") as refused:
        resolve("a9_in1k", "resnet18")
    assert "a1_in1k" in (refused.value.hint or "")


def test_an_unreachable_hub_is_said_in_plain_words(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with pytest.raises(DownloadError, match=r"could not download config\.json of http://127\.0\.0\.1:9") as refused:
        resolve("a1_in1k", "resnet18")
    assert "HF_ENDPOINT" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"<html>", "not what timm writes"),
        (b"{}", "not what timm writes"),
        (json.dumps(CONFIG | {"architecture": "resnet34"}).encode(), "holds weights of resnet34"),
        (changed(input_size=[1, 224, 224]), "takes 1 channels"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(server: FileServer, config: bytes, reason: str) -> None:
    server.files[REPOSITORY + "config.json"] = config
    with pytest.raises(WeightsError, match=reason):
        resolve("a1_in1k", "resnet18")


def test_class_names_are_those_of_the_publisher_or_none(server: FileServer) -> None:
    server.files[REPOSITORY + "config.json"] = changed(num_classes=2, label_names=["cat", "dog"])
    assert resolve("a1_in1k", "resnet18").classes == ("cat", "dog")
    server.files[REPOSITORY + "config.json"] = changed(num_classes=11821, crop_pct=1.0)
    found = resolve("a1_in1k", "resnet18")
    assert found.classes is None
    assert found.geometry == Geometry("crop", 224, 224, "bicubic", version=1)


def test_torchvision_weights_through_a_mirror(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    original = create("resnet18")
    torch.save(original.state_dict(), tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    digits = hashlib.sha256(content).hexdigest()[:8]
    server.files[f"/models/resnet18-{digits}.pth"] = content
    real = resolve("tv_in1k", "resnet18")
    fake = replace(real, source=f"https://download.pytorch.org/models/resnet18-{digits}.pth", sha256=digits)
    monkeypatch.setattr("resight.models.weights.resolve", lambda tag, architecture: fake)
    source = read_weights("resnet18.tv_in1k")
    assert source.architecture == "resnet18"
    assert source.classes == real.classes
    assert torch.equal(source.state["fc.weight"], original.fc.weight)
    assert (tmp_path / "cache" / "weights" / f"resnet18-{digits}.pth").is_file()


def test_importing_fetches_nothing_and_needs_no_hub() -> None:
    code = (
        "import sys, socket\n"
        "def refuse(*args): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "import resight.models\n"
        "assert not {'huggingface_hub', 'torchvision'} & set(sys.modules), 'imported too early'\n"
        "resight.models.create('resnet20')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
