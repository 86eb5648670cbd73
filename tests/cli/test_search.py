"""search: recordings of an index that are like others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from w2v_edge import data

Verb = Callable[..., Any]

CLIPS = Path(data.__path__[0])
CLIP = CLIPS / "en-activated.flac"


def test_an_index_is_written_and_searched(
    w2v_edge: Verb, refused: Verb, voice_bundle: Path, tmp_path: Path
) -> None:
    """`encode --embedding` writes it; the recording itself is found first, at a cosine of 1."""
    index = tmp_path / "index"
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("en-activated", "en-conf-getpin", "fr-demo-abouttotry"):
        (corpus / f"{name}.flac").symlink_to(CLIPS / f"{name}.flac")
    (corpus / "bad.wav").write_text("not audio")
    written = w2v_edge(
        "encode", voice_bundle, corpus, "-o", index, "--engine", "local", "--embedding"
    )
    assert written.code == 1
    common = ("--bundle", voice_bundle, "--top", "2")
    outcome = w2v_edge("search", index, CLIP, *common)
    assert outcome.code == 0
    first, second = (line.split("\t") for line in outcome.out.splitlines())
    assert first == ["1.0000", str(corpus / "en-activated.flac")]
    assert 0.5 < float(second[0]) < 1
    assert f"{index}: 1 recordings that failed" in outcome.err
    outcome = w2v_edge("search", index, CLIP, "gone.wav", *common, "--json")
    assert outcome.code == 1
    found, gone = outcome.json
    assert [x["path"] for x in found["matches"]] == [first[1], second[1]]
    assert (found["searched"], found["failed"], found["unusable"], found["missing"]) == (3, 1, 0, 0)
    assert "gone.wav" in gone["error"]
    both = w2v_edge("search", index, CLIP, CLIPS / "fr-demo-abouttotry.flac", *common)
    assert both.out.startswith(f"{CLIP}\t1.0000\t")
    assert both.err.count("recordings that failed") == 1
    # An index that cannot be used is said once, not for each file.
    refused(w2v_edge("search", tmp_path / "no", CLIP, CLIP, *common), 1, "nothing there")
    (index / "shard-00001.parquet").write_bytes(b"PAR1")
    refused(w2v_edge("search", index, CLIP, CLIP, *common), 1, "cannot be read")
    refused(w2v_edge("search", index, CLIP, "--bundle", data.TINY_INT8), 1, "no embedding")
    assert w2v_edge("search", index, CLIP).code == 2
