"""What was measured on: the machine, its disk, and the commit."""

import datetime
import os
import pathlib
import platform
import statistics
import subprocess
import time

from .bench import ROOT, run

# What a run writes itself does not make the tree another one.
OWN = ("bench/results.json", "docs/BENCHMARKS.md")
SYNCS = 200


def describe(scratch):
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "system": system(),
        "filesystem": run(["stat", "--file-system", "--format", "%T", str(scratch)]).strip(),
        "fsync_us": fsync_us(scratch),
    }


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def system():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.system()


def fsync_us(scratch):
    """The median time of one small append and its fdatasync, in the folder where all databases are."""
    path = scratch / "fsync.probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    path.unlink()
    return round(statistics.median(times) * 1e6, 1)


def commit():
    """The commit, and whether the tree held something else."""
    try:
        name = run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
        status = run(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=normal"])
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": True}
    changed = [line[3:] for line in status.splitlines() if line[3:] not in OWN]
    return {"commit": name, "dirty": bool(changed)}


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
