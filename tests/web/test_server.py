"""What the server gives, and what it refuses."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.latency import reports
from tests.web.conftest import Client
from w2v_edge import data
from w2v_edge.bundle import read_manifest
from w2v_edge.errors import InputError
from w2v_edge.latency.measure.inputs import Speech
from w2v_edge.latency.measure.plan import open_bundles
from w2v_edge.latency.report.files import read_report, to_json
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.web.assets import Asset, collect
from w2v_edge.web.inbox import MAX_REPORT_BYTES, Inbox
from w2v_edge.web.server import Desk, make_token

Serving = Callable[..., Client]
BUNDLE = "bundles/tiny-int8"
JSON = {"Content_Type": "application/json"}


@pytest.fixture
def client(serving: Serving, assets: dict[str, Asset]) -> Client:
    """A client of a server with the shipped bundle."""
    return serving(assets)


@pytest.fixture
def content() -> bytes:
    """A report as JSON."""
    return to_json(reports.usual()).encode()


def test_it_serves_pages_bundles_and_speech(client: Client) -> None:
    """The page, onnxruntime-web, all files of the manifest, and speech as samples."""
    assert client("GET", "").body == client("GET", "index.html").body
    assert b"bench/main.js" in client("GET", "bench.html").body
    assert client("GET", "vendor/ort.wasm.min.mjs").headers["Content-Type"] == "text/javascript"
    wasm = client("GET", "vendor/ort-wasm-simd-threaded.wasm")
    assert wasm.headers["Content-Type"] == "application/wasm"
    for name in ("manifest.json", *read_manifest(data.TINY_INT8).files):
        assert client("GET", f"{BUNDLE}/{name}").body == (data.TINY_INT8 / name).read_bytes()
    speech = Speech.read((), 16_000)
    assert client("GET", "speech-16000.f32").body == speech.samples.astype("<f4").tobytes()
    desk = json.loads(client("GET", "desk.json").body)
    assert desk["audio"]["sha256"] == speech.record.sha256
    assert [x["name"] for x in desk["bundles"]] == ["tiny-int8"]


def test_headers_isolate_the_page(client: Client) -> None:
    """Every answer has the headers that threads need, and none leaks the token."""
    for answer in (client("GET", ""), client("GET", "gone"), client("POST", "reports", b"")):
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_unchanged_file_is_sent_once(client: Client) -> None:
    """The entity tag of a file saves its content; HEAD has its size."""
    first = client("GET", f"{BUNDLE}/manifest.json")
    again = client("GET", f"{BUNDLE}/manifest.json", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    head = client("HEAD", f"{BUNDLE}/manifest.json")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(first.body)))


def test_nothing_else_is_served(client: Client) -> None:
    """No other file of the bundle's folder, no listing, no way out of it, nothing without token."""
    names = [
        *("bundles", "bundles/", f"{BUNDLE}", f"{BUNDLE}/", f"{BUNDLE}/gone.onnx"),
        *(f"{BUNDLE}/../tiny.pt", f"{BUNDLE}/%2e%2e/tiny.pt", f"{BUNDLE}/..%2ftiny.pt"),
        *("../../../etc/passwd", "/etc/passwd", "//etc/passwd", "reports", "reports/a.json"),
        *("/", "/secret", "/index.html", "/secre/index.html", "/SECRET/index.html", "/%00"),
    ]
    for name in names:
        assert client("GET", name).status == 404, name
    assert client("POST", "/reports", b"{}", **JSON).status == 404
    assert client("POST", "index.html", b"{}", **JSON).status == 404
    assert client("PUT", "reports", b"{}").status == 501


def test_a_file_outside_the_manifest_stays_here(
    tmp_path: Path, ort_web: Path, serving: Serving
) -> None:
    """A file that lies beside the bundle's own is not served, and one that went away is missing."""
    folder = tmp_path / "a b"
    shutil.copytree(data.TINY_INT8, folder)
    (folder / "secret.txt").write_text("secret")
    client = serving(collect(open_bundles([folder]), ort_web / "dist", command="", version=""))
    assert client("GET", "bundles/a%20b/secret.txt").status == 404
    assert client("GET", "bundles/a%20b/encoder.onnx").status == 200
    (folder / "encoder.onnx").unlink()
    assert client("GET", "bundles/a%20b/encoder.onnx").status == 404


def test_a_report_becomes_a_file(client: Client, content: bytes, tmp_path: Path) -> None:
    """A report is written under a new name; two reports of one second are two files."""
    answers = [client("POST", "reports", content, **JSON) for _ in range(3)]
    assert [x.status for x in answers] == [201] * 3
    names = {json.loads(x.body)["report"] for x in answers}
    assert names == {x.name for x in (tmp_path / "reports").iterdir()}
    assert len(names) == 3
    for name in names:
        assert read_report(tmp_path / "reports" / name) == reports.usual()
    assert {path.name for _, path, _ in client.received} == names


def test_the_device_names_no_path(client: Client, tmp_path: Path) -> None:
    """Only letters and digits of the device's name are in the file's."""
    plain = json.loads(to_json(reports.usual()))
    plain["device"]["cpu"]["model"] = "../../Pixel\n 7\x1b[31m" + "x" * 1000
    answer = client("POST", "reports", json.dumps(plain).encode(), **JSON)
    assert answer.status == 201
    (path,) = (tmp_path / "reports").iterdir()
    assert path.name.split("Z-", 1)[1].startswith("pixel-7-31mxxx")
    assert len(path.name) < 80


def test_what_is_no_report_is_refused(client: Client, content: bytes, tmp_path: Path) -> None:
    """Wrong types, sizes and contents are refused in one line, and nothing is written."""
    many = str(MAX_REPORT_BYTES + 1)
    wrong = content.replace(b'"threads": 2', b'"threads": "two"', 1)
    huge = content.replace(b'"first_ms": ', b'"first_ms": 1e999, "gone": ', 1)
    assert wrong != content
    assert huge != content
    cases = [
        (400, b"{}", {}),
        (400, b"", {}),
        (400, b"[" * 100_000, {}),
        (400, wrong, {}),
        (400, huge, {}),
        (415, content, {"Content_Type": "text/plain"}),
        (413, b"", {"Content_Length": many}),
        (413, b"", {"Content_Length": "9" * 5000}),
        (411, b"", {"Content_Length": "-1"}),
        (411, b"", {"Content_Length": "\u00b2"}),
    ]
    for status, body, headers in cases:
        answer = client("POST", "reports", body, **{**JSON, **headers})
        assert answer.status == status, (status, answer)
        assert "\n" not in json.loads(answer.body)["error"]
    assert not (tmp_path / "reports").exists()
    assert not client.received


def test_a_failed_write_leaves_nothing(
    client: Client, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an answer of one line; no part of the report stays."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    answer = client("POST", "reports", content, **JSON)
    assert answer.status == 507
    assert "No space left" in json.loads(answer.body)["error"]
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_silent_client_holds_up_no_other(client: Client) -> None:
    """A connection without a request, or with half of one, does not keep others waiting."""
    with socket.create_connection(("127.0.0.1", client.desk.port)) as silent:
        silent.sendall(b"POST /secret/reports HTTP/1.1\r\nContent-Length: 5\r\n")
        assert client("GET", "").status == 200


def test_an_address_in_use_is_one_line(client: Client, tmp_path: Path) -> None:
    """A port that is taken, or a host that is not here, is an error of one line."""
    for host, port in (("127.0.0.1", client.desk.port), ("192.0.2.77", 0), ("no.such.host.", 0)):
        with pytest.raises(InputError, match=r"choose another --host or --port$"):
            Desk(host, port, {}, Inbox(tmp_path), token=make_token())


def test_tokens_differ() -> None:
    """Each token is new."""
    assert len({make_token() for _ in range(100)}) == 100


def test_a_hidden_page_disturbs(client: Client) -> None:
    """Trials during which the page was in the background are marked as unstable."""
    plain = json.loads(to_json(reports.usual()))
    for sample in plain["conditions"]["samples"]:
        sample["in_background"] = True
    plain["conditions"]["disturbances"] = []
    for case in plain["cases"]:
        case |= {"summary": None, "unstable": []}
    assert client("POST", "reports", json.dumps(plain).encode(), **JSON).status == 201
    report: BenchmarkReport
    ((_, _, report),) = client.received
    assert "background" in {x.kind for x in report.conditions.disturbances}
    assert "the page was in the background" in report.cases[0].unstable[0]
