"""The peers of a cached read: servers that answer the same bytes, and caching proxies in front of the store."""

import contextlib
import os
import subprocess

from . import http
from .bench import run, wait_until
from .processes import Server, free_port
from .store import Store

# Found by what they are: some are in sbin, which is not on everybody's path.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

NGINX = """\
daemon off;
{user}
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_temp_path {folder}/proxy;
    proxy_cache_path {folder}/cache keys_zone=books:10m inactive=1h;
    open_file_cache max=1000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://127.0.0.1:{store};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache books;
            proxy_cache_valid 200 1h;
            proxy_ignore_headers Cache-Control Expires;
        }}
    }}
}}
"""
HAPROXY = """\
global
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
cache books
    total-max-size 64
    max-age 3600
frontend public
    bind 127.0.0.1:{port} backlog 4096
    default_backend store
backend store
    http-request cache-use books
    http-response set-header Cache-Control max-age=3600
    http-response cache-store books
    server store 127.0.0.1:{store}
"""
VARNISH = """\
vcl 4.1;
backend store {{ .host = "127.0.0.1"; .port = "{store}"; }}
sub vcl_backend_response {{
    set beresp.ttl = 1h;
    return (deliver);
}}
"""


class Contestant:
    """Who answers lookups: where, and by which processes."""

    def __init__(self, port, pids):
        self.port = port
        self.pids = pids

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/lookup/1"


@contextlib.contextmanager
def contest(bench):
    """The store, then all peers; each is there when this gives them, and gone after it."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(bench))
        folder = bench.folder("caches")
        answer = record(store, folder)
        contestants = {"bookends": Contestant(store.port, lambda: [store.pid("frontend-1")])}
        for name in ("hyper", "axum"):
            command = [bench.program(f"peer-{name}"), str(answer)]
            contestants[name] = plain(stack, name, command, folder)
        for name, start in {"nginx": nginx, "haproxy": haproxy, "varnish": varnish}.items():
            own = folder / name
            own.mkdir()
            port = free_port()
            command = start(own, port, store.port)
            server = stack.enter_context(Server(name, command, own, env=os.environ | {"PATH": PATH}))
            wait_until(f"{name} to listen", lambda: server.listens(port))
            wait_until(f"{name} to pass a lookup on", lambda: http.is_ok(port, "/lookup/1"))
            contestants[name] = Contestant(port, server.pids)
        yield store, contestants


def record(store, folder):
    """Writes the store's own cached answer into a file for the plain servers."""
    for _ in range(2):
        _, headers, body = http.get(store.port, "/lookup/1")
    path = folder / "answer"
    head = "".join(f"{name.lower()}: {value}\n" for name, value in headers)
    path.write_bytes(head.encode() + b"\n" + body)
    return path


def plain(stack, name, command, folder):
    server = stack.enter_context(Server(name, command, folder, stdout=subprocess.PIPE, text=True))
    line = server.process.stdout.readline()
    if not line:
        server.process.wait()
        server.check()
    return Contestant(int(line.rsplit(":", 1)[1]), server.pids)


def nginx(folder, port, store):
    path = folder / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    path.write_text(NGINX.format(folder=folder, port=port, store=store, user=user))
    return ["nginx", "-p", str(folder), "-c", str(path)]


def haproxy(folder, port, store):
    path = folder / "haproxy.cfg"
    path.write_text(HAPROXY.format(port=port, store=store))
    return ["haproxy", "-db", "-f", str(path)]


def varnish(folder, port, store):
    path = folder / "books.vcl"
    path.write_text(VARNISH.format(store=store))
    options = ["-j", "none", "-s", "malloc,64m", "-n", str(folder / "work")]
    return ["varnishd", "-F", *options, "-a", f"127.0.0.1:{port}", "-f", str(path)]


def versions():
    """What the proxies say that they are."""
    environment = os.environ | {"PATH": PATH}
    found = {}
    for name, command in {"nginx": "nginx -v", "haproxy": "haproxy -v", "varnish": "varnishd -V"}.items():
        text = run(["sh", "-c", f"{command} 2>&1"], env=environment)
        found[name] = text.splitlines()[0]
    return found
