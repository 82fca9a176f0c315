"""Reads weights from disk. Nothing here ever runs code that a file carries."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from resight.errors import WeightsError
from resight.runs import CARD, WEIGHTS, Run
from resight.runs.plain_json import read_json

SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth", ".th", ".bin", ".tar")
SUFFIXES = (SAFETENSORS, *PICKLED)

WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "model", "net", "weights", "module"),
)
"""Where training programs put the weights inside their checkpoints; averaged ones are taken first."""

_CLASS_NAMES = ("classes", "class_names", "class_to_idx")


_DEEPEST = 8  # wrapping dicts; a file can hold a dict that contains itself

METADATA = "resight"
"""The entry of a Run's model.safetensors that says what it is: one for all, since several have no fixed order."""


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors of a weights file or of a Run directory, and what else the file says about them.

    Reads ``.safetensors``, ``.pt``, ``.pth``, ``.th``, ``.bin`` and ``.tar`` (PyTorch's zip and older
    formats, through ``weights_only=True``, with no fallback). Floating-point tensors come back as float32 on
    the CPU, others as they are; the names are the file's own. Of wrapping dicts the entries in ``WRAPPERS``
    are opened, and the second result holds their plain values: ``classes`` (list of str), ``arch``, ``epoch``
    …, and under ``wrapper`` which was taken. A Run gives ``architecture``, ``options``, ``classes``,
    ``geometry``, ``mean``, ``std``.

    Raises WeightsError for a file that is missing, damaged, of another kind, or that holds more than plain
    data; RunError for a damaged Run.
    """
    path = Path(path)
    if path.is_dir():
        return _read_run(path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}", hint="check the path; tags look like: tv2_in1k")
    if path.suffix not in SUFFIXES:
        raise WeightsError(
            f"{path} is not a weights file: its name ends in '{path.suffix}', expected one of {', '.join(SUFFIXES)}"
        )
    if path.suffix == SAFETENSORS:
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _unwrap(_load_pickled(path), path)
    if not state:
        raise WeightsError(f"{path} holds no tensors; expected the state dict of a network")
    return {name: _plain(tensor) for name, tensor in state.items()}, _with_class_names(metadata)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()


def _read_run(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    if not (path / CARD).is_file():
        raise WeightsError(
            f"{path} is a directory, but not a Run: it has no {CARD}",
            hint="give a weights file, a Run or a tag",
        )
    run = Run.open(path, sealed=False)
    card = run.card
    state, _ = _read_safetensors(run.file(WEIGHTS))
    return {name: _plain(tensor) for name, tensor in state.items()}, {
        "architecture": card.architecture.name,
        "options": dict(card.architecture.options),
        "classes": list(card.classes),
        "task": card.task,
        "geometry": card.geometry,
        "mean": card.mean,
        "std": card.std,
    }


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata: dict[str, object] = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors: {error}", hint="fetch or copy the file again"
        ) from error
    for name in (*_CLASS_NAMES, METADATA):  # safetensors metadata are strings; lists and dicts travel as JSON
        if isinstance(text := metadata.get(name), str):
            try:
                metadata[name] = read_json(text)
            except ValueError as error:
                raise WeightsError(f"{path}: its metadata '{name}' is not JSON: {text[:60]!r}") from error
    ours = metadata.pop(METADATA, None)
    return state, metadata | (ours if isinstance(ours, dict) else {})


def _load_pickled(path: Path) -> object:
    try:
        with warnings.catch_warnings():  # PyTorch warns of file formats that are refused right here
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make the reader stumble over anything
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript program, expected the weights alone",
                hint="save them with the program that made it: torch.save(net.state_dict(), 'weights.pt')",
            ) from error
        raise WeightsError(
            f"{path} is damaged or not a PyTorch file ({type(error).__name__}: {str(error)[:200]})",
            hint="fetch or copy the file again",
        ) from error


def _refusal(path: Path, error: Exception) -> WeightsError:
    """What a file that the restricted reader stopped at contains, in plain words."""
    found = re.search(r"GLOBAL ([\w.]+)|function (?:call )?([\w.]+\.[\w.]+)", str(error))
    if found is None:
        return WeightsError(f"{path} is damaged, or not a file that PyTorch wrote", hint="fetch or copy the file again")
    return WeightsError(
        f"{path} holds more than tensors: it asks for '{found[1] or found[2]}'. Loading that could run any "
        "code, so it was refused, and nothing of it was run",
        hint="if you trust it: torch.save(net.state_dict(), 'weights.pt') in the program that made it",
    )


def _unwrap(content: object, path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Finds the state dict inside wrapping dicts; plain values on the way become metadata."""
    metadata: dict[str, object] = {}
    opened: list[str] = []
    while isinstance(content, Mapping):
        if len(opened) > _DEEPEST:
            raise WeightsError(f"{path} wraps its weights in more than {_DEEPEST} dicts, or in itself: refused")
        named = {str(key): value for key, value in content.items()}
        wrapper = next((w for w in WRAPPERS if named.get(w) and isinstance(named[w], Mapping)), None)
        metadata.update({k: v for k, v in named.items() if _is_simple(v)})
        if wrapper is None:
            if opened:
                metadata["wrapper"] = ".".join(opened)
            return {k: v for k, v in named.items() if isinstance(v, Tensor)}, metadata
        opened.append(wrapper)
        content = named[wrapper]
    raise WeightsError(
        f"{path} holds a {type(content).__name__}, expected a dict of named tensors",
        hint="save it with torch.save(net.state_dict(), 'weights.pt')",
    )


def _is_simple(value: object) -> bool:
    """Numbers, text, and lists and dicts of text: what is worth keeping of a checkpoint."""
    if isinstance(value, list | tuple):
        return all(isinstance(item, str | int | float) for item in value)
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(k, str) and isinstance(v, str | int) for k, v in value.items())
    return isinstance(value, str | int | float | bool)


def _with_class_names(metadata: dict[str, object]) -> dict[str, object]:
    """Brings the spellings of class names to one: ``classes``, a list of str in the order of the outputs."""
    for name in _CLASS_NAMES:
        found: Any = metadata.get(name)
        if isinstance(found, Mapping):  # class_to_idx
            found = sorted(found, key=found.__getitem__)
        if isinstance(found, list | tuple) and found:
            return metadata | {"classes": [str(item) for item in found]}
    return metadata
