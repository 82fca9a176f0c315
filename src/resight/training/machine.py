"""What the machine offers and how this process uses it: device, precision, threads, memory allocator."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from resight.errors import UsageError
from resight.recipes.config import TrainConfig


def environment() -> dict[str, str]:
    """Versions that answers depend on, for run.json."""
    from importlib.metadata import version

    names = ("resight", "torch", "torchvision", "numpy", "pillow", "onnx", "onnxruntime")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in names},
    }


_TRIM, _MMAP, _MOST = -1, -3, 2**30  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and the largest that they may be


def keep_memory() -> bool:
    """Stops glibc from returning large blocks to the system after each step, which costs page faults.

    Returns whether it was done: only glibc on Linux has this; elsewhere nothing changes.
    """
    return _mallopt(_MMAP, _MOST) and _mallopt(_TRIM, _MOST)


def return_memory() -> bool:
    """The opposite: every block of 64 KiB or more is the system's again when it is freed.

    With checkpointing, blocks of many sizes come and go between those that stay, and glibc's heap grew to 2.3 to 2.7
    times of what was used; so it takes what is used (docs/deeper.md). Returns whether it was done.
    """
    return _mallopt(_MMAP, 2**16) and _mallopt(_TRIM, 2**17)


def _mallopt(option: int, value: int) -> bool:
    if not _has_glibc():
        return False
    return bool(ctypes.CDLL(None).mallopt(option, value))


def _has_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def give_memory_back() -> None:
    """Returns to the system what was freed and kept by glibc (see ``keep_memory``): other steps need it now."""
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def set_threads(threads: int) -> int:
    """Sets and returns the number of threads that PyTorch computes with.

    0 takes what OMP_NUM_THREADS says (torchrun sets it), or all cores that the process may use.
    """
    if threads:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cores())
    return torch.get_num_threads()


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def resolve_device(name: str) -> str:
    """``auto`` becomes cuda, mps or cpu. Raises UsageError for a device that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        usable = ", ".join(device for device, yes in there.items() if yes)
        raise UsageError(f"device '{name}' is not available on this machine", hint=f"use one of: {usable}")
    return name


def resolve_precision(name: str, device: str) -> str:
    """``auto``: bf16 where a GPU has it, fp16 on older ones, else fp32.

    Raises UsageError for fp16 without a GPU: PyTorch has no gradient scaling there.
    """
    if name == "auto":
        if device != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if name == "fp16" and device != "cuda":
        raise UsageError(f"precision fp16 needs a CUDA device, not {device}", hint="use --precision fp32")
    return name


def accelerator_for(config: TrainConfig) -> Accelerator:
    """Devices, precision, backward and gathering, by Accelerate; one process, or as torchrun started them."""
    mixed = {"fp32": "no"}.get(config.precision, config.precision)
    # Accelerate keeps the first device and precision for the whole process: a second training may have others.
    AcceleratorState._reset_state(reset_partial_state=int(os.environ.get("WORLD_SIZE", "1")) == 1)
    return Accelerator(cpu=config.device == "cpu", mixed_precision=mixed)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or in PyTorch's CPU allocator."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )
