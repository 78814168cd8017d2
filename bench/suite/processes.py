"""Processes: starting and ending those of peers, and what the kernel counts for any of them."""

import os
import pathlib
import signal
import socket
import subprocess

from .bench import Failure

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process that runs until the `with` block ends, whatever happens in it."""

    def __init__(self, name, command, folder, stop=signal.SIGTERM, **options):
        self.name = name
        self.log = folder / f"{name}.log"
        self.stop = stop
        with self.log.open("wb") as log:
            options = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL} | options
            # A session of its own, so that Ctrl-C reaches it through this program's own tidying up.
            self.process = subprocess.Popen(command, start_new_session=True, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(self.stop)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in self.pids():
                    kill(pid, signal.SIGKILL)
                self.process.wait()

    def check(self):
        """Fails if the process has ended. Gives False, to be used in conditions."""
        if self.process.poll() is not None:
            text = self.log.read_text(errors="replace")[-2000:]
            raise Failure(f"{self.name} ended with {self.process.returncode}: {text}")
        return False

    def listens(self, port):
        """Whether it answers on a port yet."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0 or self.check()

    def pids(self):
        return family(self.process.pid)


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def family(pid):
    """A process and all that descend from it."""
    children = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(fields(entry.read_text())[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def fields(stat):
    """The fields of /proc/PID/stat from the third (the state) on; the second may hold spaces."""
    return stat[stat.rindex(")") + 2:].split()


def cpu_seconds(pids):
    """CPU time that each of these processes has taken so far, in user and kernel; those that have ended are left out."""
    found = {}
    for pid in pids:
        try:
            stat = fields(pathlib.Path(f"/proc/{pid}/stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[pid] = (int(stat[11]) + int(stat[12])) / TICKS
    return found


def cpu_used(before, after):
    """What was taken between two looks, by all that were there at the second."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Failure(f"process {pid} has no resident memory: it has ended")
