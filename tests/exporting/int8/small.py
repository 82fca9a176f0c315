"""A small sealed Run with a residual block, made with the onnx package alone, that knows its own pictures perfectly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tests.exporting.int8.fragile import make_fragile
from tests.inference.tiny import CLASSES, SIZE, TEMPERATURE, make_run

from resight.evaluation.multilabel import sigmoid
from resight.exporting.int8.speed import Rates
from resight.inference import Backend, OnnxRuntime, Reference
from resight.inference.unknown import NEIGHBOURS, describe
from resight.runs import Run, Threshold
from resight.samples import SampleSet, load

WIDTH = 12
LAYERS = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "fc")


def graph(bias: NDArray[np.float32] | None = None, task: str = "single") -> onnx.ModelProto:
    """Stem, one basic block, pool, linear: random weights, the names that PyTorch's export gives."""
    random = np.random.default_rng(1)

    def weights(*shape: int) -> NDArray[np.float32]:
        return (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    constants = {"mean": np.float32(127.5), "temperature": np.float32(TEMPERATURE)}
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "mean"], ["normal"]),
    ]
    for name, above, out, channels in (
        ("conv1", "normal", "stem", 3),
        ("layer1.0.conv1", "stem.relu", "first", WIDTH),
        ("layer1.0.conv2", "first.relu", "second", WIDTH),
    ):
        constants[f"net.{name}.weight"] = weights(WIDTH, channels, 3, 3)
        constants[f"net.{name}.bias"] = (0.1 * random.normal(size=WIDTH)).astype(np.float32)
        nodes.append(
            helper.make_node("Conv", [above, f"net.{name}.weight", f"net.{name}.bias"], [out], pads=[1, 1, 1, 1])
        )
        if out != "second":
            nodes.append(helper.make_node("Relu", [out], [f"{out}.relu"]))
    constants["net.fc.weight"] = 4 * weights(len(CLASSES), WIDTH)
    constants["net.fc.bias"] = np.zeros(len(CLASSES), np.float32) if bias is None else bias
    last = {"single": ("Softmax", {"axis": 1}), "multi": ("Sigmoid", {})}[task]
    nodes += [
        helper.make_node("Add", ["second", "stem.relu"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "net.fc.weight", "net.fc.bias"], ["logits"], transB=1),
        helper.make_node("Div", ["logits", "temperature"], ["divided"]),
        helper.make_node(last[0], ["divided"], ["probabilities"], **last[1]),
    ]
    outputs: dict[str, list[str | int]] = {"probabilities": ["N", 3], "logits": ["N", 3], "embedding": ["N", WIDTH]}
    outputs["features"] = ["N", WIDTH, SIZE, SIZE]
    proto = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def fragile_graph(bias: NDArray[np.float32], task: str = "single") -> onnx.ModelProto:
    """The same function, with one channel between the block's convolutions made 1,000 times larger."""
    model = graph(bias, task)
    make_fragile(model, "net.layer1.0.conv1.weight", "net.layer1.0.conv2.weight")
    return model


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (N, S, S, 3) of a colour and two tones of a coarse pattern."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 2, 2, 3)).repeat(SIZE // 2, 1).repeat(SIZE // 2, 2)
    noise = random.integers(-20, 21, (count, SIZE, SIZE, 3))
    return np.clip((coarse + random.integers(0, 256, (count, 1, 1, 3))) // 2 + noise, 0, 255).astype(np.uint8)


def answer(model: onnx.ModelProto, folder: Path, pixels: NDArray[np.uint8], *outputs: str) -> list[Any]:
    path = folder / "asked.onnx"
    path.write_bytes(model.SerializeToString())
    return OnnxRuntime(path, 1).answer(pixels, outputs)


def centred(folder: Path) -> NDArray[np.float32]:
    """The bias of the last layer with which all classes are answered about as often."""
    (logits,) = answer(graph(), folder, pictures(400, seed=9), "logits")
    bias: NDArray[np.float32] = -np.median(logits, axis=0)
    return bias


def write_data(root: Path, bias: NDArray[np.float32], parts: Mapping[str, int], folder: Path) -> Path:
    """PNG files by part and by what the network answers; of the pictures that it is surest of, so that roundings alone
    change no label.
    """
    for seed, (part, count) in enumerate(parts.items()):
        pixels = pictures(2 * count, seed)
        (logits,) = answer(graph(bias), folder, pixels, "logits")
        best = np.sort(logits, axis=1)
        order = np.argsort(best[:, -2] - best[:, -1], kind="stable")[:count]
        for number, k in enumerate(order):
            place = root / part / CLASSES[int(logits[k].argmax())] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[k]).save(place)
    return root


def small_run(folder: Path, *, fragile: bool = False, parts: Mapping[str, int] | None = None) -> tuple[Run, SampleSet]:
    """The Run and its data, with a reference for 'unknown'."""
    folder.mkdir(parents=True, exist_ok=True)
    bias = centred(folder)
    wanted = {"train": 90, "val": 120, "test": 60} if parts is None else parts
    samples = load(write_data(folder / "data", bias, wanted, folder), val_fraction=0, test_fraction=0)
    model = fragile_graph(bias) if fragile else graph(bias)
    (known,) = answer(model, folder, pictures(60, seed=20), "embedding")
    reference = Reference.fit(known, np.arange(60) % 3, np.arange(60), [f"{k}" for k in range(60)])
    (val,) = answer(model, folder, pictures(60, seed=21), "embedding")
    unknown = describe(reference.scorer(NEIGHBOURS)(val), 60)
    run = make_run(
        folder / "run",
        model=model.SerializeToString(),
        data=samples,
        fields={"unknown": unknown},
        reference=reference.to_bytes(),
    )
    return run, samples


def multilabel_run(folder: Path, *, fragile: bool = False) -> tuple[Run, SampleSet]:
    """As ``small_run``; a picture has each label whose probability is above a half."""
    folder.mkdir(parents=True, exist_ok=True)
    bias = centred(folder)
    rows = ["path,labels,split"]
    for seed, part in enumerate(("train", "val")):
        pixels = pictures(120, seed)
        (logits,) = answer(graph(bias), folder, pixels, "logits")
        for number, (picture, chances) in enumerate(zip(pixels, sigmoid(logits), strict=True)):
            Image.fromarray(picture).save(folder / f"{part}-{number}.png")
            labels = "|".join(name for name, p in zip(CLASSES, chances, strict=True) if p > 0.5)
            rows.append(f"{part}-{number}.png,{labels},{part}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    samples = load(folder / "table.csv", val_fraction=0, test_fraction=0)
    make = fragile_graph if fragile else graph
    fields = {"task": "multi", "thresholds": tuple(Threshold(0.5) for _ in CLASSES)}
    model = make(bias, "multi").SerializeToString()
    return make_run(folder / "run", model=model, data=samples, fields=fields), samples


def timing(fp32: float = 100.0, int8: float = 200.0) -> Any:
    """Rates that are given, not measured."""

    def rates(sides: Mapping[str, Backend], shape: Sequence[int]) -> dict[str, Rates]:
        return {name: Rates(*([fp32 if name.startswith("fp32") else int8] * 2)) for name in sides}

    return rates
