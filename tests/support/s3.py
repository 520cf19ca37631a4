"""Real S3 servers for the tests, and a proxy before them that can fail in every way a network can.

rclone checks signatures and Content-MD5, has no versions and no locks; moto has versions and enforces locks,
and accepts any signature and any digest.
"""

import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from maint.config.model import RepositoryConfig

ACCESS_KEY, SECRET_KEY = "tester", "not-a-secret-at-all"
MIB = 1 << 20


@dataclass(frozen=True)
class Store:
    """A running S3 server."""

    name: str  #: "rclone" | "moto"
    endpoint: str
    ca_file: Path | None = None
    root: Path | None = None  #: where rclone keeps the buckets as folders

    @cache  # noqa: B019 - there are few stores, and making a client takes long
    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            verify=str(self.ca_file) if self.ca_file else None,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def bucket(self, **options: Any) -> str:
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name, **options)
        return name

    def config(self, bucket: str, **changes: Any) -> RepositoryConfig:
        given: dict[str, Any] = {
            "name": "offsite",
            "url": f"s3://{bucket}/some/prefix",
            "endpoint": self.endpoint,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "part_size": 5 * MIB,
        }
        if self.ca_file:
            given["ca_file"] = self.ca_file
        return RepositoryConfig(**(given | changes))


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and a certificate for 127.0.0.1."""

    ca_file: Path
    cert: Path
    key: Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    found = Authority(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(found.ca_file))
    cert = ca.issue_cert("127.0.0.1", "localhost")
    cert.private_key_pem.write_to_path(str(found.key))
    for pem in cert.cert_chain_pems:
        pem.write_to_path(str(found.cert), append=True)
    return found


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    root = tmp_path_factory.mktemp("rclone")
    with _rclone(root) as port:
        yield Store("rclone", f"http://127.0.0.1:{port}", root=root)


@pytest.fixture(scope="session")
def rclone_tls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Store]:
    root = tmp_path_factory.mktemp("rclone-tls")
    with _rclone(root, "--cert", str(authority.cert), "--key", str(authority.key)) as port:
        yield Store("rclone", f"https://127.0.0.1:{port}", authority.ca_file, root)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with _moto(tmp_path_factory.mktemp("moto")) as port:
        yield Store("moto", f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def moto_tls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Store]:
    certificate = ("--ssl-cert", str(authority.cert), "--ssl-key", str(authority.key))
    with _moto(tmp_path_factory.mktemp("moto-tls"), *certificate) as port:
        yield Store("moto", f"https://127.0.0.1:{port}", authority.ca_file)


def program(name: str) -> str:
    """Return a program of this environment, on PATH or not."""
    return shutil.which(name, path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}") or name


@contextmanager
def _rclone(root: Path, *options: str) -> Iterator[int]:
    port = free_port()
    argv = [program("rclone"), "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
    with _server([*argv, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", *options], root.parent / "rclone.log", port):
        yield port


@contextmanager
def _moto(folder: Path, *options: str) -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *options]
    with _server(argv, folder / "moto.log", port):
        yield port


@contextmanager
def _server(argv: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL) as child:
        try:
            _wait_for(port, child, log)
            yield
        finally:
            child.kill()


def _wait_for(port: int, child: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if child.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail(f"{child.args!r} does not listen:\n{log.read_text()}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# -- the proxy ---------------------------------------------------------------------------------------------


@dataclass
class Exchange:
    """One request and, once it was forwarded, its answer; as bytes."""

    operation: str  #: put, part, begin, complete, abort, delete, head, get, list, other
    head: bytes
    body: bytes
    client: socket.socket
    forward: Callable[[bytes], tuple[bytes, bytes]]  #: a request body -> head and body of the answer

    def answer(self, head: bytes, body: bytes) -> None:
        self.client.sendall(head + body)


Fault = Callable[[Exchange], None]


def says(status: int, code: str, seconds: float = 0) -> Fault:
    """Answer with an error, without asking the store."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        body = f"<Error><Code>{code}</Code><Message>as planned</Message></Error>".encode()
        body = b"" if exchange.operation == "head" else body
        exchange.answer(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body)

    return act


def slow(seconds: float) -> Fault:
    """Wait before the store is asked."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer(*exchange.forward(exchange.body))

    return act


def cut_before(exchange: Exchange) -> None:
    """Reset the connection; the store never hears of the request."""
    exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def cut_after(exchange: Exchange) -> None:
    """The store did what was asked, but its answer is lost."""
    exchange.forward(exchange.body)
    cut_before(exchange)


def cut_answer(at: int) -> Fault:
    """End the answer after so many bytes of its body."""

    def act(exchange: Exchange) -> None:
        head, body = exchange.forward(exchange.body)
        exchange.answer(head, body[:at])

    return act


def changes_request(exchange: Exchange) -> None:
    """One bit of the body changes on its way to the store."""
    changed = bytearray(exchange.body)
    changed[len(changed) // 2] ^= 1
    exchange.answer(*exchange.forward(bytes(changed)))


def changes_answer(exchange: Exchange) -> None:
    """One bit of the body changes on its way back."""
    head, body = exchange.forward(exchange.body)
    changed = bytearray(body)
    changed[len(changed) // 2] ^= 1
    exchange.answer(head, bytes(changed))


def replaces(header: bytes, value: bytes) -> Fault:
    """The answer says something else in one header."""

    def act(exchange: Exchange) -> None:
        head, body = exchange.forward(exchange.body)
        lines = head.split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(header.lower() + b":")]
        exchange.answer(b"\r\n".join([kept[0], header + b": " + value, *kept[1:]]), body)

    return act


@dataclass
class Proxy:
    """Stands between maint and a store."""

    store: Store
    endpoint: str = ""
    seen: list[str] = field(default_factory=list)  #: the operations asked for
    _plan: list[tuple[str, Fault, int]] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def plan(self, operation: str, fault: Fault, times: int = 1, *, skip: int = 0) -> None:
        """Let the next `times` requests of this kind meet the fault, after `skip` that do not."""
        if skip:
            self._plan.append((operation, _passes, skip))
        self._plan.append((operation, fault, times))

    def heal(self) -> None:
        self._plan.clear()

    def config(self, bucket: str, **changes: Any) -> RepositoryConfig:
        return self.store.config(bucket, endpoint=self.endpoint, **changes)

    def next(self, operation: str) -> Fault:
        with self._lock:
            self.seen.append(operation)
            for index, (name, fault, times) in enumerate(self._plan):
                if name == operation:
                    self._plan[index : index + 1] = [(name, fault, times - 1)] if times > 1 else []
                    return fault
        return _passes


def _passes(exchange: Exchange) -> None:
    exchange.answer(*exchange.forward(exchange.body))


@contextmanager
def proxy_before(store: Store, tls: Authority | None = None) -> Iterator[Proxy]:
    """Start a proxy before a store that speaks plain HTTP; with `tls` the proxy itself speaks HTTPS."""
    proxy = Proxy(store)
    upstream = urlsplit(store.endpoint)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
    if tls and context:
        context.load_cert_chain(tls.cert, tls.key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client may go at any time
                client = context.wrap_socket(self.request, server_side=True) if context else self.request
                with client:
                    _handle(proxy, client, (upstream.hostname or "", upstream.port or 0))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _handle(proxy: Proxy, client: socket.socket, upstream: tuple[str, int]) -> None:
    head, rest = _read_head(client)
    if not head:
        return
    lines = [line for line in head.split(b"\r\n") if line]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if b"expect" in headers:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = rest + _read(client, int(headers.get(b"content-length", 0)) - len(rest))
    dropped = (b"expect:", b"connection:")
    kept = [line for line in lines if not line.lower().startswith(dropped)] + [b"Connection: close"]

    def forward(sent: bytes) -> tuple[bytes, bytes]:
        with socket.create_connection(upstream) as server:
            server.sendall(b"\r\n".join(kept) + b"\r\n\r\n" + sent)
            answer = b"".join(iter(lambda: server.recv(1 << 20), b""))
        found, _, content = answer.partition(b"\r\n\r\n")
        return found + b"\r\n\r\n", content

    method, target, _ = lines[0].decode().split(" ")
    operation = _operation(method, target)
    proxy.next(operation)(Exchange(operation, head, body, client, forward))


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(1 << 16)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _read(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := client.recv(min(1 << 20, size - len(data)))):
        data += more
    return bytes(data)


def _operation(method: str, target: str) -> str:
    query = urlsplit(target).query
    if method == "PUT":
        return "part" if "partNumber" in query else "put"
    if method == "POST":
        return "complete" if "uploadId" in query else "begin"
    if method == "DELETE":
        return "abort" if "uploadId" in query else "delete"
    if method == "HEAD":
        return "head"
    if "list-type" in query or "versions" in query:
        return "list"
    asks = ("versioning", "uploads", "retention", "object-lock", "legal-hold", "uploadId")
    return "other" if any(word in query for word in asks) else "get"


@pytest.fixture
def before_rclone(rclone: Store) -> Iterator[Proxy]:
    with proxy_before(rclone) as proxy:
        yield proxy


@pytest.fixture
def before_rclone_tls(rclone: Store, authority: Authority) -> Iterator[Proxy]:
    """It speaks HTTPS, with a certificate of `authority`; behind it rclone speaks HTTP."""
    with proxy_before(rclone, authority) as proxy:
        yield proxy


@pytest.fixture
def before_moto(moto: Store) -> Iterator[Proxy]:
    with proxy_before(moto) as proxy:
        yield proxy
