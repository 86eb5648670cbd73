"""What is served: the page, onnxruntime-web, speech, and the files that manifests list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from w2v_edge import strict
from w2v_edge.bundle import MANIFEST
from w2v_edge.errors import BundleError, InputError
from w2v_edge.latency.measure.inputs import Speech, audio_record
from w2v_edge.latency.measure.plan import NamedBundle

PAGE = Path(__file__).parent / "page"

ORT_WEB = "onnxruntime-web"
ORT_WEB_VERSION = "1.30.0"
"""The version that the page is tested with."""

ORT_WEB_FILES = (
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "ort.webgpu.min.mjs",
    *("ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)

CHECKOUT = Path(__file__).parents[2] / "export/apps/web/node_modules" / ORT_WEB
"""Where `make web` installs onnxruntime-web in a checkout."""

BINARY = "application/octet-stream"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


@dataclass(frozen=True)
class Asset:
    """Something that is served.

    Attributes:
        source: path of the file, or the content itself.
        type: MIME type.
    """

    source: Path | bytes
    type: str


def find_onnxruntime_web(given: Path | None) -> Path:
    """Return the folder with the built files of onnxruntime-web.

    Args:
        given: folder of the npm package; None for `node_modules` here or in the checkout.

    Raises:
        InputError: it is not there, or is incomplete.
    """
    install = f"npm install --prefix . --ignore-scripts {ORT_WEB}@{ORT_WEB_VERSION}"
    places = [given] if given else [Path("node_modules") / ORT_WEB, CHECKOUT]
    folder = next((x for x in places if x.is_dir()), None)
    if folder is None:
        where = given or f"{places[0]}"
        raise InputError(
            f"{where}: no folder; expected {ORT_WEB}; run: {install}, or name its folder with "
            f"--{ORT_WEB}"
        )
    missing = [x for x in ORT_WEB_FILES if not (folder / "dist" / x).is_file()]
    if missing:
        raise InputError(
            f"{folder}: found no dist/{missing[0]}, expected {ORT_WEB}; run: {install}"
        )
    return folder / "dist"


def collect(
    named: Sequence[NamedBundle], ort_web: Path, *, command: str, version: str
) -> dict[str, Asset]:
    """Return everything that is served, by its path under the page's address.

    Args:
        named: the bundles; all their files are hashed here.
        ort_web: folder with the built files of onnxruntime-web.
        command: the command line, for reports.
        version: version of this package, for reports.

    Raises:
        BundleError: a bundle is damaged, or has fixed shapes, which the page does not run.
    """
    for one in named:
        if one.bundle.manifest.shapes:
            raise BundleError(
                f"{one.bundle.folder}: found a bundle of fixed shapes, which the page does not "
                "run; export one with --target web"
            )
        one.bundle.check_all()
    rates = sorted({one.bundle.manifest.sample_rate for one in named})
    speech = {rate: Speech.read((), rate) for rate in rates}
    names = [one.record.name for one in named]
    desk = {
        "command": command,
        "version": version,
        "bundles": strict.to_plain([one.record for one in named]),
        "audio": strict.to_plain(audio_record(list(speech.values()))),
    }
    return {
        **dict(_files(named, ort_web)),
        "": Asset(PAGE / "index.html", TYPES[".html"]),
        "bundles.json": _json(names),
        "desk.json": _json(desk),
        **{
            f"speech-{rate}.f32": Asset(x.samples.astype("<f4").tobytes(), BINARY)
            for rate, x in speech.items()
        },
    }


def _files(named: Sequence[NamedBundle], ort_web: Path) -> Iterator[tuple[str, Asset]]:
    for path in PAGE.rglob("*"):
        if path.suffix in TYPES:
            yield path.relative_to(PAGE).as_posix(), _file(path)
    for name in ORT_WEB_FILES:
        yield f"vendor/{name}", _file(ort_web / name)
    for one in named:
        for name in (MANIFEST, *one.bundle.manifest.files):
            yield f"bundles/{one.record.name}/{name}", _file(one.bundle.folder / name)


def _file(path: Path) -> Asset:
    return Asset(path, TYPES.get(path.suffix, BINARY))


def _json(plain: object) -> Asset:
    return Asset(json.dumps(plain).encode(), TYPES[".json"])
