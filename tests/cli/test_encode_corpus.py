"""encode --engine: shards of a corpus, and the messages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import soundfile

from w2v_edge.extras import install_command

Verb = Callable[..., Any]


@pytest.fixture
def recordings(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """Two recordings and a file without audio."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("a.wav", "b.flac"):
        soundfile.write(folder / name, speech["en-activated"], 16_000)
    (folder / "text.wav").write_text("this is not audio")
    return folder


def test_a_bad_file_is_one_line(
    w2v_edge: Verb, refused: Verb, bundle: Verb, recordings: Path, tmp_path: Path
) -> None:
    """Files that fail are counted, the first is named, and the exit code is 1, again and again."""
    out = tmp_path / "out"
    for _ in range(2):
        outcome = w2v_edge("encode", bundle("tiny"), recordings, "-o", out, "--engine", "local")
        refused(outcome, 1, "1 of 3 files failed", "column error", str(recordings / "text.wav"))
        assert outcome.out.startswith(f"{out}: 3 files")
    assert "(0 made now)" in outcome.out


def test_options_reach_the_job(
    w2v_edge: Verb, bundle: Verb, recordings: Path, tmp_path: Path
) -> None:
    """Options for context, pooling, window, shard size and JSON take effect."""
    arguments = ("-o", tmp_path / "out", "--engine", "local", "--shard-size", "2", "--json")
    more = (
        "--context",
        "--pooled",
        "--window",
        "step=2,left=1,right=1",
        "--workers",
        "1",
        "--threads",
        "1",
    )
    files = (recordings / "a.wav", recordings / "b.flac", recordings / "b.flac")
    outcome = w2v_edge("encode", bundle("tiny"), *files, *arguments, *more)
    assert outcome.code == 0, outcome.err
    assert (outcome.json["files"], outcome.json["shards"], outcome.json["lost"]) == (2, 1, [])
    table = pq.read_table(tmp_path / "out")
    assert table.column_names == "id path text seconds codes context pooled error".split()
    assert table["error"].null_count == 2


def test_options_that_do_not_go_together(w2v_edge: Verb, recordings: Path, tmp_path: Path) -> None:
    """Options without effect are usage errors, before any file is read."""
    cases: list[tuple[list[str], str]] = [
        (["--pooled"], "--pooled needs --engine"),
        (["--shard-size", "3"], "--shard-size needs --engine"),
        (["--address", "auto"], "--address needs --engine"),
        (["--engine", "local", "--address", "auto"], "--address needs --engine ray"),
        (["--engine", "local", "--features"], "--features"),
        (["--engine", "spark"], "spark"),
        (["--engine", "local", "--workers", "0"], "0"),
    ]
    for options, words in cases:
        outcome = w2v_edge("encode", tmp_path, recordings, *options)
        assert outcome.code == 2
        assert words in outcome.err


def test_a_cluster_that_is_not_there(
    w2v_edge: Verb, refused: Verb, bundle: Verb, recordings: Path, tmp_path: Path
) -> None:
    """An unreachable cluster is refused within seconds."""
    arguments = ("-o", tmp_path / "out", "--engine", "ray", "--address", "127.0.0.1:1")
    outcome = w2v_edge("encode", bundle("tiny"), recordings, *arguments)
    refused(outcome, 1, "no Ray cluster at 127.0.0.1:1")


@pytest.mark.parametrize(
    ("engine", "module"), [("local", "pyarrow"), ("ray", "pyarrow"), ("ray", "ray")]
)
def test_without_the_extra(
    engine: str,
    module: str,
    w2v_edge: Verb,
    refused: Verb,
    bundle: Verb,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing package is one line with the pip command, and nothing is written."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: None if x == module else find(x))
    outcome = w2v_edge(
        "encode", bundle("tiny"), recordings, "-o", tmp_path / "out", "--engine", engine
    )
    refused(outcome, 1, repr(module), install_command("cpu", "cli", "corpus"))
    assert not (tmp_path / "out").exists()
