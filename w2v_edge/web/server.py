"""The server: files by exact path, and reports by POST, both under a token.

Threads and WebGPU exist in secure contexts only: localhost, or https.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import socketserver
import ssl
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from w2v_edge.errors import InputError, W2VEdgeError
from w2v_edge.files import open_regular
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.web.assets import Asset
from w2v_edge.web.inbox import MAX_REPORT_BYTES, Inbox

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Characters of a token, which are not mistaken for each other when they are typed on a phone."""

TOKEN_LENGTH = 10
"""50 bits: too many to be tried over a network."""

REPORTS = "reports"
"""Path to which the page posts reports."""

TIMEOUT_S = 30.0

HEADERS = {
    # Both are required for shared memory, and so for threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # The address holds the token.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Received = Callable[[str, Path, BenchmarkReport], None]
"""Called with the sender's address, the written file and the report."""


def make_token() -> str:
    """Return a random token."""
    return "".join(secrets.choice(ALPHABET) for _ in range(TOKEN_LENGTH))


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a certificate.

    Raises:
        InputError: certificate and key cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password OpenSSL would ask for one.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        why = error.strerror or error
        raise InputError(
            f"{certificate}, {key}: {why}; expected a certificate and its key without a password, "
            "both as PEM"
        ) from error
    return context


class Desk(socketserver.ThreadingTCPServer):
    """A server of assets that takes reports; ready when it is made.

    Args:
        host: address to bind.
        port: TCP port; 0 for any free one.
        assets: by path, without a slash at the beginning.
        inbox: takes the reports.
        token: first part of every path.
        tls: for https; None for http.
        received: called after each report.

    Raises:
        InputError: the address cannot be bound.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        host: str,
        port: int,
        assets: Mapping[str, Asset],
        inbox: Inbox,
        *,
        token: str,
        tls: ssl.SSLContext | None = None,
        received: Received = lambda _who, _path, _report: None,
    ) -> None:
        self.assets, self.inbox, self.token, self.received = assets, inbox, token, received
        self.scheme = "https" if tls else "http"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__((host, port), Handler)
        except OSError as error:
            raise InputError(
                f"{host} port {port}: {error.strerror or error}; choose another --host or --port"
            ) from error
        if tls:
            # The handshake happens in the thread of the request: a silent client holds up no other.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self.server_address[1])

    def url(self, host: str, page: str = "") -> str:
        """Return the address of a page, for a device that knows this one as `host`."""
        name = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{name}:{self.port}/{self.token}/{page}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; print other errors."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "w2v-edge"
    sys_version = ""
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        """Send an asset."""
        self._send_asset()

    def do_HEAD(self) -> None:
        """Send the headers of an asset."""
        self._send_asset()

    def do_POST(self) -> None:
        """Take a report."""
        size = self.headers.get("Content-Length", "")
        if self._name() != REPORTS:
            self._refuse(HTTPStatus.NOT_FOUND, "nothing here takes data")
        elif not self.headers.get("Content-Type", "").startswith("application/json"):
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        elif not (size.isascii() and size.isdecimal()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        elif len(size) > len(str(MAX_REPORT_BYTES)) or int(size) > MAX_REPORT_BYTES:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"found {size:.20} bytes, expected at most {MAX_REPORT_BYTES}; measure less",
            )
        else:
            self._take(self.rfile.read(int(size)))

    def end_headers(self) -> None:
        """Add the headers of all answers."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log no requests."""

    @property
    def _desk(self) -> Desk:
        return cast("Desk", self.server)

    def _name(self) -> str | None:
        """Return the path after the token; None if the token is wrong."""
        token, slash, name = urlsplit(self.path).path.removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(), self._desk.token.encode())
        return unquote(name) if known and slash else None

    def _take(self, content: bytes) -> None:
        try:
            path, report = self._desk.inbox.add(content)
        except W2VEdgeError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self._refuse(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"the desk cannot write the report: {error.strerror or error}",
            )
        else:
            self._desk.received(self.client_address[0], path, report)
            self._answer(HTTPStatus.CREATED, {"report": path.name})

    def _send_asset(self) -> None:
        name = self._name()
        asset = None if name is None else self._desk.assets.get(name)
        if asset is None:
            self._refuse(HTTPStatus.NOT_FOUND, "nothing here; open the address that serve printed")
            return
        try:
            stream, size, tag = _open(asset)
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "the file is gone; start serve again")
            return
        with stream:
            same = tag == self.headers.get("If-None-Match")
            self.send_response(HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK)
            self.send_header("ETag", tag)
            if not same:
                self.send_header("Content-Type", asset.type)
                self.send_header("Content-Length", str(size))
            self.end_headers()
            if not same and self.command != "HEAD":
                shutil.copyfileobj(stream, self.wfile)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        # What the client still sends is not read.
        self.close_connection = True
        self._answer(status, {"error": why})

    def _answer(self, status: HTTPStatus, plain: dict[str, str]) -> None:
        body = json.dumps(plain).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _open(asset: Asset) -> tuple[BinaryIO, int, str]:
    """Return an asset's content, size in bytes and entity tag."""
    if isinstance(asset.source, bytes):
        return BytesIO(asset.source), len(asset.source), f'"{hash(asset.source):x}"'
    stream = open_regular(asset.source)
    found = asset.source.stat()
    return stream, found.st_size, f'"{found.st_size:x}-{found.st_mtime_ns:x}"'
