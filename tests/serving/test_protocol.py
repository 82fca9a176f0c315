"""The Open Inference Protocol, with ``tritonclient`` as the independent client, and what no client would send."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.inference.tiny import CLASSES, SIZE

from resight.inference import UNLIKE, Predictor
from resight.runs import Run

from .live import LIMITS, Live, encoded, squares

client_module = pytest.importorskip("tritonclient.http")
NAMES = ("probabilities", "logits", "embedding")


@pytest.fixture
def triton(live: Live) -> Iterator[Any]:
    client = client_module.InferenceServerClient(f"127.0.0.1:{live.port}", concurrency=2)
    yield client
    client.close()


def offline(run: Run, pixels: Any) -> dict[str, Any]:
    predictor = Predictor(run, threads=1)
    names = (*NAMES, UNLIKE)
    return dict(zip(names, predictor.compute(pixels, names, alone=True), strict=True))


def pixel_input(pixels: Any, binary: bool) -> Any:
    found = client_module.InferInput("pixels", list(pixels.shape), "UINT8")
    found.set_data_from_numpy(pixels, binary_data=binary)
    return found


def test_health_and_metadata(triton: Any, known: Run) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    version = known.card.files["model.onnx"][:12]
    assert triton.is_model_ready("colours")
    assert triton.is_model_ready("colours", version)
    assert not triton.is_model_ready("colours", "7")
    assert not triton.is_model_ready("others")
    server = triton.get_server_metadata()
    assert server["name"] == "resight"
    assert server["extensions"] == ["binary_tensor_data", "classification"]
    model = triton.get_model_metadata("colours", version)
    assert (model["name"], model["versions"], model["parameters"]["state"]) == ("colours", [version], "ready")
    assert [tensor["name"] for tensor in model["inputs"]] == ["pixels", "image"]
    assert model["inputs"][0] == {"name": "pixels", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]}
    assert [tensor["name"] for tensor in model["outputs"]] == [*NAMES, "label", "unknown_score"]
    with pytest.raises(client_module.InferenceServerException, match="no model"):
        triton.get_model_metadata("others")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_pixels_give_the_predictors_numbers(triton: Any, known: Run, binary_in: bool, binary_out: bool) -> None:
    """To the bit: the batch is the same, and JSON carries every float32."""
    pixels = squares(5)
    asked = [client_module.InferRequestedOutput(name, binary_data=binary_out) for name in (*NAMES, "unknown_score")]
    found = triton.infer("colours", [pixel_input(pixels, binary_in)], outputs=asked, request_id="mine-1")
    assert found.get_response()["id"] == "mine-1"
    assert found.get_response()["model_version"] == known.card.files["model.onnx"][:12]
    expected = offline(known, pixels)
    for name in NAMES:
        assert np.array_equal(found.as_numpy(name), expected[name])
        assert found.as_numpy(name).dtype == np.float32
    assert np.array_equal(found.as_numpy("unknown_score"), expected[UNLIKE])


def test_all_outputs_where_none_is_asked_for(triton: Any, known: Run) -> None:
    pixels = squares(3)
    found = triton.infer("colours", [pixel_input(pixels, True)], model_version=known.card.files["model.onnx"][:12])
    outputs = found.get_response()["outputs"]
    assert [(one["name"], one["shape"]) for one in outputs] == [
        ("probabilities", [3, 3]),
        ("logits", [3, 3]),
        ("embedding", [3, 4]),
        ("label", [3]),
        ("unknown_score", [3]),
    ]
    best = offline(known, pixels)["probabilities"].argmax(1)
    assert [name.decode() for name in found.as_numpy("label")] == [CLASSES[k] for k in best]


def test_encoded_pictures_as_binary(triton: Any, known: Run) -> None:
    pictures = [encoded(colour, side=21 + k, format="JPEG") for k, colour in enumerate(CLASSES)]
    tensor = client_module.InferInput("image", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=object), binary_data=True)
    found = triton.infer("again", [tensor])
    assert [name.decode() for name in found.as_numpy("label")] == list(CLASSES)
    predictor = Predictor(known, threads=1)
    expected = offline(known, np.stack([predictor.square(data) for data in pictures]))
    assert np.abs(found.as_numpy("probabilities") - expected["probabilities"]).max() <= 1e-6


def test_encoded_pictures_as_base64_in_json(live: Live) -> None:
    texts = [base64.b64encode(encoded(colour)).decode() for colour in CLASSES]
    request = {"inputs": [{"name": "image", "shape": [3], "datatype": "BYTES", "data": texts}]}
    found = live.client.post("/v2/models/colours/infer", json=request | {"outputs": [{"name": "label"}]})
    assert found.json()["outputs"] == [{"name": "label", "datatype": "BYTES", "shape": [3], "data": list(CLASSES)}]
    assert "id" not in found.json()


@pytest.mark.parametrize("binary", [True, False])
def test_the_classification_extension(triton: Any, known: Run, binary: bool) -> None:
    pixels = squares(2)
    asked = [client_module.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
    found = triton.infer("colours", [pixel_input(pixels, True)], outputs=asked).as_numpy("probabilities")
    assert found.shape == (2, 2)
    rows = offline(known, pixels)["probabilities"]
    for texts, row in zip(found, rows, strict=True):
        order = np.argsort(-row, kind="stable")[:2]
        for text, k in zip(texts, order, strict=True):
            value, index, name = (text.decode() if isinstance(text, bytes) else text).split(":")
            assert (np.float32(value), int(index), name) == (row[k], k, CLASSES[k])


def test_asynchronous_calls(triton: Any, known: Run) -> None:
    pixels = squares(4)
    calls = [triton.async_infer("colours", [pixel_input(pixels[k : k + 1], True)]) for k in range(4)]
    rows = np.concatenate([call.get_result().as_numpy("probabilities") for call in calls])
    assert np.abs(rows - offline(known, pixels)["probabilities"]).max() <= 1e-6


def test_what_is_no_part_of_the_contract_is_said(triton: Any) -> None:
    with pytest.raises(client_module.InferenceServerException, match="nothing at this path"):
        triton.get_model_config("colours")
    with pytest.raises(client_module.InferenceServerException, match="Content-Encoding"):
        triton.infer("colours", [pixel_input(squares(1), True)], request_compression_algorithm="gzip")
    with pytest.raises(client_module.InferenceServerException, match="priority"):
        triton.infer("colours", [pixel_input(squares(1), True)], priority=1)


ZEROS = [0] * (SIZE * SIZE * 3)
GOOD: dict[str, Any] = {"name": "pixels", "shape": [1, SIZE, SIZE, 3], "datatype": "UINT8", "data": ZEROS}
TEXT = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["x"]}
WRONG: list[Any] = [
    None,
    [],
    3,
    {},
    {"inputs": []},
    {"inputs": {}},
    {"inputs": [GOOD, TEXT]},
    {"inputs": [GOOD], "surprise": 1},
    {"inputs": [GOOD], "id": 3},
    {"inputs": [GOOD], "outputs": "label"},
    {"inputs": [GOOD], "outputs": [{"name": "features"}]},
    {"inputs": [GOOD], "outputs": [{"name": "label"}, {"name": "label"}]},
    {"inputs": [GOOD], "outputs": [{"name": ["label"]}]},
    {"inputs": [GOOD], "outputs": [{"name": "embedding", "parameters": {"classification": 1}}]},
    {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"classification": True}}]},
    {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"classification": -1}}]},
    {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]},
    {"inputs": [GOOD], "parameters": {"timeout": -1}},
    {"inputs": [GOOD], "parameters": {"timeout": 1.5}},
    {"inputs": [GOOD], "parameters": {"sequence_id": 1}},
    *({"inputs": [GOOD | change]} for change in (
        {"name": "picture"}, {"name": 1}, {"name": ["pixels"]}, {"datatype": "FP32"}, {"datatype": []},
        {"shape": [0, SIZE, SIZE, 3]}, {"shape": [-1, SIZE, SIZE, 3]}, {"shape": [1, SIZE, SIZE, 4]},
        {"shape": [1, SIZE, SIZE]}, {"shape": [True, SIZE, SIZE, 3]}, {"shape": [10**30, SIZE, SIZE, 3]},
        {"shape": "1"}, {"shape": [1.0, SIZE, SIZE, 3]}, {"shape": None}, {"data": None}, {"data": []},
        {"data": ZEROS[1:]}, {"data": [*ZEROS[1:], 256]}, {"data": [*ZEROS[1:], -1]}, {"data": [*ZEROS[1:], 10**30]},
        {"data": [*ZEROS[1:], 0.5]}, {"data": [*ZEROS[1:], "0"]}, {"data": [*ZEROS[1:], [0]]},
        {"data": [*ZEROS[1:], None]}, {"data": "0"}, {"data": {"0": 0}}, {"parameters": {"binary_data_size": 192}},
        {"parameters": []}, {"parameters": {"shared_memory_region": "r"}}, {"extra": 1},
    )),
    *({"inputs": [TEXT | change]} for change in (
        {}, {"data": [1]}, {"data": ["é"]}, {"data": ["AAA"]}, {"shape": [2]}, {"shape": [1, 1]}, {"data": []},
    )),
]  # fmt: skip


@pytest.mark.parametrize("request_", WRONG, ids=range(len(WRONG)))
def test_fault_20_wrong_requests_are_400_in_words(live: Live, request_: Any) -> None:
    found = live.client.post("/v2/models/colours/infer", json=request_)
    assert found.status_code == 400, found.text
    assert found.json()["error"]
    assert found.json()["request_id"] == found.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"NaN", b"[" * 100_000, b'{"a":' * 100_000, b'{"inputs": NaN}', b"1" * 10_000, b"{}x"],
)
def test_fault_20_malformed_json_nan_and_deep_nesting(live: Live, body: bytes) -> None:
    found = live.client.post("/v2/models/colours/infer", content=body)
    assert found.status_code == 400, found.text
    assert "error" in found.json()


def binary(tensor: dict[str, Any], data: bytes, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    head = {name: value for name, value in tensor.items() if name != "data"}
    text = json.dumps({"inputs": [head | {"parameters": {"binary_data_size": len(data)} | parameters}]}).encode()
    return text + data, {"Inference-Header-Content-Length": str(len(text))}


def bad_lengths() -> list[tuple[bytes, dict[str, str]]]:
    zeros = bytes(SIZE * SIZE * 3)
    picture = encoded()
    exact = struct.pack("<I", len(picture)) + picture
    good, length = binary(GOOD, zeros)
    return [
        (good, {}),
        (good, {"Inference-Header-Content-Length": "x"}),
        (good, {"Inference-Header-Content-Length": "-1"}),
        (good, {"Inference-Header-Content-Length": "²"})
        if False
        else (good, {"Inference-Header-Content-Length": "9" * 30}),
        (good, {"Inference-Header-Content-Length": str(len(good) + 1)}),
        (good[:-1], length),
        (good + b"\0", length),
        binary(GOOD, zeros[1:]),
        binary(GOOD, zeros, binary_data_size=0),
        binary(GOOD, zeros, binary_data_size=True),
        binary(GOOD, zeros, binary_data_size="192"),
        binary(TEXT, b""),
        binary(TEXT, b"\0\0\0"),
        binary(TEXT, exact[:-1]),
        binary(TEXT, exact + b"\0"),
        binary(TEXT, exact + exact),
        binary(TEXT | {"shape": [2]}, exact),
        binary(TEXT | {"shape": [10**12]}, exact),
        binary(TEXT, b"\xff\xff\xff\xff" + picture),
    ]


@pytest.mark.parametrize("case", range(19))
def test_fault_20_lengths_that_lie(live: Live, case: int) -> None:
    body, headers = bad_lengths()[case]
    found = live.client.post("/v2/models/colours/infer", content=body, headers=headers)
    assert found.status_code == 400, found.text


def test_a_bad_picture_of_a_tensor_names_its_place(live: Live) -> None:
    data = b"".join(struct.pack("<I", len(one)) + one for one in (encoded(), b"%PDF-1.7", encoded()))
    body, headers = binary(TEXT | {"shape": [3]}, data)
    found = live.client.post("/v2/models/colours/infer", content=body, headers=headers)
    assert found.status_code == 415
    assert found.json()["error"].startswith("picture 1 of image: ")


def test_too_many_pictures_and_too_much_json(live: Live) -> None:
    pixels = np.zeros((LIMITS.files + 1, SIZE, SIZE, 3), np.uint8)
    body, headers = binary(GOOD | {"shape": list(pixels.shape)}, pixels.tobytes())
    assert live.client.post("/v2/models/colours/infer", content=body, headers=headers).status_code == 413
    blanks = b" " * (LIMITS.json_bytes + 1)
    assert live.client.post("/v2/models/colours/infer", content=blanks).status_code == 413
