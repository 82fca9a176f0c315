"""OpenVINO's IR is read as IR and nothing else, from bytes that were hashed."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.inference import tiny

from resight.errors import RunError
from resight.inference import OnnxRuntime, open_backend
from resight.inference.ir import check_ir

pytest.importorskip("openvino")
PIXELS = np.random.default_rng(0).integers(0, 256, (3, tiny.SIZE, tiny.SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from resight.inference.openvino import load_openvino, read_onnx

    folder = tmp_path_factory.mktemp("ir")
    model = read_onnx(folder / "model.onnx", tiny.graph().SerializeToString())
    load_openvino().save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder


@pytest.fixture
def ir(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "ir") / "model.xml"


def hashes(path: Path) -> dict[str, str]:
    both = (path.read_bytes(), path.with_suffix(".bin").read_bytes())
    return dict(zip(("sha256", "weights"), (hashlib.sha256(data).hexdigest() for data in both), strict=True))


def test_it_answers_as_onnx_does(ir: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny.graph().SerializeToString())
    names = ("features", "probabilities", "embedding", "logits")
    ours = open_backend("openvino", ir, 1, **hashes(ir)).answer(PIXELS, names)
    theirs = OnnxRuntime(tmp_path / "model.onnx", 1).answer(PIXELS, names)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_changed_file_is_refused(suffix: str, ir: Path) -> None:
    known = hashes(ir)
    place = ir.with_suffix(suffix)
    place.write_bytes(place.read_bytes() + b" ")
    with pytest.raises(RunError, match="changed"):
        open_backend("openvino", ir, 1, **known)


def test_weights_without_a_hash_are_not_used(ir: Path) -> None:
    with pytest.raises(RunError, match="no hash"):
        open_backend("openvino", ir, 1, sha256=hashes(ir)["sha256"])


def test_the_bytes_that_were_hashed_are_those_that_answer(ir: Path) -> None:
    """Files exchanged afterwards change nothing: the model keeps no connection to them."""
    backend = open_backend("openvino", ir, 1, **hashes(ir))
    ir.with_suffix(".bin").write_bytes(bytes(ir.with_suffix(".bin").stat().st_size))
    (answer,) = backend.answer(PIXELS, ("embedding",))
    assert answer.any()


def test_only_openvino_reads_it(ir: Path) -> None:
    with pytest.raises(RunError, match="damaged"):
        open_backend("onnxruntime", ir, 1)


@pytest.mark.parametrize(
    "data",
    [
        tiny.graph().SerializeToString(),
        b"",
        b"TFL3" * 10,
        b'<?xml version="1.0"?>\n<html/>',
        b'<?xml version="1.0"?>\n<net version="10"><layers/></net>',
        b'<?xml version="1.0"?>\n<net version="11"><layers/>',
        b'<?xml version="1.0"?>\n<net version="11"><layers/><script/></net>',
        b'<?xml version="1.0"?>\n<net version="11">' + b"<a>" * 50_000,
    ],
    ids=["onnx", "empty", "tflite", "html", "version 10", "cut short", "another part", "deep"],
)
def test_another_format_under_its_name_is_refused(data: bytes, ir: Path) -> None:
    ir.write_bytes(data)
    with pytest.raises(RunError, match="damaged"):
        open_backend("openvino", ir, 1, **hashes(ir))


def test_onnx_under_the_name_of_an_ir_would_be_read_by_openvino(ir: Path) -> None:
    """Why there is a check: OpenVINO takes what it is given for whatever it may be."""
    from resight.inference.openvino import core

    assert core().read_model(tiny.graph().SerializeToString(), b"").inputs


HOSTILE = {
    "entities": lambda text: text.replace("<net", '<!DOCTYPE net [<!ENTITY a "b">]>\n<net', 1),
    "an external entity": lambda text: text.replace(
        "<net", '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n<net', 1
    ),
    "a comment": lambda text: text.replace("<layers>", "<!-- --><layers>"),
    "an instruction": lambda text: text.replace("<layers>", "<?php ?><layers>"),
    "weights elsewhere": lambda text: text.replace("<rt_info>", '<rt_info><__weights_path value="/tmp/w.bin"/>'),
    "weights elsewhere, hidden": lambda text: text.replace(
        "<rt_info>", '<rt_info><info name="__weights&#95;path" value="/tmp/w.bin"/>'
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_names_or_declares_something_is_refused(kind: str, ir: Path) -> None:
    text = ir.read_text("utf-8")
    changed = HOSTILE[kind](text)
    assert changed != text
    ir.write_text(changed, "utf-8")
    with pytest.raises(RunError, match="damaged"):
        open_backend("openvino", ir, 1, **hashes(ir))
    with pytest.raises(ValueError, match=r"declaration|file for its weights"):
        check_ir(changed.encode())


def test_weights_that_lie_outside_of_the_bin_are_refused(ir: Path) -> None:
    text = ir.read_text("utf-8")
    changed, count = re.subn(r'offset="0" size="(\d+)"', r'offset="999999999" size="\1"', text)
    assert count
    ir.write_text(changed, "utf-8")
    with pytest.raises(RunError, match="damaged"):
        open_backend("openvino", ir, 1, **hashes(ir))
    ir.write_text(text, "utf-8")
    ir.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(RunError, match="damaged"):
        open_backend("openvino", ir, 1, **hashes(ir))


def test_an_ir_of_another_contract_is_refused(saved: Path, tmp_path: Path) -> None:
    text = (saved / "model.xml").read_text("utf-8")
    (tmp_path / "model.xml").write_text(text.replace("pixels", "image"), "utf-8")
    shutil.copy(saved / "model.bin", tmp_path)
    with pytest.raises(RunError, match="expected only 'pixels'"):
        open_backend("openvino", tmp_path / "model.xml", 1)


def test_a_signal_after_networks_were_given_up(tmp_path: Path) -> None:
    """As of a server that opened its Run anew: see ``core``. In a process of its own, which it would end."""
    (tmp_path / "model.onnx").write_bytes(tiny.graph().SerializeToString())
    code = (
        "import gc, os, signal, sys; from pathlib import Path; import numpy as np;"
        "from resight.inference import open_backend;"
        "signal.signal(signal.SIGTERM, lambda *_: print('caught'));"
        f"pixels = np.zeros((1, {tiny.SIZE}, {tiny.SIZE}, 3), np.uint8);"
        "opened = [open_backend('openvino', Path(sys.argv[1]), 1) for _ in range(2)];"
        "[one.answer(pixels, ('probabilities',)) for one in opened];"
        "opened.pop(0); gc.collect(); opened.clear(); gc.collect();"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "caught"), done.stderr
