from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from resight.errors import MissingExtra, RunError, UsageError
from resight.inference import AUTO, OnnxRuntime, Predictor, backend, check_backend, load_onnxruntime, open_backend
from resight.inference.openvino import OpenVino, load_openvino
from resight.runs import ONNX, Run

from . import tiny

Kind = type[OnnxRuntime] | type[OpenVino]
both = pytest.mark.parametrize("kind", [OnnxRuntime, OpenVino])
PIXELS = np.stack([tiny.picture(name, side=tiny.SIZE) for name in tiny.CLASSES])


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@both
def test_answers_in_the_order_asked_for(kind: Kind, tmp_path: Path) -> None:
    backend = kind(save(tmp_path / ONNX, tiny.graph()), 1)
    features, probabilities, embedding, logits = backend.answer(
        PIXELS, ("features", "probabilities", "embedding", "logits")
    )
    assert features.shape == (3, 4, tiny.SIZE, tiny.SIZE)
    channels = PIXELS.astype(np.float64).mean(axis=(1, 2))[:, ::-1] / 255  # blue, green, red
    np.testing.assert_allclose(embedding[:, :3], channels, atol=1e-6)
    np.testing.assert_allclose(logits, 6 * channels, atol=1e-5)
    powers = np.exp(6 * channels / tiny.TEMPERATURE)
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-6)


def external(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """The same, with the weights of the head in a file."""
    tensor = next(t for t in model.graph.initializer if t.name == "head")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "48")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model


@both
@pytest.mark.parametrize("location", ["head.bin", "below/head.bin", "../head.bin", "{absolute}"])
def test_external_data_is_refused_even_where_it_is_there(
    kind: Kind, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    for place in (folder, folder / "below", tmp_path):
        place.mkdir(exist_ok=True)
        np.ones((3, 4), np.float32).tofile(place / "head.bin")
    monkeypatch.chdir(folder)  # bytes have no folder of their own: onnxruntime would look here
    location = location.replace("{absolute}", str(tmp_path / "head.bin"))
    path = save(folder / ONNX, external(tiny.graph(), location))
    with pytest.raises(RunError, match="outside of itself"):
        kind(path, 1)


@both
def test_a_pointer_into_memory_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = save(tmp_path / ONNX, external(tiny.graph(), "*/_ORT_MEM_ADDR_/*"))
    with pytest.raises(RunError):
        kind(path, 1)


@both
@pytest.mark.parametrize("data", [b"", b"<html>", b"\x00" * 100, tiny.graph().SerializeToString()[:-200]])
def test_a_damaged_file_is_refused_in_words(
    kind: Kind, data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ONNX).write_bytes(data)
    with pytest.raises(RunError, match=r"damaged|takes|lacks") as caught:
        kind(tmp_path / ONNX, 1)
    assert ONNX in str(caught.value)
    assert capfd.readouterr() == ("", "")


@both
def test_a_missing_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        kind(tmp_path / ONNX, 1)


@both
def test_a_graph_with_another_input_or_without_an_output_is_refused(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected only 'pixels'"):
        kind(save(tmp_path / ONNX, tiny.graph(input_name="image")), 1)
    model = tiny.graph()
    del model.graph.output[3]
    with pytest.raises(RunError, match="lacks the outputs features"):
        kind(save(tmp_path / ONNX, model), 1)


def test_a_file_changed_after_the_check_is_refused(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    opened = Run.open(run.path)
    other = tiny.graph(head=np.zeros((3, 4), np.float32))
    save(run.path / ONNX, other)
    with pytest.raises(RunError, match="changed after the Run was sealed"):
        Predictor(opened)


@both
@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS.astype(np.float32),
        PIXELS[0],
        PIXELS[:, :4],
        PIXELS[:0],
        PIXELS[..., :1],
    ],
)
def test_pixels_that_do_not_fit(kind: Kind, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    backend = kind(save(tmp_path / ONNX, tiny.graph()), 1)
    with pytest.raises(UsageError, match="expected pixels"):
        backend.answer(pixels, ("logits",))


@both
def test_wrong_arguments(kind: Kind, tmp_path: Path) -> None:
    path = save(tmp_path / ONNX, tiny.graph())
    with pytest.raises(UsageError, match="auto, onnxruntime, openvino"):
        open_backend("tensorrt", path)
    with pytest.raises(UsageError, match="chosen"):
        open_backend(AUTO, path)
    for threads in (0, -1, True, 1.5):
        with pytest.raises(UsageError, match="threads"):
            kind(path, threads)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown outputs: chances"):
        kind(path, 1).answer(PIXELS, ("chances",))


def open_channels() -> onnx.ModelProto:
    model = tiny.graph()
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "C"
    return model


def test_a_graph_that_fails_at_work_is_an_error(tmp_path: Path) -> None:
    backend = OnnxRuntime(save(tmp_path / ONNX, open_channels()), 1)
    with pytest.raises(RunError, match="cannot compute"):
        backend.answer(np.zeros((1, tiny.SIZE, tiny.SIZE, 5), np.uint8), ("logits",))


def test_openvino_refuses_what_it_would_compute_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels with more channels than the weights have: it does not notice."""
    with pytest.raises(RunError, match="open size"):
        OpenVino(save(tmp_path / ONNX, open_channels()), 1)
    ready = OpenVino(save(tmp_path / ONNX, tiny.graph()), 1)

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(ready, "_compile", fail)
    with pytest.raises(RunError, match="cannot compute an answer: no memory"):
        ready.answer(PIXELS, ("logits",))


def test_no_telemetry_is_prepared_or_stored(tmp_path: Path) -> None:
    """Without the switch, onnxruntime 1.32 on Linux stores a device id and a queue of events at home."""
    path = save(tmp_path / ONNX, tiny.graph())
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import sys; import numpy; from pathlib import Path; from resight.inference import OnnxRuntime\n"
        "backend = OnnxRuntime(Path(sys.argv[1]), 1)\n"
        "backend.answer(numpy.zeros((1, 8, 8, 3), numpy.uint8), ['logits'])"
    )
    dropped = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    kept = {k: v for k, v in os.environ.items() if k not in dropped}
    subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=kept | {"HOME": str(home), "TMPDIR": str(home)},
        check=True,
        timeout=60,
    )
    assert list(home.rglob("*")) == []


def test_openvino_stores_and_sends_nothing(tmp_path: Path) -> None:
    """Without the switch, ``import openvino`` (2026.4) stores an id at home and sends an event in a process."""
    path = save(tmp_path / ONNX, tiny.graph())
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import multiprocessing, sys, urllib.request; import numpy; from pathlib import Path\n"
        "def refuse(*_, **__): print('sent'); raise OSError\n"
        "urllib.request.urlopen = multiprocessing.Process.start = refuse\n"
        "from resight.inference import open_backend\n"
        "backend = open_backend('openvino', Path(sys.argv[1]), 1)\n"
        "backend.answer(numpy.zeros((1, 8, 8, 3), numpy.uint8), ['logits'])\n"
        "import openvino; openvino.convert_model(sys.argv[1])\n"
        "print(sys.modules['openvino_telemetry'])"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "XDG_CACHE_HOME")}
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=kept | {"HOME": str(home), "TMPDIR": str(home)},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert found.stdout == "None\n"
    assert list(home.rglob("*")) == []


def test_openvino_with_its_telemetry_stays_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another part of the program has imported already is not taken away from it."""
    monkeypatch.setitem(sys.modules, "openvino_telemetry", sys)
    assert load_openvino().__name__ == "openvino"
    assert sys.modules["openvino_telemetry"] is sys


def test_telemetry_is_switched_off_for_later_imports_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    load_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@both
def test_initializers_survive(kind: Kind, tmp_path: Path) -> None:
    """A tensor that nobody uses is no reason to refuse a graph."""
    extra = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    kind(save(tmp_path / ONNX, tiny.graph(extra=[extra])), 1)


@both
@pytest.mark.parametrize("callers", [1, 2, None])
def test_many_threads_ask_at_once(kind: Kind, callers: int | None, tmp_path: Path) -> None:
    ready = kind(save(tmp_path / ONNX, tiny.graph()), 2, callers=callers)
    expected = ready.answer(PIXELS, ("logits", "features"))

    def ask(number: int) -> bool:
        logits, features = ready.answer(np.roll(PIXELS, number, axis=0), ("logits", "features"))
        same = np.allclose(logits, np.roll(expected[0], number, axis=0), atol=1e-6)
        return same and np.allclose(features, np.roll(expected[1], number, axis=0), atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))


def test_answers_of_both_backends_are_equal_for_any_batch(tmp_path: Path) -> None:
    path = save(tmp_path / ONNX, tiny.graph(50))
    pixels = np.random.default_rng(3).integers(0, 256, (17, tiny.SIZE, tiny.SIZE, 3), dtype=np.uint8)
    (expected,) = OnnxRuntime(path, 1).answer(pixels, ("probabilities",))
    ready = OpenVino(path, 2, callers=2)
    for batch in (1, 3, 17):
        parts = [ready.answer(pixels[i : i + batch], ("probabilities",))[0] for i in range(0, 17, batch)]
        assert all(part.dtype == np.float32 for part in parts)
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)


def test_answers_are_the_callers_own(tmp_path: Path) -> None:
    """They are not overwritten by the next question."""
    ready = OpenVino(save(tmp_path / ONNX, tiny.graph()), 1)
    (first,) = ready.answer(PIXELS[:1], ("logits",))
    before = first.copy()
    ready.answer(PIXELS[1:2], ("logits",))
    np.testing.assert_array_equal(first, before)


def test_a_backend_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'resight\[openvino\]'"):
        check_backend("openvino")
    check_backend(AUTO)


def distribution(folder: Path, name: str, package: str) -> None:
    """What pip leaves of a distribution that brings this package."""
    about = folder / f"{name.replace('-', '_')}-1.2.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n", "utf-8")
    (about / "top_level.txt").write_text(f"{package}\n", "utf-8")


def test_the_version_is_that_of_whatever_distribution_brings_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu and onnxruntime-openvino bring a package of another name than their own."""
    monkeypatch.syspath_prepend(tmp_path)
    kind = backend.Kind("", "", "abacusruntime")
    assert kind.version == "unknown"
    distribution(tmp_path, "abacusruntime-gpu", "abacusruntime")
    assert kind.version == "1.2.3 (abacusruntime-gpu)"
    distribution(tmp_path, "abacusruntime", "abacusruntime")
    assert kind.version == "1.2.3"
