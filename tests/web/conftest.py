"""A package of onnxruntime-web of the right shape, and a server on a free port."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from w2v_edge import data
from w2v_edge.latency.measure.plan import open_bundles
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.web.assets import ORT_WEB_FILES, Asset, collect
from w2v_edge.web.inbox import Inbox
from w2v_edge.web.server import Desk


@dataclass(frozen=True)
class Answer:
    """Status, headers and content of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Sends requests to a desk.

    Attributes:
        desk: the server.
        received: what it was called back with.
    """

    def __init__(self, desk: Desk, received: list[tuple[str, Path, BenchmarkReport]]) -> None:
        self.desk = desk
        self.received = received

    def __call__(self, method: str, name: str, body: bytes | None = None, **headers: str) -> Answer:
        """Request a path under the token; with a slash at the beginning, any path."""
        path = name if name.startswith("/") else f"/{self.desk.token}/{name}"
        connection = http.client.HTTPConnection("127.0.0.1", self.desk.port, timeout=30)
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        found = Answer(answer.status, dict(answer.headers), answer.read())
        connection.close()
        return found


@pytest.fixture(scope="session")
def ort_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of npm's onnxruntime-web, without its content."""
    folder = tmp_path_factory.mktemp("npm") / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in ORT_WEB_FILES:
        (folder / "dist" / name).write_text(f"// {name}")
    return folder


@pytest.fixture(scope="session")
def assets(ort_web: Path) -> dict[str, Asset]:
    """What is served with the shipped bundle."""
    named = open_bundles([data.TINY_INT8])
    return collect(named, ort_web / "dist", command="w2v-edge serve tiny-int8", version="1.0")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """`serving(assets)`: a client of a new server, whose reports go to `reports`."""
    with ExitStack() as stack:

        def start(assets: Mapping[str, Asset], **options: Any) -> Client:
            received: list[tuple[str, Path, BenchmarkReport]] = []
            desk = Desk(
                "127.0.0.1",
                0,
                assets,
                Inbox(tmp_path / "reports"),
                token="secret",  # noqa: S106 - of a test
                received=lambda *x: received.append(x),
                **options,
            )
            stack.enter_context(desk)
            threading.Thread(target=desk.serve_forever, daemon=True).start()
            stack.callback(desk.shutdown)
            return Client(desk, received)

        yield start
