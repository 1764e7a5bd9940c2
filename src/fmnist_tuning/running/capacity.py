"""How many trainings this process may run at a time: its cores and its memory, in a container too.

Containers limit both by control groups: see the kernel's documentation of cgroup v1 and v2.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WORKER_BYTES: Final = 1 << 30
"""What a training needs at most with the settings of the six experiments (measured: 990 MiB)."""

_UNLIMITED: Final = 1 << 60  # cgroup v1 says it by a number near the largest


def workers(root: Path = Path("/")) -> int:
    """As many as there are cores and memory for, at least one; `root` holds `proc` and `sys`."""
    memory = _memory(root)
    fitting = cores(root) if memory is None else min(cores(root), memory // WORKER_BYTES)
    return max(fitting, 1)


def cores(root: Path = Path("/")) -> int:
    """How many processors this process may use, and is given time on."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    allowed = float(len(os.sched_getaffinity(0)))
    for group in _groups(root, "cpu"):
        quota, period = _text(group / "cpu.max").partition(" ")[::2]
        if not quota:  # version 1
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            allowed = min(allowed, int(quota) / int(period))
    return max(int(allowed), 1)


def _memory(root: Path) -> int | None:
    """Bytes that are free for this process; None if the system does not say."""
    lines = dict(line.partition(":")[::2] for line in _text(root / "proc/meminfo").splitlines())
    available = lines.get("MemAvailable", "").removesuffix("kB").strip()
    free = [int(available) * 1024] if available.isdecimal() else []
    for group in _groups(root, "memory"):
        limit, used = _text(group / "memory.max"), _text(group / "memory.current")
        if not limit:
            limit = _text(group / "memory.limit_in_bytes")
            used = _text(group / "memory.usage_in_bytes")
        if limit.isdecimal() and used.isdecimal() and int(limit) < _UNLIMITED:
            needed = int(used) - _given_back(group)
            free.append(max(int(limit) - needed, 0))
    return min(free, default=None)


def _given_back(group: Path) -> int:
    """Bytes of files that the kernel keeps for a group, and drops when it needs the memory."""
    counts = dict(line.split(" ", 1) for line in _text(group / "memory.stat").splitlines())
    found = counts.get("total_inactive_file") or counts.get("inactive_file", "")  # v1 or v2
    return int(found) if found.isdecimal() else 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        controllers, _, own = line.partition(":")[2].partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = mounted / own.lstrip("/")
        # In a container the path may be that of the host, which is not there.
        while group != mounted.parent:
            yield group
            group = group.parent


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
