"""The two quantizers: ONNX Runtime's for ONNX Runtime, NNCF for OpenVINO. Both from ONNX to ONNX, by nodes' names.

Both calibrate on given pictures, with weights per channel and activations per tensor. NNCF's result becomes OpenVINO's
IR in `resight.exporting.int8.ir`.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from resight.errors import RunError
from resight.exporting.int8.graph import WEIGHTED, Proto
from resight.exporting.int8.quiet import quietly
from resight.inference.backend import INPUT, Pixels

_AT_ONCE = 32
"""Pictures whose activations ONNX Runtime's calibration holds at a time."""
_VNNI = {"avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni"}


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether this processor sums products of 8 bits without saturation: VNNI on x86, always on ARM; None where it
    cannot be told.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else bool(_VNNI & set(flags))


def by_onnxruntime(model: Proto, pixels: Pixels, keep: Collection[str], *, seven_bits: bool, ranges: Path) -> Proto:
    """Static QDQ by ONNX Runtime: weights int8, activations uint8 between their smallest and largest value.

    pixels: uint8 (N, S, S, C). keep: nodes that stay in fp32. seven_bits: weights within -64 … 64, where the processor
    would saturate. ranges: a file for what calibration found; it does not depend on ``keep``, and is read where it is
    there. Raises RunError when it fails.
    """
    with quietly(openvino=False), tempfile.TemporaryDirectory() as temporary:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            """One picture at a time, ``_AT_ONCE`` before it sums up."""

            def __init__(self) -> None:
                self.set_range(0, len(pixels))

            def __len__(self) -> int:
                return len(pixels)

            def set_range(self, start_index: int, end_index: int) -> None:
                self.rest = iter(range(start_index, min(end_index, len(pixels))))

            def get_next(self) -> dict[str, Pixels] | None:
                number = next(self.rest, None)
                return None if number is None else {INPUT: pixels[number : number + 1]}

        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # the quantizer changes what it is given
        path = Path(temporary) / "int8.onnx"
        try:
            quantize_static(
                copy,
                path,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(WEIGHTED),
                nodes_to_exclude=sorted(keep),
                per_channel=True,
                reduce_range=seven_bits,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                calibration_cache_path=ranges,
                extra_options={"CalibMaxIntermediateOutputs": _AT_ONCE},
            )
        except Exception as error:
            raise _failed("ONNX Runtime", error) from error
        return onnx.load_model(path)


def by_nncf(model: Proto, pixels: Pixels, keep: Collection[str], *, seven_bits: bool) -> Proto:
    """Post-training quantization by NNCF for the CPU, preset ``MIXED``: weights int8, symmetric; activations asymmetric
    where they have negative values, between the smallest and the largest.

    NNCF's own choice, means of the pictures' extremes and a correction of the biases, was 6 to 7 times as far from fp32
    (docs/int8.md). Arguments and errors as of ``by_onnxruntime``.
    """
    with quietly(openvino=True):
        import nncf
        import onnx
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        try:
            return nncf.quantize(
                copy,
                nncf.Dataset([picture[None] for picture in pixels], lambda picture: {INPUT: picture}),
                subset_size=len(pixels),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                ignored_scope=nncf.IgnoredScope(names=sorted(keep), validate=False) if keep else None,
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if seven_bits else OverflowFix.DISABLE,
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                    disable_bias_correction=True,
                ),
            )
        except Exception as error:
            raise _failed("NNCF", error) from error


def _failed(package: str, error: Exception) -> RunError:
    return RunError(f"{package} cannot quantize model.onnx: {error}")


def is_quantized(model: Proto) -> bool:
    """Whether anything in it is computed in int8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def weights_of(model: Proto) -> dict[str, Any]:
    """Its int8 weights by the name of their tensor."""
    import onnx

    made_by = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        below = made_by.get(node.input[1]) if node.op_type in WEIGHTED and len(node.input) > 1 else None
        if below is not None and below.op_type == "DequantizeLinear" and below.input[0] in constants:
            found[below.input[0]] = onnx.numpy_helper.to_array(constants[below.input[0]])
    return found
