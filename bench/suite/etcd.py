"""Three nodes of etcd, and puts on them."""

import contextlib
import json
import urllib.request

from . import http
from .bench import run, wait_until
from .processes import Server, free_port

NODES = 3


class Etcd:
    """A cluster of etcd on loopback until the `with` block ends. Settings are etcd's own; each put is fsynced."""

    def __init__(self, bench):
        self.bench = bench
        self.folder = bench.folder("etcd")
        self.ports = [free_port() for _ in range(NODES)]
        self.peers = [free_port() for _ in range(NODES)]
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        cluster = ",".join(f"n{number}=http://127.0.0.1:{port}" for number, port in enumerate(self.peers))
        with contextlib.ExitStack() as stack:
            servers = []
            for number in range(NODES):
                client, peer = (f"http://127.0.0.1:{port}" for port in (self.ports[number], self.peers[number]))
                command = ["etcd", "--name", f"n{number}", "--data-dir", str(self.folder / f"n{number}")]
                command += ["--listen-client-urls", client, "--advertise-client-urls", client]
                command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
                command += ["--initial-cluster", cluster, "--logger", "zap", "--log-level", "error"]
                servers.append(stack.enter_context(Server(f"etcd-{number}", command, self.folder)))
            for server, port in zip(servers, self.ports):
                wait_until(f"{server.name} to be healthy", lambda: http.is_ok(port, "/health") or server.check())
            self.leader = wait_until("a leader of etcd", self.find_leader)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def find_leader(self):
        for port in self.ports:
            status = self.ask(port)
            if status["header"]["member_id"] == status.get("leader"):
                return port
        return None

    @staticmethod
    def ask(port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def version(self):
        return self.ask(self.leader)["version"]

    def puts(self, connections, seconds):
        """All connections go to the leader: what reaches another node takes one hop more."""
        command = [self.bench.program("peer-etcd-load"), "--endpoint", f"127.0.0.1:{self.leader}"]
        out = run([*command, "--connections", str(connections), "--seconds", str(seconds)])
        return json.loads(out) | {"errors": 0}
