"""Shards hold the codes and context of every recording, or its error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import w2v_edge
from w2v_edge import AudioFile
from w2v_edge.corpus import CorpusOptions, encode_corpus
from w2v_edge.errors import GraphMissingError, InputError
from w2v_edge.runtime.window import Window

Bundle = Callable[[str], Path]
Rows = Callable[[str | Path], dict[str, dict[str, Any]]]

BAD = {"bad.wav", "cut.wav", "empty.wav", "short.wav", "silent.wav"}


@pytest.mark.parametrize("name", ["tiny", "base-small"])
def test_codes_are_those_of_the_model(
    name: str, bundle: Bundle, recordings: Path, rows: Rows, tmp_path: Path
) -> None:
    """Each good file has its seconds and the codes of `tokenize`, each bad one has a reason."""
    report = encode_corpus(bundle(name), [recordings], tmp_path / "out", shard_size=8)
    found = rows(tmp_path / "out")
    model = w2v_edge.load(bundle(name))
    assert {id_ for id_, row in found.items() if row["error"] is not None} == BAD
    for id_, row in found.items():
        assert row["path"] == str(recordings / id_)
        assert row["text"] is None
        if id_ in BAD:
            assert row["codes"] is None
            assert row["seconds"] is None
            assert len(row["error"].splitlines()) == 1
            continue
        np.testing.assert_array_equal(
            row["codes"], model.tokenize(AudioFile(recordings / id_, 16_000))
        )
        assert row["seconds"] == pytest.approx(soundfile.info(recordings / id_).duration, abs=1e-3)
    assert (report.files, report.failed, report.shards) == (20, 5, 3)
    assert report.seconds == pytest.approx(sum(x["seconds"] or 0 for x in found.values()), abs=0.01)
    assert report.first_error == f"{recordings / 'bad.wav'}: {found['bad.wav']['error']}"


@pytest.mark.parametrize("window", [None, Window(8.0, 2.0, 2.0)])
def test_context_and_its_mean(
    window: Window | None, bundle: Bundle, recordings: Path, rows: Rows, tmp_path: Path
) -> None:
    """Context vectors are those of `encode`, windows counted, and `pooled` is their mean."""
    options = CorpusOptions(context=True, pooled=True, window=window)
    files = [recordings / name for name in ("good-03.flac", "long.flac", "empty.wav")]
    encode_corpus(bundle("base-small"), files, tmp_path / "out", options=options, shard_size=9)
    found = rows(tmp_path / "out")
    model = w2v_edge.load(bundle("base-small"))
    for file in files[:2]:
        expected = model.encode(AudioFile(file, 16_000), window=window)
        row = found[file.name]
        np.testing.assert_array_equal(row["codes"], expected.codes)
        np.testing.assert_allclose(row["context"], expected.context, atol=1e-5)
        np.testing.assert_allclose(row["pooled"], expected.context.mean(axis=0), atol=1e-5)
    assert found["empty.wav"]["context"] is None
    assert found["empty.wav"]["pooled"] is None


def test_times_follow_from_the_metadata(bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    """Each shard's metadata has frame times and the bundle."""
    encode_corpus(bundle("tiny"), [recordings / "good-00.flac"], tmp_path / "out")
    path = tmp_path / "out/shard-00000.parquet"
    facts = json.loads(pq.read_schema(path).metadata[b"w2v_edge"])
    model = w2v_edge.load(bundle("tiny"))
    frames = np.arange(len(pq.read_table(path)["codes"][0]))
    times = facts["codes"]["first_s"] + frames * facts["codes"]["frame_s"]
    np.testing.assert_allclose(times, model.times(len(frames)))
    assert facts["bundle_sha256"] == model.manifest.sha256


def test_types_are_plain(bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    """Column types are the same with and without codes."""
    files = [recordings / "bad.wav", recordings / "good-00.flac"]
    encode_corpus(bundle("tiny"), files, tmp_path / "out", shard_size=1)
    none, some = (pq.read_schema(path) for path in sorted((tmp_path / "out").glob("*.parquet")))
    assert none.equals(some)
    assert some.field("codes").type == pa.large_list(pa.list_(pa.int16(), 2))
    assert some.names == ["id", "path", "text", "seconds", "codes", "error"]


def test_manifests_give_texts(bundle: Bundle, recordings: Path, rows: Rows, tmp_path: Path) -> None:
    """Rows of manifests keep names and texts; duplicates of two sources appear once."""
    lines = [{"path": str(recordings / "good-00.flac"), "text": "uno \ud800"}, {"path": "gone.wav"}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sources = [tmp_path / "list.jsonl", recordings / "good-00.flac"]
    report = encode_corpus(bundle("tiny"), sources, tmp_path / "out")
    assert (report.files, report.failed) == (2, 1)
    found = rows(tmp_path / "out")
    assert found[str(recordings / "good-00.flac")]["text"] == "uno \\ud800"
    assert found["gone.wav"]["path"] == str(tmp_path / "gone.wav")
    assert "no such file; expected an audio file" in found["gone.wav"]["error"]


def test_namesakes_have_rows_of_their_own(bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    """Names in a corpus may come twice; paths do not, however they are written."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.flac").write_bytes((recordings / "good-00.flac").read_bytes())
    sources = [tmp_path / "one", tmp_path / "two", tmp_path / "one/../two/a.flac"]
    assert encode_corpus(bundle("tiny"), sources, tmp_path / "out").files == 2
    table = pq.read_table(tmp_path / "out")
    assert table["id"].to_pylist() == ["a.flac", "a.flac"]
    assert table["path"].to_pylist() == [str(tmp_path / x / "a.flac") for x in ("one", "two")]


def test_names_in_uris(bundle: Bundle, recordings: Path, rows: Rows, tmp_path: Path) -> None:
    """A folder given as a URI works with any file names."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/50 % #1?.flac").write_bytes((recordings / "good-00.flac").read_bytes())
    uris = [f"file://{tmp_path}/{name}" for name in ("in", "out")]
    assert encode_corpus(bundle("tiny"), uris[:1], uris[1]).failed == 0
    assert rows(tmp_path / "out").keys() == {"50 % #1?.flac"}


def test_names_that_are_no_text(bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    """File names that are not UTF-8 are escaped in the table."""
    name = os.fsdecode(b"\xff line\n.flac")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes((recordings / "good-00.flac").read_bytes())
    report = encode_corpus(bundle("tiny"), [tmp_path / "in"], tmp_path / "out")
    assert report.failed == 0
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == ["\\udcff line\n.flac"]


def test_object_stores(bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    """Sources and shards in object stores give the same results as files."""
    store = fsspec.filesystem("memory")
    for name in ("good-00.flac", "bad.wav"):
        store.pipe(f"/corpus/deep dir/{name}", (recordings / name).read_bytes())
    (tmp_path / "list.jsonl").write_text('{"path": "fsspec+memory://corpus/none.wav"}')
    sources = ["fsspec+memory://corpus", str(tmp_path / "list.jsonl")]
    for _ in range(2):
        report = encode_corpus(bundle("tiny"), sources, "fsspec+memory://out/codes")
        assert (report.files, report.failed, report.shards) == (3, 2, 3)
    assert report.shards_of_this_run == 0
    with store.open("/out/codes/shard-00001.parquet") as stream:
        (row,) = pq.read_table(stream).to_pylist()
    assert row["id"] == "deep dir/good-00.flac"
    assert row["path"] == "fsspec+memory://corpus/deep dir/good-00.flac"
    expected = w2v_edge.load(bundle("tiny")).tokenize(
        AudioFile(recordings / "good-00.flac", 16_000)
    )
    np.testing.assert_array_equal(row["codes"], expected)
    with store.open("/out/codes/shard-00000.parquet") as stream:
        (bad,) = pq.read_table(stream).to_pylist()
    assert bad["error"].startswith("not readable as audio")


def test_models_without_codes(
    ctc_bundle: Path, recordings: Path, rows: Rows, tmp_path: Path
) -> None:
    """A model without a quantizer has context only, and one line says so."""
    source = [recordings / "good-00.flac"]
    with pytest.raises(GraphMissingError, match="--pooled"):
        encode_corpus(ctc_bundle, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    encode_corpus(ctc_bundle, source, tmp_path / "out", options=CorpusOptions(pooled=True))
    (row,) = rows(tmp_path / "out").values()
    assert "codes" not in row
    assert len(row["pooled"]) == 48


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("gone", "found nothing there"),
        ("none", "no audio found"),
        ("nope://bucket/folder", "cannot be read"),
        ("fsspec+memory://nowhere", "found no audio there"),
        ("fsspec+memory://corpus/list.tsv", "copy it here"),
    ],
)
def test_sources_that_are_none(source: str, words: str, bundle: Bundle, tmp_path: Path) -> None:
    """A source that is not there, or holds no audio, is an error before anything is written."""
    (tmp_path / "none").mkdir()
    given = source if "://" in source else str(tmp_path / source)
    with pytest.raises(InputError, match=words):
        encode_corpus(bundle("tiny"), [given], tmp_path / "out")
    assert not (tmp_path / "out").exists()
