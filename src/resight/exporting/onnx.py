"""``model.onnx``: pixels in, probabilities out. Normalisation, temperature and softmax (or sigmoid) are inside."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from resight.models import ResNet
from resight.runs.storage import write_atomic
from resight.training.objective import Normalize

OPSET = 18
INPUT = "pixels"
OUTPUTS = ("probabilities", "logits", "embedding", "features")
ATTENTION = "attention"
DESCRIBING = ("embedding", "features")


class Answering(nn.Module):
    """The whole way from pixels to probabilities, as it is exported; in evaluation mode, and so is ``net`` then.

    forward: uint8 (N, S, S, C) → probabilities (N, K), logits (N, K), embedding (N, D), features (N, D, h, w);
    float32; for tiles also attention (N,). The logits are the network's own; the probabilities are softmax(logits /
    temperature), with the task "multi" sigmoid(logits / temperature).
    """

    def __init__(
        self, net: ResNet, mean: Sequence[float], std: Sequence[float], temperature: float, task: str = "single"
    ) -> None:
        super().__init__()
        self.net = net
        self.normalize = Normalize(mean, std)
        self.temperature = temperature
        self.task = task
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives."""
        return (*OUTPUTS, ATTENTION) if self.net.spec.attention else OUTPUTS

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        out = self.net.features(self.normalize(pixels.permute(0, 3, 1, 2)))
        scaled = out["logits"] / self.temperature
        probabilities = torch.softmax(scaled, dim=1) if self.task == "single" else torch.sigmoid(scaled)
        return probabilities, *(out[name] for name in self.outputs[1:])


class Describing(nn.Module):
    """As ``Answering``, of a network without a last layer.

    forward: uint8 (N, S, S, C) → embedding (N, D), features (N, D, h, w); float32.
    """

    def __init__(self, net: ResNet, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.normalize = Normalize(mean, std)
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives."""
        return DESCRIBING

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net.features(self.normalize(pixels.permute(0, 3, 1, 2)))
        return out["embedding"], out["features"]


def export_onnx(answering: Answering | Describing, size: int, path: Path) -> None:
    """Writes one self-contained, checked ONNX file with a free batch dimension.

    Raises StorageError when it cannot be written; an existing file is replaced only by a complete one.
    """
    import onnx

    pixels = torch.zeros(2, size, size, answering.net.in_channels, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            answering,
            (pixels,),
            input_names=[INPUT],
            output_names=list(answering.outputs),
            opset_version=OPSET,
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    write_atomic(path, model.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress and its own deprecations; neither is news to the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
