"""The memory of this process: the most that it has had, and what is left to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_GROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
_V2, _V1 = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")


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


def available(groups: Path = _GROUPS, root: Path = _ROOT) -> int:
    """Bytes that this process may still take: what the machine has, or less where a control group (a container, a
    batch system) allows less. What a group holds of files counts as free, as it does for the machine.
    """
    return min([int(psutil.virtual_memory().available), *(left for left in _left(groups, root))])


def _left(groups: Path, root: Path) -> Iterator[int]:
    """What each memory group above this process has left, versions 1 and 2 of Linux's control groups."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return  # no Linux
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base, (limit, usage) = (root, _V2) if not controllers else (root / "memory", _V1)
        folder = base / name.strip("/")
        for group in (folder, *folder.parents):
            if group == base.parent:
                break
            try:
                most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
                stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue  # the first group of a machine, and one that a container cannot see, say nothing
            if most != "max":
                yield max(0, int(most) - used + int(stat.get("inactive_file", 0)))
