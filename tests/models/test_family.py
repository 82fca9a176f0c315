"""Every member of the family: against torchvision, against the papers' numbers, and at many sizes."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
import torchvision.models
from torch import nn

import resight.models
from resight.errors import UsageError
from resight.models import ARCHITECTURES, ResNet, count_macs, create, parameter_count, spec_of, stem_for

TORCHVISION = [name for name in ARCHITECTURES if name in torchvision.models.list_models()]
ROOTS = [name for name in ARCHITECTURES if not name.endswith("_plain")]


@cache
def on_meta(name: str, num_classes: int | None = None, in_channels: int = 3, **overrides: object) -> ResNet:
    """Shapes without numbers, for tests that only look; the same net for the same arguments."""
    with torch.device("meta"):
        return create(name, num_classes=num_classes, in_channels=in_channels, **overrides)


def random_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a sensible size for every tensor, without PyTorch's slow initialisation."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, tensor in net.state_dict().items():
        if tensor.dtype == torch.int64:
            state[name] = torch.tensor(7)
            continue
        values = torch.empty(tensor.shape).uniform_(-1.0, 1.0, generator=generator)
        if tensor.dim() > 1:
            values *= math.sqrt(2 / tensor[0].numel())
        elif not name.endswith(("bias", "running_mean")):
            values = 1.0 + values / 2
        state[name] = values
    return state


def test_all_torchvision_nets_of_the_family_are_here() -> None:
    theirs = {n for n in torchvision.models.list_models(module=torchvision.models) if "resne" in n}
    assert theirs == set(TORCHVISION)


@pytest.mark.parametrize("name", TORCHVISION)
def test_logits_and_keys_equal_torchvision(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).eval()
        ours = create(name).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    state = random_state(theirs)
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict(state, assign=True)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = theirs(pictures), ours(pictures)
    assert expected.std() > 0.01, "the comparison would mean nothing"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TORCHVISION)
def test_size_and_cost_equal_what_torchvision_publishes(name: str) -> None:
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    net = on_meta(name)
    assert parameter_count(net) == meta["num_params"]
    assert round(count_macs(net, 224) / 1e9, 3) == meta["_ops"]


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # He et al. 2015, table 6; digits as printed there
        *(("resnet20", "0.27"), ("resnet32", "0.46"), ("resnet44", "0.66"), ("resnet56", "0.85")),
        *(("resnet110", "1.7"), ("resnet1202", "19.4")),
        *(("preact_resnet110", "1.7"), ("preact_resnet164", "1.7")),  # He et al. 2016, table 4
    ],
)
def test_parameters_equal_the_papers(name: str, millions: str) -> None:
    digits = len(millions.partition(".")[2])
    assert f"{parameter_count(on_meta(name, num_classes=10)) / 1e6:.{digits}f}" == millions


def test_preact_1001_has_the_papers_size_without_its_norms() -> None:
    """He et al. 2016, table 4, prints 10.2 M: convolutions and head alone; with the norms it is 10.33 M."""
    net = on_meta("preact_resnet1001", num_classes=10)
    weights = sum(p.numel() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear) for p in m.parameters())
    assert f"{weights / 1e6:.1f}" == "10.2"
    assert parameter_count(net) == 10_327_706


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # timm's published table, results/model_metadata-in1k and its model cards
        *(("resnet18d", 11.71), ("resnet34d", 21.82), ("resnet50d", 25.58), ("resnet101d", 44.57)),
        *(("resnet152d", 60.21), ("resnet200d", 64.69), ("seresnet50", 28.09), ("seresnet152", 66.82)),
    ],
)
def test_parameters_equal_timm(name: str, millions: float) -> None:
    assert round(parameter_count(on_meta(name)) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "billions", "paper"),
    [
        *(("resnet18", 1.8, "He 2015"), ("resnet34", 3.6, "He 2015"), ("resnet50_v1", 3.8, "He 2015")),
        *(("resnet101_v1", 7.6, "He 2015"), ("resnet152_v1", 11.3, "He 2015")),
        *(("resnet50", 4.1, "He, T. 2019, B"), ("resnet50d", 4.3, "He, T. 2019, D")),
        *(("resnext50_32x4d", 4.2, "Xie 2017"), ("resnet50_v1", 3.86, "Hu 2018")),
    ],
)
def test_multiply_accumulates_equal_the_papers(name: str, billions: float, paper: str) -> None:
    """Within one unit of the last printed digit: He 2015 cut off 3.66 and 3.86, rounded 7.57 and 11.28."""
    digits = len(str(billions).partition(".")[2])
    assert abs(count_macs(on_meta(name), 224) / 1e9 - billions) < 10**-digits, paper


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_runs(name: str) -> None:
    net = on_meta(name).eval()
    with torch.no_grad():
        assert net(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1000)


@pytest.mark.parametrize("name", ROOTS)
def test_plain_counterparts_differ_by_their_shortcuts_alone(name: str) -> None:
    residual, plain = on_meta(name), on_meta(f"{name}_plain")
    shapes = {key: tuple(t.shape) for key, t in residual.state_dict().items() if ".downsample." not in key}
    assert {key: tuple(t.shape) for key, t in plain.state_dict().items()} == shapes
    assert all(block.downsample is None for block in plain.blocks)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18d", "seresnet18", "preact_resnet50", "resnet20"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_number_of_channels(name: str, channels: int) -> None:
    net = on_meta(name, num_classes=5, in_channels=channels).eval()
    with torch.no_grad():
        for height, width in [(28, 28), (29, 31), (33, 28), (64, 47), (97, 130), (224, 224)]:
            assert net(torch.empty(2, channels, height, width, device="meta")).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "stem", "stages", "strides"),
    [
        ("resnet18", 64, [64, 128, 256, 512], [4, 4, 8, 16, 32]),
        ("resnet50d", 64, [256, 512, 1024, 2048], [4, 4, 8, 16, 32]),
        ("preact_resnet18", 64, [64, 128, 256, 512], [4, 4, 8, 16, 32]),
        ("resnet20", 16, [16, 32, 64], [1, 1, 2, 4]),
    ],
)
def test_named_features(name: str, stem: int, stages: list[int], strides: list[int]) -> None:
    torch.manual_seed(0)
    net = create(name, num_classes=6).eval()
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = net.features(pictures)
        logits = net(pictures)
    names = ["stem", *(f"stage{i + 1}" for i in range(len(stages)))]
    assert list(out) == [*names, "features", "embedding", "logits"]
    for feature, width, stride in zip(names, [stem, *stages], strides, strict=True):
        assert out[feature].shape == (2, width, 64 // stride, 64 // stride)
    assert out["embedding"].shape == (2, stages[-1])
    torch.testing.assert_close(out["features"].mean((2, 3)), out["embedding"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out["embedding"] @ net.fc.weight.T + net.fc.bias, out["logits"])
    assert torch.equal(out["logits"], logits)


@pytest.mark.parametrize(("stem", "stride"), [("imagenet", 4), ("deep", 4), ("tiny", 2), ("cifar", 1)])
def test_stems_divide_as_documented(stem: str, stride: int) -> None:
    net = on_meta("resnet18", stem=stem).eval()
    with torch.no_grad():
        assert net.features(torch.empty(1, 3, 64, 64, device="meta"))["stem"].shape[-1] == 64 // stride


def test_stem_for_keeps_the_last_map_useful() -> None:
    spec = spec_of("resnet50")
    assert [stem_for(spec, size) for size in (28, 40, 41, 80, 81, 224)] == [
        *("cifar", "cifar", "tiny", "tiny", "imagenet", "imagenet")
    ]
    assert stem_for(spec_of("resnet20"), 224) == "cifar"


def test_macs_of_one_convolution_by_hand() -> None:
    """The CIFAR stem alone costs 32·32·16·3·9, the head 64·10; ResNet-20 in all 40.55 M."""
    net = create("resnet20", num_classes=10)
    assert count_macs(net, 32) == 40_551_040
    assert net.training, "the mode is given back"
    wider = count_macs(create("resnet20", num_classes=110), 32)
    assert wider - 40_551_040 == 64 * 100
    grey = count_macs(create("resnet20", num_classes=10, in_channels=1), 32)
    assert 40_551_040 - grey == 32 * 32 * 16 * 2 * 9


def test_every_name_is_a_function_of_the_module() -> None:
    assert set(ARCHITECTURES) <= set(dir(resight.models))
    assert resight.models.resnet20 is resight.models.resnet20
    net = resight.models.resnet20(num_classes=3, in_channels=1, stem="tiny")
    assert (net.num_classes, net.in_channels, net.spec.stem) == (3, 1, "tiny")
    assert resight.models.resnet50.__name__ == "resnet50"
    with pytest.raises(AttributeError, match="resnet51"):
        _ = resight.models.resnet51


def test_exported_names_exist() -> None:
    assert all(hasattr(resight.models, name) for name in resight.models.__all__)
    assert {"create", "load_weights", "resolve", "fetch", "ResNet", "ARCHITECTURES"} <= set(resight.models.__all__)


def test_wrong_names_and_options_are_refused() -> None:
    with pytest.raises(UsageError, match="no model named 'resnet51'") as refused:
        create("resnet51")
    assert "resnet50" in (refused.value.hint or "")
    with pytest.raises(UsageError, match="no option"):
        create("resnet18", depth=3)
    for name, options in [
        ("resnet18_plain", {"stochastic_depth": 0.1}),
        ("resnet18", {"stochastic_depth": 1.0}),
        ("resnet18", {"groups": 2}),
        ("resnet18", {"stride_on": "1x1"}),
    ]:
        with pytest.raises(UsageError):
            create(name, **options)
