"""Brings weights from elsewhere under torchvision's names, and into a network: all of them, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from resight.errors import WeightsError
from resight.models.resnet import ResNet, ResNetSpec
from resight.models.variants import ARCHITECTURES

PREFIXES = ("module.", "model.", "backbone.", "net.", "_orig_mod.")
"""What wrappers (data-parallel, averaging, Lightning, self-supervision, torch.compile) put before names."""

SPELLINGS = (
    (re.compile(r"^(?:linear|classifier|last_linear|head\.fc|head)\."), "fc."),
    (re.compile(r"\.shortcut\."), ".downsample."),
    (re.compile(r"^conv\."), "conv1."),
    (re.compile(r"^bn\."), "bn1."),
)
"""Other code bases' spellings and torchvision's; one is used only where the network has no such name."""

HEAD = ("fc.weight", "fc.bias")
_OPTIONS: tuple[dict[str, str], ...] = ({}, {"stem": "cifar"}, {"shortcut": "B"})
_COUNTERS = "num_batches_tracked"
_SHOWN = 10


@dataclass(frozen=True)
class LoadReport:
    """What loading did beyond copying.

    replaced_head: the last layer keeps its fresh initialisation. head_from: the number of classes of the
    weights' own head, None where they have none. adapted_input: (channels of the weights, channels of the
    network) where they differ. notes: the same in plain words, one line each; empty when everything fitted.
    """

    replaced_head: bool = False
    head_from: int | None = None
    adapted_input: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def translate(state: Mapping[str, Tensor], net: ResNet) -> dict[str, Tensor]:
    """The same tensors under the names that ``net`` uses; names that nothing is known about stay as they are.

    Strips ``PREFIXES`` and applies ``SPELLINGS``. The step counter of averaged models (``n_averaged``) is
    dropped. Raises WeightsError when two tensors would get the same name.
    """
    return _translate(state, set(net.state_dict()))


def _translate(state: Mapping[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in state.items():
        new = _translate_name(name, own)
        if new == "n_averaged":
            continue
        if new in out:
            raise WeightsError(
                f"the weights have both '{origin[new]}' and '{name}', which would both become '{new}'",
                hint="save the state dict of one network only",
            )
        out[new], origin[new] = tensor, name
    return out


def _translate_name(name: str, own: set[str]) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    for pattern, spelling in SPELLINGS:
        new = pattern.sub(spelling, name)
        if name not in own and new in own:
            name = new
    return name


def class_count(state: Mapping[str, Tensor]) -> int | None:
    """The number of outputs of the weights' own head, None where they have none."""
    heads = [tensor for name, tensor in state.items() if _translate_name(name, {HEAD[0]}) == HEAD[0]]
    return len(heads[0]) if heads and heads[0].dim() else None


def load_into(net: ResNet, state: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Copies weights into ``net``. Every name and shape must match after translation, with two exceptions.

    A head that is missing or has another number of classes is left out: ``net.fc`` stays as it is. A first
    layer for another number of channels is adapted: for one channel its filters are summed, which gives a
    grey picture the answer that its RGB copy would get; for n channels they are repeated in order and scaled
    by old/n, so that activations keep their size. Both are reported. BatchNorm's ``num_batches_tracked`` may
    be missing.

    ``source`` names the weights in errors. Raises WeightsError with a diff, leaving ``net`` untouched.
    """
    own = net.state_dict()
    given = translate(state, net)
    report = LoadReport()
    given, report = _fit_head(own, given, report)
    given, report = _fit_input(net, given, report)
    given, report = _fit_attention(own, given, report)
    skip = (HEAD if report.replaced_head else ()) + (_attention(own) if not _attention(given) else ())
    if problems := _differences(own, given, skip=skip):
        raise WeightsError(f"{source} does not fit this network:\n{problems}", hint=_hint(state))
    broken = [n for n, t in given.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise WeightsError(
            f"{source} holds numbers that are not finite, in {_listed(broken, ', ')}",
            hint="its training has failed; use an earlier checkpoint",
        )
    net.load_state_dict(own | given)
    return report


def _hint(state: Mapping[str, Tensor]) -> str:
    found = guess(state)
    if found is None:
        return "check that the model is the one these weights were trained with"
    name, options = found
    return f"these weights fit {name}" + "".join(f" with {key}={value}" for key, value in options.items())


def _fit_head(
    own: Mapping[str, Tensor], given: dict[str, Tensor], report: LoadReport
) -> tuple[dict[str, Tensor], LoadReport]:
    if HEAD[0] not in own:  # a network without a head, which is to be pretrained: any head is left out
        return {name: tensor for name, tensor in given.items() if name not in HEAD}, report
    wanted = len(own["fc.weight"])
    if HEAD[0] in given and HEAD[1] in given:
        found = len(given["fc.weight"])
        if found == wanted or given["fc.weight"].shape[1:] != own["fc.weight"].shape[1:]:
            return given, replace(report, head_from=found)
        note = f"the head was replaced: the weights have {found} classes, the network {wanted}"
    elif HEAD[0] not in given and HEAD[1] not in given:
        found, note = None, f"the weights have no head: the network's, for {wanted} classes, starts untrained"
    else:
        return given, report
    rest = {name: tensor for name, tensor in given.items() if name not in HEAD}
    return rest, replace(report, replaced_head=True, head_from=found, notes=(*report.notes, note))


def _fit_input(net: ResNet, given: dict[str, Tensor], report: LoadReport) -> tuple[dict[str, Tensor], LoadReport]:
    name = _stem_key(net.spec)
    if name not in given or given[name].dim() != 4 or given[name].shape[1] in (0, net.in_channels):
        return given, report
    kernel, new = given[name], net.in_channels
    old = kernel.shape[1]
    if new == 1:
        kernel, how = kernel.sum(1, keepdim=True), "summed"
    else:
        kernel = kernel[:, torch.arange(new) % old] * (old / new)
        how = f"repeated and scaled by {old}/{new}"
    note = f"the first layer's filters for {old} channels were {how} for {new}"
    return given | {name: kernel}, replace(report, adapted_input=(old, new), notes=(*report.notes, note))


def _attention(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(name for name in state if name.startswith("attention."))


def _fit_attention(
    own: Mapping[str, Tensor], given: dict[str, Tensor], report: LoadReport
) -> tuple[dict[str, Tensor], LoadReport]:
    """Weights of whole pictures have no attention over tiles: it starts untrained. Nor has a network of whole pictures
    a place for it."""
    wanted, found = _attention(own), _attention(given)
    if bool(wanted) == bool(found):
        return given, report
    if wanted:
        return given, replace(report, notes=(*report.notes, "the attention over tiles starts untrained"))
    rest = {name: tensor for name, tensor in given.items() if name not in found}
    return rest, replace(report, notes=(*report.notes, "the weights' attention over tiles is left out"))


def _differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor], skip: tuple[str, ...] = ()) -> str:
    """What does not match, in lines for people; empty when everything does."""
    missing = [n for n in own if n not in given and n not in skip and not n.endswith(_COUNTERS)]
    unexpected = [n for n in given if n not in own]
    shapes = [
        f"{name}: found {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    ]
    titles = {"missing": missing, "unexpected": unexpected, "other shape": shapes}
    return "\n".join(
        f"  {title} ({len(names)}):\n    {_listed(names, chr(10) + '    ')}" for title, names in titles.items() if names
    )


def _listed(names: list[str], separator: str) -> str:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return separator.join(names[:_SHOWN] + more)


def guess(state: Mapping[str, Tensor]) -> tuple[str, dict[str, str]] | None:
    """The member of the family that these weights fit, whatever their classes and channels, and its options.

    The first in the order of ``ARCHITECTURES``, as it is or else with one of ``_OPTIONS``, e.g.
    ``("resnet18", {"stem": "cifar"})``; None if there is none. Nets may have the same tensors and differ in
    what no file can tell: stride_on (``resnet50``, ``resnet50_v1``), shortcuts without parameters
    (``resnet20``, ``resnet20_plain``), the stems ``cifar`` and ``tiny``. Then the answer is torchvision's net
    or the papers' one.
    """
    depths = _depths(state)
    for options in _OPTIONS:
        for name, spec in ARCHITECTURES.items():
            if spec.depths == depths and _fits(replace(spec, **options), state):  # type: ignore[arg-type]
                return name, dict(options)
    return None


def guess_architecture(state: Mapping[str, Tensor]) -> str | None:
    """The name of the net that these weights fit without options (see ``guess``); None if there is none."""
    found = guess(state)
    return found[0] if found and not found[1] else None


def _depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The blocks of each stage, read off the names: cheaper than building every net of the family."""
    blocks: dict[int, int] = {}
    for name in state:
        if found := re.search(r"(?:^|\.)layer(\d+)\.(\d+)\.", name):
            stage, block = int(found[1]), int(found[2])
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    return tuple(blocks[stage] for stage in sorted(blocks))


def _fits(spec: ResNetSpec, state: Mapping[str, Tensor]) -> bool:
    own = _blank(spec)
    try:
        given = _translate(state, set(own))
    except WeightsError:
        return False
    given, report = _fit_head(own, given, LoadReport())
    stem = _stem_key(spec)
    if stem in given and given[stem].dim() == 4:
        given[stem] = given[stem][:, :1].expand(-1, 3, -1, -1)
    return not _differences(own, given, skip=HEAD if report.replaced_head else ())


@cache
def _blank(spec: ResNetSpec) -> dict[str, Tensor]:
    """Names and shapes of a net with three channels and 1000 classes; tensors without memory."""
    with torch.device("meta"):
        return ResNet(spec).state_dict()


def _stem_key(spec: ResNetSpec) -> str:
    return "conv1.0.weight" if spec.stem == "deep" else "conv1.weight"
