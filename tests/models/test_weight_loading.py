"""Weights into networks: translated, all or nothing, and every exception said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from resight.errors import UsageError, WeightsError
from resight.models import (
    ARCHITECTURES,
    ResNet,
    create,
    guess,
    guess_architecture,
    load_into,
    load_weights,
    read_weights,
    translate,
)

SHARED = Path(os.environ.get("RESIGHT_SHARED_DATA", "shared")) / "weights"


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; RESIGHT_SHARED_DATA names the directory of shared test data")
    return path


@pytest.fixture
def original() -> ResNet:
    torch.manual_seed(4)
    return create("resnet20", num_classes=4, shortcut="B").eval()


def renamed(state: dict[str, Tensor], *pairs: tuple[str, str], prefix: str = "") -> dict[str, Tensor]:
    out = {}
    for name, tensor in state.items():
        for old, new in pairs:
            if name.startswith(old) or old.startswith("."):
                name = name.replace(old, new, 1)
        out[prefix + name] = tensor
    return out


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "_orig_mod.", "net.", "module._orig_mod."])
@pytest.mark.parametrize("head", ["fc.", "linear.", "classifier.", "head.fc.", "head.", "last_linear."])
def test_spellings_are_translated(original: ResNet, prefix: str, head: str) -> None:
    state = original.state_dict()
    foreign = renamed(
        state,
        ("fc.", head),
        (".downsample.", ".shortcut."),
        ("conv1.", "conv."),
        ("bn1.", "bn."),
        prefix=prefix,
    )
    assert prefix + "conv.weight" in foreign
    assert prefix + "layer2.0.shortcut.0.weight" in foreign
    translated = translate(foreign, original)
    assert list(translated) == list(state)
    assert all(translated[name] is state[name] for name in state)


def test_prefixes_may_differ_between_body_and_head(original: ResNet) -> None:
    foreign = {k if k.startswith("fc.") else f"backbone.{k}": t for k, t in original.state_dict().items()}
    foreign["n_averaged"] = torch.tensor(5)
    assert list(translate(foreign, original)) == list(original.state_dict())


def test_names_of_the_network_itself_are_left_alone() -> None:
    """In a pre-activation net ``bn.`` is no stem norm: it has none."""
    net = create("preact_resnet18", num_classes=2)
    assert list(translate({"bn.weight": torch.zeros(1)}, net)) == ["bn.weight"]


def test_two_tensors_for_one_name_are_refused(original: ResNet) -> None:
    state = original.state_dict() | {"linear.weight": torch.zeros(4, 64)}
    with pytest.raises(WeightsError, match=r"both 'fc\.weight' and 'linear\.weight'"):
        translate(state, original)


def test_loading_copies_everything_and_reports_nothing(original: ResNet) -> None:
    net = create("resnet20", num_classes=4, shortcut="B").eval()
    state = {k: t for k, t in original.state_dict().items() if not k.endswith("num_batches_tracked")}
    report = load_into(net, state, source="test")
    assert (report.replaced_head, report.head_from, report.adapted_input, report.notes) == (
        False,
        4,
        None,
        (),
    )
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(pictures), original(pictures))


def test_another_number_of_classes_keeps_the_fresh_head(original: ResNet) -> None:
    net = create("resnet20", num_classes=7, shortcut="B").eval()
    fresh = net.fc.weight.clone()
    report = load_into(net, original.state_dict(), source="test")
    assert (report.replaced_head, report.head_from) == (True, 4)
    assert report.notes == ("the head was replaced: the weights have 4 classes, the network 7",)
    assert torch.equal(net.fc.weight, fresh)
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.features(pictures)["embedding"], original.features(pictures)["embedding"])


def test_weights_without_a_head_are_taken_and_said(original: ResNet) -> None:
    state = {k: t for k, t in original.state_dict().items() if not k.startswith("fc.")}
    report = load_into(create("resnet20", num_classes=4, shortcut="B"), state, source="test")
    assert (report.replaced_head, report.head_from) == (True, None)
    assert "no head" in report.notes[0]


def test_grey_input_answers_like_its_rgb_copy(original: ResNet) -> None:
    net = create("resnet20", num_classes=4, shortcut="B", in_channels=1).eval()
    report = load_into(net, original.state_dict(), source="test")
    assert report.adapted_input == (3, 1)
    assert "summed" in report.notes[0]
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(net(grey), original(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5)


def test_rgb_input_from_grey_weights_answers_like_grey() -> None:
    torch.manual_seed(1)
    grey_net = create("resnet20", num_classes=4, in_channels=1).eval()
    net = create("resnet20", num_classes=4).eval()
    assert load_into(net, grey_net.state_dict(), source="test").adapted_input == (1, 3)
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(net(grey.expand(-1, 3, -1, -1)), grey_net(grey), atol=1e-5, rtol=1e-5)


def test_four_channels_repeat_the_filters_in_order() -> None:
    rgb = create("resnet18d", num_classes=2)
    net = create("resnet18d", num_classes=2, in_channels=4)
    report = load_into(net, rgb.state_dict(), source="test")
    assert report.adapted_input == (3, 4)
    assert "repeated and scaled by 3/4" in report.notes[0]
    ours, theirs = net.conv1[0].weight, rgb.conv1[0].weight
    torch.testing.assert_close(ours, torch.cat([theirs, theirs[:, :1]], 1) * 0.75)


def test_weights_of_another_net_are_refused_with_a_diff_and_a_hint(original: ResNet) -> None:
    net = create("resnet32", num_classes=4)
    before = {k: t.clone() for k, t in net.state_dict().items()}
    with pytest.raises(WeightsError) as refused:
        load_into(net, original.state_dict(), source="file.pt")
    message = refused.value.message
    assert message.startswith("file.pt does not fit this network:")
    assert "missing (60):\n    layer1.3.conv1.weight\n" in message
    assert "and 50 more" in message
    assert "unexpected (12):\n    layer2.0.downsample.0.weight" in message
    assert message.count("\n") <= 30
    assert refused.value.hint == "these weights fit resnet20 with shortcut=B"
    assert all(torch.equal(before[k], t) for k, t in net.state_dict().items()), "nothing was loaded"


def test_other_shapes_are_named(original: ResNet) -> None:
    state = original.state_dict() | {"layer1.0.conv1.weight": torch.zeros(8, 16, 3, 3)}
    with pytest.raises(WeightsError, match="other shape") as refused:
        load_into(create("resnet20", num_classes=4, shortcut="B"), state, source="x")
    assert "layer1.0.conv1.weight: found (8, 16, 3, 3), expected (16, 16, 3, 3)" in refused.value.message
    assert "check that the model" in (refused.value.hint or "")


def test_a_head_for_other_features_is_not_silently_replaced(original: ResNet) -> None:
    state = original.state_dict() | {"fc.weight": torch.zeros(9, 128), "fc.bias": torch.zeros(9)}
    with pytest.raises(WeightsError, match=r"fc\.weight: found \(9, 128\)"):
        load_into(create("resnet20", num_classes=4, shortcut="B"), state, source="x")
    only_half = {k: t for k, t in original.state_dict().items() if k != "fc.bias"}
    with pytest.raises(WeightsError, match=r"missing \(1\):\n    fc\.bias"):
        load_into(create("resnet20", num_classes=4, shortcut="B"), only_half, source="x")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(original: ResNet, value: float) -> None:
    state = {k: t.clone() for k, t in original.state_dict().items()}
    state["layer1.0.bn1.running_var"][3] = value
    with pytest.raises(WeightsError, match=r"not finite, in layer1\.0\.bn1\.running_var"):
        load_into(create("resnet20", num_classes=4, shortcut="B"), state, source="x")


@pytest.mark.parametrize("name", [n for n, s in ARCHITECTURES.items() if sum(s.depths) <= 60])
def test_an_architecture_is_guessed_from_its_weights(name: str) -> None:
    """Up to what no file can tell: v1 and v1.5, and the shortcuts of option A, which have no parameters."""
    spec = ARCHITECTURES[name]
    with torch.device("meta"):
        state = create(name, num_classes=3, in_channels=1).state_dict()
    expected = name.replace("_v1", "")
    if spec.widths == (16, 32, 64) and spec.block == "basic":
        expected = expected.removesuffix("_plain")
    assert guess_architecture(state) == expected


def test_guesses_with_options_and_none() -> None:
    cifar_stem = create("resnet18", stem="cifar", num_classes=10).state_dict()
    assert guess(renamed(cifar_stem, ("fc.", "linear."), (".downsample.", ".shortcut."))) == (
        "resnet18",
        {"stem": "cifar"},
    )
    assert guess_architecture(cifar_stem) is None
    assert guess({"features.0.weight": torch.zeros(64, 3, 3, 3)}) is None
    with pytest.raises(WeightsError) as refused:
        load_into(create("resnet18"), cifar_stem, source="x")
    assert refused.value.hint == "these weights fit resnet18 with stem=cifar"


def test_create_with_a_file_takes_its_number_of_classes(tmp_path: Path, original: ResNet) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": original.state_dict(), "classes": ["a", "b", "c", "d"]}, path)
    assert create("resnet20", shortcut="B", weights=path).num_classes == 4
    assert create("resnet20", shortcut="B", weights=str(path), num_classes=2).num_classes == 2
    loaded = load_weights(create("resnet20", shortcut="B", num_classes=4, in_channels=1), path)
    assert loaded.classes == ("a", "b", "c", "d")
    assert loaded.description == f"{path}, its 'state_dict'"
    assert (loaded.geometry, loaded.mean) == (None, None)
    torch.save({"state_dict": original.state_dict(), "classes": ["a", "b"]}, path)
    with pytest.raises(WeightsError, match="names 2 classes, but its head has 4 outputs"):
        create("resnet20", shortcut="B", weights=path)


def test_what_is_a_path_and_what_a_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ["no/such/file", "weights.pth", "./tv_in1k"]:
        with pytest.raises(WeightsError, match="there is no weights file"):
            read_weights(text, "resnet18")
    with pytest.raises(UsageError, match="needs a model"):
        read_weights("tv_in1k")
    with pytest.raises(UsageError, match="are weights of resnet50, but the model is resnet18"):
        read_weights("resnet50.tv_in1k", "resnet18")
    (tmp_path / "tv_in1k").mkdir()
    with pytest.raises(WeightsError, match="is a directory, but not a Run"):
        read_weights("tv_in1k", "resnet18")


@pytest.mark.parametrize(("depth", "digits"), [(20, "12fca82f"), (56, "4bfd9763")])
def test_akamasters_cifar_weights(depth: int, digits: str) -> None:
    path = shared(f"cifar10-akamaster-resnet{depth}-{digits}.th")
    assert guess(read_weights(path).state) == (f"resnet{depth}", {})
    net = create(f"resnet{depth}", weights=path).eval()
    assert net.num_classes == 10
    assert net(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_tiny_imagenet_weights() -> None:
    path = shared("tinyimagenet-resnet18.pt")
    net = create("resnet18", weights=path)
    assert net.num_classes == 202
    assert net.fc.weight.dtype == torch.float32
    loaded = load_weights(create("resnet18", num_classes=5), path)
    assert loaded.classes is not None
    assert len(loaded.classes) == 202
    assert loaded.classes[0] == "n01443537"
    assert loaded.report.head_from == 202
    with pytest.raises(WeightsError) as refused:
        create("resnet34", weights=path)
    assert refused.value.hint == "these weights fit resnet18"
