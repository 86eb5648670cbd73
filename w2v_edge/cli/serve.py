"""`w2v-edge serve`: lend bundles to browsers, and take the reports of their measurements."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.options import json_option, verb
from w2v_edge.cli.output import console, require, to_json, warn

if TYPE_CHECKING:
    from w2v_edge.latency.report.records import BenchmarkReport

PAGES = {"codes": "", "bench": "bench.html"}


@verb("serve", short_help="Serve bundles to browsers.")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to listen on; 0.0.0.0 for all devices of the network.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, help="Port; 0 for any.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="Certificate for https, as PEM: other devices have threads and WebGPU over https only.",
)
@click.option("--key", type=click.Path(path_type=Path), help="The certificate's key, as PEM.")
@click.option(
    "--reports",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    help="Folder for the reports that the bench page sends.",
)
@click.option(
    "--onnxruntime-web",
    type=click.Path(path_type=Path),
    show_default="node_modules/onnxruntime-web",
    help="Folder of the npm package onnxruntime-web.",
)
@json_option
def command(
    bundles: tuple[Path, ...],
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    reports: Path,
    onnxruntime_web: Path | None,
    as_json: bool,
) -> None:
    """Serve BUNDLES to browsers: a page that shows codes, and a page that measures.

    The bench page measures WebAssembly with 1 and more threads, and WebGPU, on the device that
    opens it. Its report comes back here, for w2v-edge compare. The addresses have a token: without
    it nothing is served, and no report is taken. Ctrl-C ends the server.

    onnxruntime-web is a package of npm, which is not part of this one:
    npm install --prefix . --ignore-scripts onnxruntime-web@1.30.0

    \b
    w2v-edge serve ckpt-fp32 ckpt-int8
    w2v-edge serve ckpt-int8 --host 0.0.0.0 --certificate cert.pem --key key.pem
    w2v-edge compare reports/old.json reports/new.json
    """  # noqa: D301 - the escape is click's
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key belong together.")
    require("serving", "audio", "cli")
    from w2v_edge import __version__
    from w2v_edge.latency.measure.plan import open_bundles
    from w2v_edge.web import assets, server
    from w2v_edge.web.inbox import Inbox

    named = open_bundles(bundles)
    ort_web = assets.find_onnxruntime_web(onnxruntime_web)
    inbox = Inbox(reports)
    tls = server.tls_context(certificate, key) if certificate and key else None
    made = assets.collect(
        named,
        ort_web,
        command=shlex.join(["w2v-edge", *sys.argv[1:]]),
        version=__version__,
    )
    received = _print_received_json if as_json else _print_received
    with server.Desk(
        host, port, made, inbox, token=server.make_token(), tls=tls, received=received
    ) as desk:
        hosts = _hosts(host)
        links = {page: [desk.url(x, path) for x in hosts] for page, path in PAGES.items()}
        if as_json:
            _print_line(links | {"reports": str(reports)})
        else:
            for page, addresses in links.items():
                for address in addresses:
                    console().print(f"{page}  {address}", soft_wrap=True)
            console().print(f"Reports go to {reports}. Ctrl-C ends.", soft_wrap=True)
        sys.stdout.flush()
        if tls is None and any(not _is_local(x) for x in hosts):
            warn(
                "over plain http browsers of other devices have one thread and no WebGPU: give "
                f"--certificate and --key; on Android `adb reverse tcp:{desk.port} "
                f"tcp:{desk.port}` gives http://localhost:{desk.port}/{desk.token}/bench.html"
            )
        try:
            desk.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended", err=True)


def _hosts(host: str) -> list[str]:
    """Return the names by which devices reach a bound address, this one's own first."""
    import psutil

    if _is_local(host):
        return ["localhost" if host == "127.0.0.1" else host]
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            return [host]
    except ValueError:
        return [host]
    found = [
        x.address
        for addresses in psutil.net_if_addrs().values()
        for x in addresses
        if x.family == socket.AF_INET and not _is_local(x.address)
    ]
    return ["localhost", *found]


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _print_received(sender: str, path: Path, report: BenchmarkReport) -> None:
    from w2v_edge.latency.report.wording import clean, count

    failed = sum(bool(x.failure) for x in report.cases)
    cases = count(len(report.cases), "case") + (f", {failed} failed" if failed else "")
    device = clean(f"{report.device.cpu.model}, {report.device.system}")
    console().print(f"{path}: {cases}, {device} at {sender}", soft_wrap=True)


def _print_received_json(sender: str, path: Path, report: BenchmarkReport) -> None:
    _print_line({"report": str(path), "sender": sender, "cases": len(report.cases)})


def _print_line(result: dict[str, Any]) -> None:
    click.echo(to_json(result))
    sys.stdout.flush()
