"""The network of a Run in PyTorch."""

from __future__ import annotations

import torch

from resight.errors import WeightsError
from resight.explaining import read_weights
from resight.inference.tasks import only_answering
from resight.models.keys import load_into
from resight.models.resnet import ResNet
from resight.models.variants import create
from resight.runs import WEIGHTS, Run


def network_of(run: Run) -> ResNet:
    """The network of a Run, from the very bytes of its weights that were checked.

    Raises RunError for weights that were changed, WeightsError for weights of another network, UsageError for a Run
    that was pretrained without labels.
    """
    card = run.card
    only_answering(run, "its network with a last layer")
    net = create(
        card.architecture.name,
        num_classes=len(run.classes),
        in_channels=card.channels,
        **card.architecture.options,
    )
    tensors = {name: torch.from_numpy(values.copy()) for name, values in read_weights(run).items()}
    report = load_into(net, tensors, source=str(run.path / WEIGHTS))
    if report.replaced_head:
        raise WeightsError(f"{run.path / WEIGHTS} has no linear layer 'fc' for the Run's {len(run.classes)} classes")
    return net
