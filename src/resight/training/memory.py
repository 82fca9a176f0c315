"""The most memory that this process has had."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Peak resident bytes of this process since it started.

    Linux: VmHWM, which unlike ``ru_maxrss`` knows nothing of the process that started this one. Windows: the peak
    working set. Elsewhere ``ru_maxrss``.
    """
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def resident() -> int:
    """Resident bytes now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> bool:
    """Makes ``peak_memory`` begin again, on Linux; returns whether it could."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
