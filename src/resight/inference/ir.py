"""Whether bytes are OpenVINO's IR, version 11, and nothing else, decided before OpenVINO sees them.

OpenVINO tries every format that it knows on bytes (ONNX, TensorFlow, TensorFlow Lite, PaddlePaddle, PyTorch, IR), and
an attribute of its own, ``__weights_path``, names a file to take weights from. None of it is for files from elsewhere.
"""

from __future__ import annotations

from xml.etree import ElementTree

_START = b'<?xml version="1.0"?>'
_PARTS = {"layers", "edges", "rt_info"}
_VERSION = "11"
_OUTSIDE = "weights_path"


def check_ir(data: bytes) -> None:
    """Raises ValueError unless ``data`` is an IR that names no file.

    The first bytes are fixed: no binary format begins with them. Declarations are refused before the text is parsed, so
    it has no entities of its own.
    """
    if not data.startswith(_START):
        raise ValueError("it does not begin as an OpenVINO IR does")
    if b"<!" in data or b"<?" in data[len(_START) :]:
        raise ValueError("it holds a declaration, which an OpenVINO IR does not")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"it is no XML: {error}") from error
    if root.tag != "net" or root.get("version") != _VERSION or not {part.tag for part in root} <= _PARTS:
        raise ValueError(f"it is not an OpenVINO IR of version {_VERSION}")
    for element in root.iter():
        texts = (element.tag, *element.attrib, *element.attrib.values(), element.text or "")
        if any(_OUTSIDE in text.lower() for text in texts):
            raise ValueError("it names a file for its weights, which is refused")
