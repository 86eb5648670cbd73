"""Generates tables and pictures from results, for README.md, docs/, the model card and `results/`.

    python -m bench.report [--check]

Reads the JSON files of `bench/results`. `--check` writes nothing and lists texts that differ
from the results. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench import conformance, pages
from bench.corpus import plan
from bench.peers import report as peers
from bench.peers.results import MORE, Results
from bench.runtime import tables as runtime
from bench.tiny import card
from w2v_edge.latency.report.curves import series
from w2v_edge.latency.report.files import read_report, write
from w2v_edge.latency.report.markdown import markdown

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
CARD = ROOT / "w2v_edge/data/tiny/README.md"
TEXTS = {**{ROOT / name: tables for name, tables in pages.TABLES.items()}, CARD: card.TABLES}
"""Texts that have places for tables."""

DEMO_SECONDS = 4


def main() -> None:
    """Write the tables and pictures, or check them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing, list differences")
    if parser.parse_args().check:
        sys.exit(check())
    refresh(RESULTS)
    for path, text in _filled().items():
        write(path, text)
    card.draw(RESULTS, CARD.with_name("curves.svg"))
    draw_demo(ROOT / "docs/demo.png")


def refresh(folder: Path) -> None:
    """Write the Markdown and the pictures of a folder of results."""
    for path, text in texts(folder).items():
        write(path, text)
    draw(folder)


def check() -> int:
    """Return 1 and list the texts that differ from the results; else 0."""
    made = {**_filled(), **texts(RESULTS)}
    stale = [path for path, text in made.items() if _read(path) != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: not what the results give; run make bench-report")
    return 1 if stale else 0


def texts(folder: Path) -> dict[Path, str]:
    """Return the Markdown of all results in a folder and below it."""
    made = {}
    for stem in _stems(folder):
        made[Path(f"{stem}.md")] = peers.markdown(Results.read(stem))
    for path in sorted(folder.rglob("runtime-*.json")):
        made[path.with_suffix(".md")] = runtime.markdown(json.loads(path.read_text()))
    for path in sorted(folder.rglob("corpus-*.json")):
        made[path.with_suffix(".md")] = plan.markdown(json.loads(path.read_text()))
    for path in sorted(folder.rglob("conformance-*.json")):
        made[path.with_suffix(".md")] = conformance.markdown(json.loads(path.read_text()))
    for path in sorted(folder.rglob("latency-*.json")):
        made[path.with_suffix(".md")] = markdown(read_report(path))
    return made


def draw(folder: Path) -> None:
    """Draw results by length of audio."""
    from bench.peers.plots import draw_accuracy, draw_latency, draw_lengths

    for stem in _stems(folder):
        results = Results.read(stem)
        if len(results.lengths()) > 1:
            draw_latency(results, Path(f"{stem}-latency.svg"))
            draw_accuracy(results, Path(f"{stem}-accuracy.svg"))
    for path in sorted(folder.rglob("latency-*.json")):
        report = read_report(path)
        if series(report, "seconds"):
            draw_lengths(report, path.with_suffix(".svg"))


def draw_demo(path: Path) -> None:
    """Draw README.md's picture: codes of a recording, in a palette, which is a small file."""
    from PIL import Image

    import w2v_edge
    from w2v_edge import data
    from w2v_edge.audio import read_audio
    from w2v_edge.picture import draw_codes

    model = w2v_edge.load(data.TINY_INT8)
    waveform = read_audio(data.DEMO_CLIP, model.sample_rate)[: DEMO_SECONDS * model.sample_rate]
    encoding = model.encode(waveform)
    assert encoding.codes is not None
    assert model.manifest.codebook is not None
    entries, title = model.manifest.codebook.entries, "Speech and its codes"
    draw_codes(path, waveform, model.sample_rate, encoding.codes, encoding.times, entries, title)
    with Image.open(path) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def _stems(folder: Path) -> list[Path]:
    """Return the paths of comparisons with peers, without their endings."""
    found = sorted(folder.rglob(f"peers-*{MORE}"))
    return [path.with_name(path.name.removesuffix(MORE)) for path in found]


def _filled() -> dict[Path, str]:
    return {path: pages.fill(_read(path), RESULTS, tables) for path, tables in TEXTS.items()}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    main()
