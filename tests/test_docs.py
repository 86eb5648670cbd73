"""README.md and docs/: snippets run, commands parse, links lead somewhere, pages are short."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile

import w2v_edge
from tests.latency import reports
from w2v_edge import data
from w2v_edge.latency.report.files import write_report

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}

BLOCKS = {
    name: re.findall(r"^```(python|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for name, text in TEXTS.items()
}


def commands(block: str) -> list[str]:
    """Return the commands of this package in a block of shell."""
    lines = re.split(r"&&|\||\n", block.replace("\\\n", " "))
    found = (line.split("  #")[0].strip() for line in lines)
    return [line for line in found if line.startswith("w2v-edge ")]


COMMANDS = sorted(
    {
        command
        for blocks in BLOCKS.values()
        for kind, block in blocks
        if kind == "sh"
        for command in commands(block)
    }
)
QUICK = "encode tokenize transcribe align classify compare-speakers search inspect doctor".split()
"""Verbs that the test runs; other verbs take long, and are run by tests of their own."""

BUNDLES = "asr asr-fp32 asr-int8 contentvec-fp32 hubert-fp32 mms-swh speakers-fp32".split()
"""Names in the pages that stand for one bundle, which has all outputs."""

AUDIO = "speech.wav film.wav talk.wav talk.mp3 talk.flac enrolled.wav unknown.wav".split()

LOAD = w2v_edge.load

ARPA = """\\data\\
ngram 1=4
ngram 2=1

\\1-grams:
-1\t<unk>\t0
0\t<s>\t0
-1\t</s>
-1\tactivated\t0

\\2-grams:
-1\t<s> activated

\\end\\
"""

OUTSIDE = {f"{x}.md" for x in "index changelog contributing security exporter".split()}
"""Pages of the site whose files lie outside docs/."""

README_WORDS = range(600, 901)
PAGE_WORDS = 1_200


@pytest.fixture(scope="session")
def everything(
    ctc_bundle: Path, shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Path:
    """A bundle with letters, units and an embedding."""
    from w2v_edge_export import export

    folder = shared_folder / "bundles/everything-fp32"
    with locked("bundle-everything"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            width = w2v_edge.load(ctc_bundle).manifest.context_dim
            centroids = np.random.default_rng(5).normal(size=(20, width)).astype(np.float32)
            np.save(shared_folder / "centroids.npy", centroids)
            patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
            export(
                shared_folder / "checkpoints/ctc",
                folder,
                kmeans=shared_folder / "centroids.npy",
                pool="mean",
                speaker_threshold=0.8,
            )
    return folder


@pytest.fixture
def workplace(
    bundle: Callable[[str], Path],
    everything: Path,
    voice_bundle: Path,
    shared_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    speech: dict[str, Any],
) -> Path:
    """A working directory with the files that the pages name."""
    clip = speech["en-activated"]
    folder = tmp_path / "workplace"
    (folder / "demo").mkdir(parents=True)
    (folder / "tuned").mkdir()
    for name in ("demo/tiny-fp32", "ckpt-fp32", "ckpt-fixed"):
        (folder / name).symlink_to(bundle("tiny"))
    for name in ("demo/tiny-int8", "ckpt-int8"):
        (folder / name).symlink_to(data.TINY_INT8)
    for name in (*BUNDLES, "tuned/model-fp32"):
        (folder / name).symlink_to(everything)
    for name in ("emotion-fp32", "emotion-int8", "language-fp32"):
        (folder / name).symlink_to(voice_bundle)
    (folder / "path/to").mkdir(parents=True)
    (folder / "path/to/emotion-model").symlink_to(shared_folder / "checkpoints/ctc")
    for name in ("recordings", "talks", "hours", "calls"):
        (folder / name).mkdir()
        soundfile.write(folder / name / "one.flac", clip, 16_000)
    for name in AUDIO:
        soundfile.write(folder / name, clip, 16_000)
    (folder / "words.arpa").write_text(ARPA)
    (folder / "text.txt").write_text("ACTIVATED")
    (folder / "film.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nActivated\n")
    (folder / "pairs.tsv").write_text("path\ttext\nspeech.wav\tactivated\n")
    (folder / "trials.tsv").write_text("enrolled.wav\tunknown.wav\n")
    (folder / "list.tsv").write_text("path\ttext\nspeech.wav\tactivated\n")
    write_report(reports.usual(), folder / "pi4.json")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", [name for name, blocks in BLOCKS.items() if blocks])
def test_a_page_runs(
    name: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Blocks of Python and quick commands run in their order, in one working directory.

    Nothing is defined before: each block runs as it stands, or after those before it on its page.
    """
    from w2v_edge.cli.group import run

    scope: dict[str, Any] = {}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workplace))
    monkeypatch.setattr(w2v_edge, "load", _load)
    for kind, block in BLOCKS[name]:
        if kind == "python":
            exec(block, scope)  # noqa: S102 - our own pages
            continue
        for command in commands(block):
            verb, *arguments = shlex.split(command)[1:]
            if verb in QUICK and not any(x.startswith("s3://") for x in arguments):
                assert run([verb, *arguments]) == 0, command + capfd.readouterr().err
    if {"encoding", "codes"} <= scope.keys():
        np.testing.assert_array_equal(scope["codes"], scope["encoding"].codes)


def test_the_callback_gives_the_newest_frames(
    speech: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of each block are the last ones of what is held, which ends with the newest sample."""
    tiny, load = w2v_edge.load(data.TINY_INT8), w2v_edge.load
    monkeypatch.setattr(w2v_edge, "load", lambda folder: tiny if "vec" in folder else load(folder))
    (block,) = (x for _, x in BLOCKS["docs/streaming.md"] if "def callback" in x)
    scope: dict[str, Any] = {"w2v_edge": w2v_edge}
    exec(block.replace("projected", "context"), scope)  # noqa: S102 - our own pages
    speech_blocks = speech["en-activated"][: 3 * scope["NEW"]].reshape(3, -1)
    found = [scope["callback"](x) for x in speech_blocks]
    assert {x.shape for x in found} == {(16, tiny.manifest.context_dim)}
    held = np.concatenate([np.zeros(len(scope["held"]), np.float32), *speech_blocks])
    geometry = tiny.manifest.geometry
    held = held[-len(scope["held"]) :]
    assert (len(held) - geometry.receptive_field) % geometry.hop == 0
    np.testing.assert_array_equal(found[-1], tiny.encode(held).context[-16:])


def test_readme_has_four_lines_of_python() -> None:
    """Four lines turn a waveform into context and codes."""
    (block,) = (x for kind, x in BLOCKS["README.md"] if kind == "python")
    assert len([line for line in block.splitlines() if line]) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs, options and values of each command exist; files need not."""
    from w2v_edge.cli.group import cli

    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: _as_path(self, value))
    verb, *arguments = shlex.split(command)[1:]
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None, verb
    found.make_context(verb, arguments)


def test_every_target_of_make_exists() -> None:
    """Pages name no target that the Makefile lacks."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name in set(
        itertools.chain(*(re.findall(r"`make ([a-z0-9-]+)", x) for x in TEXTS.values()))
    ):
        assert f"\n{name}:" in makefile, name


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files_and_headings(name: str) -> None:
    """On a code host, as on the site."""
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if re.match(r"https?:", link):
            continue
        target, _, anchor = link.partition("#")
        path = ((ROOT / name).parent / target).resolve() if target else ROOT / name
        assert path.exists(), link
        if anchor:
            assert anchor in _anchors(path.read_text("utf-8")), link


@pytest.mark.parametrize("name", [x for x in TEXTS if not x.startswith("docs/reference")])
def test_pages_are_short(name: str) -> None:
    """README is one page; other pages are counted without their tables of figures."""
    text = re.sub(r"<!-- table.*?<!-- end -->", "", TEXTS[name], flags=re.DOTALL)
    words = len((TEXTS if name == "README.md" else {name: text})[name].split())
    assert words in README_WORDS if name == "README.md" else words <= PAGE_WORDS


def test_every_page_is_in_the_navigation() -> None:
    """And no other page is."""
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("nav:")[1].split("validation:")[0]
    listed = set(re.findall(r"[\w/-]+\.md", navigation)) - OUTSIDE
    assert listed == {x.removeprefix("docs/") for x in TEXTS if x.startswith("docs/")}


def test_the_longest_context_is_the_exporters() -> None:
    """The limit stated for `base` is the exporter's."""
    from w2v_edge.model import preset
    from w2v_edge_export.bundle_writer import longest_context
    from w2v_edge_export.targets import load_target

    (seconds,) = re.findall(r"\((\d+) s for `base` on `cpu`\)", TEXTS["docs/limits.md"])
    assert int(seconds) == longest_context(preset("base"), load_target("cpu"))


def _load(name: str, **options: Any) -> Any:
    """Open a bundle by the name in a page; a tuning is that of another machine."""
    options.pop("tuned", None)
    return LOAD(name, **options)


def _as_path(parameter: Any, value: Any) -> Any:
    return value if parameter.type is None else parameter.type(value)


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", x.lower()).replace(" ", "-") for x in headings}
