"""Checkpoints: everything that an exact resume needs, atomic and hashed.

``checkpoints/step-00000123-e0004/`` (123 updates done, 4 epochs validated) holds weights.safetensors,
optimizer.safetensors, average.safetensors (where averaging is on), state.json, and manifest.json with the SHA-256
of the others. A directory is made under a temporary name, flushed, and renamed when it is whole: one with its
final name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from operator import methodcaller
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from resight.errors import RunError
from resight.runs import CHECKPOINTS, Run
from resight.runs.plain_json import read_json
from resight.runs.storage import fsync_directory, sha256_of, storage_errors, write_file

MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{8,})-e(\d{4,})")
_NEEDED = {"weights.safetensors", "optimizer.safetensors", "state.json"}


def checkpoint_name(step: int, epochs: int) -> str:
    return f"step-{step:08d}-e{epochs:04d}"


@dataclass
class State:
    """Where training is. ``history`` has one entry per validated epoch, and first one of epoch 0 where the start is a
    candidate too; the rest belongs to the open epoch."""

    step: int = 0
    micro_batch: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_step: int = -1
    stopped_early: bool = False
    scaler: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs that are validated; what training started from, an entry of epoch 0, is none."""
        return self.history[-1]["epoch"] if self.history else 0

    @property
    def name(self) -> str:
        """The directory's name. A step is saved at most once before and once after its validation; only the start,
        whose validation changes no weight, keeps its name and is replaced."""
        return checkpoint_name(self.step, self.epochs)

    @property
    def best_name(self) -> str | None:
        """The checkpoint made right after the best validation so far."""
        epochs = [entry["epoch"] for entry in self.history if entry["step"] == self.best_step]
        return checkpoint_name(self.best_step, epochs[0]) if epochs else None


@dataclass
class Checkpoint:
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor]
    state: State


def optimizer_tensors(optimizer: torch.optim.Optimizer, net: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state under ``kind/parameter name``, so that it can be stored without pickle."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    return {
        f"{kind}/{names[parameter]}": value.detach()
        for parameter, values in optimizer.state.items()
        for kind, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of :func:`optimizer_tensors`."""
    parameters = dict(net.named_parameters())
    fused = {id(p) for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
    optimizer.state.clear()
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        parameter = parameters[name]
        counts_here = kind == "step" and id(parameter) not in fused  # only fused steps count on the device
        on_device = value if counts_here else value.to(parameter.device)
        if value.ndim == 4:
            on_device = on_device.contiguous(memory_format=torch.channels_last)
        optimizer.state[parameter][kind] = on_device


def save_checkpoint(directory: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes the state's checkpoint and removes old ones. Raises StorageError; what was there stays intact."""
    final = directory / checkpoint.state.name
    temporary = final.with_suffix(".tmp")
    contents = {
        "weights.safetensors": save(_plain(checkpoint.weights)),
        "optimizer.safetensors": save(_plain(checkpoint.optimizer)),
        "average.safetensors": save(_plain(checkpoint.average)) if checkpoint.average else None,
        "state.json": json.dumps(asdict(checkpoint.state), allow_nan=False).encode(),
    }
    present = {name: data for name, data in contents.items() if data is not None}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in present.items()}
    with storage_errors(final, needed=sum(map(len, present.values()))):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, data in {**present, MANIFEST: json.dumps(hashes).encode()}.items():
                write_file(temporary / name, methodcaller("write", data))
            fsync_directory(temporary)
            if final.exists():  # a damaged copy that was refused before
                _remove(final)
            os.replace(temporary, final)
            fsync_directory(directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        prune(directory, final, keep, checkpoint.state.best_name)
    return final


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def found(directory: Path) -> list[Path]:
    """Complete checkpoints, newest first: by step, not by clock."""
    if not directory.is_dir():
        return []
    return sorted((p for p in directory.iterdir() if _NAME.fullmatch(p.name)), key=_moment, reverse=True)


def _moment(path: Path) -> tuple[int, int]:
    """Step and epoch of a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2])


def prune(directory: Path, newest: Path, keep: int, best: str | None) -> None:
    """Removes all but ``newest``, the ``keep`` − 1 before it and the best, and leftovers of interrupted saves.

    Later ones than ``newest``, which was just written, are damaged ones that training did not go on from: they
    must not count as kept.
    """
    known = found(directory)
    kept = [path for path in known if _moment(path) <= _moment(newest)][:keep]
    for path in known:
        if path not in kept and path.name != best:
            _remove(path)
    for leftover in [*directory.glob("step-*.tmp"), *directory.glob("step-*.old")]:
        shutil.rmtree(leftover)


def _remove(path: Path) -> None:
    """Renamed first: a removal that is cut short must not leave a directory that looks complete."""
    doomed = path.with_suffix(".old")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads one checkpoint. Raises RunError when a file is missing or does not have its hash."""
    try:
        hashes: dict[str, str] = read_json((path / MANIFEST).read_bytes())
        if not set(hashes) >= _NEEDED:
            raise RunError(f"checkpoint {path.name} is damaged: {MANIFEST} does not name all files")
        for name, expected in hashes.items():
            if sha256_of(path / name) != expected:
                raise RunError(f"checkpoint {path.name} is damaged: {name} does not have its recorded hash")
        average = path / "average.safetensors"
        return Checkpoint(
            weights=load_file(path / "weights.safetensors"),
            optimizer=load_file(path / "optimizer.safetensors"),
            average=load_file(average) if average.name in hashes else {},
            state=State(**read_json((path / "state.json").read_bytes())),
        )
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"checkpoint {path.name} is damaged: {error}") from error


def usable(directory: Path) -> Iterator[tuple[Path, Checkpoint | RunError]]:
    """Checkpoints from the newest on, each loaded, or the error that says why it is refused."""
    for path in found(directory):
        try:
            yield path, load_checkpoint(path)
        except RunError as error:
            yield path, error


def newest(run: Run, say: Callable[[str], Any]) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over. None where there is none."""
    damaged = False
    for path, checkpoint in usable(run.path / CHECKPOINTS):
        if isinstance(checkpoint, Checkpoint):
            if damaged:
                say(f"going on from {path.name}, the newest that is whole")
            return checkpoint
        damaged = True
        say(f"{checkpoint.message} ({path})")
    if damaged:
        say("no checkpoint is whole: training starts from the beginning")
    return None
