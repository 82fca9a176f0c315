"""int8 within a budget of accuracy: post-training quantization for OpenVINO and ONNX Runtime. Needs no PyTorch."""

from resight.exporting.int8.budget import MAX_DROP, PICTURES, Quantized, quantize
from resight.exporting.int8.targets import TARGETS

__all__ = ["MAX_DROP", "PICTURES", "TARGETS", "Quantized", "quantize"]
