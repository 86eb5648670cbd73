"""Search of an index of embeddings: what is found, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import AudioFile, Window
from w2v_edge.bundle import Manifest, read_manifest
from w2v_edge.corpus import CorpusOptions, encode_corpus, index
from w2v_edge.corpus.index import EmbeddingIndex, SearchResult, _Best
from w2v_edge.errors import HeadMissingError, IndexMismatchError, InputError
from w2v_edge.runtime.embedding import cosine

WIDTH = 96
Rows = Callable[[str | Path], dict[str, dict[str, Any]]]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def manifest(voice_bundle: Path) -> Manifest:
    """Of a bundle with embeddings of 96 values."""
    return read_manifest(voice_bundle)


@pytest.fixture
def write(tmp_path: Path, manifest: Manifest) -> Write:
    """`write(vectors, paths=None, **facts)`: a shard with these rows, None for failed ones."""

    def make(
        vectors: list[Any], paths: list[str] | None = None, name: str = "a", **facts: Any
    ) -> Path:
        kind = pa.list_(pa.float32(), WIDTH)
        table = pa.table(
            {
                "path": pa.array(paths or [f"{i}.wav" for i in range(len(vectors))], pa.string()),
                "embedding": pa.array(vectors, kind),
            }
        )
        known = {"bundle_sha256": manifest.sha256} | facts
        folder = tmp_path / "index"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.parquet"
        pq.write_table(table.replace_schema_metadata({"w2v_edge": json.dumps(known)}), path)
        return folder

    return make


def _search(folder: Path, manifest: Manifest, query: Any, top: int = 10) -> SearchResult:
    return EmbeddingIndex(str(folder), manifest).search(np.asarray(query), top)


def _vectors(rows: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)


def test_a_corpus_is_searched(
    voice_bundle: Path, manifest: Manifest, recordings: Path, rows: Rows, tmp_path: Path
) -> None:
    """Its shards hold what `embed` gives, windows counted, and the nearest are found first."""
    window = Window(2.0, 1.0, 1.0)
    options = CorpusOptions(embedding=True, window=window)
    report = encode_corpus(voice_bundle, [recordings], tmp_path / "i", options=options)
    written = {x: row for x, row in rows(tmp_path / "i").items() if row["error"] is None}
    assert (report.files, len(written)) == (20, 15)
    model = w2v_edge.load(voice_bundle)
    for name in ("good-03.flac", "long.flac", "slow.wav"):
        wanted = model.embed(AudioFile(recordings / name, 16_000), window=window)
        np.testing.assert_allclose(written[name]["embedding"], wanted, atol=1e-5)
    index = EmbeddingIndex(str(tmp_path / "i"), manifest)
    assert index.window == window
    query = np.array(written["good-03.flac"]["embedding"])
    found = index.search(query, 4)
    by_cosine = sorted(written.values(), key=lambda x: -cosine(query, x["embedding"]))
    assert [x.path for x in found.matches] == [x["path"] for x in by_cosine[:4]]
    assert (found.searched, found.failed, found.unusable, found.missing) == (15, 5, 0, 0)
    assert found.matches[0].cosine == pytest.approx(1)
    (shard, *_) = sorted((tmp_path / "i").glob("*.parquet"))
    shard.unlink()
    assert index.window == window
    with pytest.raises(IndexMismatchError, match=r"cannot be read.*search again"):
        index.search(query)
    assert _search(tmp_path / "i", manifest, query).missing == 1
    with pytest.raises(HeadMissingError, match="no embedding"):
        options.check(read_manifest(w2v_edge.data.TINY_INT8))


def test_many_rows_in_blocks(write: Write, manifest: Manifest) -> None:
    """The best of all blocks of all files, as one matrix product gives them."""
    vectors, query = _vectors(10_000), _vectors(1, 1)[0]
    folder = write(list(vectors[:9_000]), [f"{i}" for i in range(9_000)])
    write(list(vectors[9_000:]), [f"{i}" for i in range(9_000, 10_000)], name="b")
    exact = vectors.astype(np.float64)
    cosines = exact @ query / np.linalg.norm(exact, axis=1) / np.linalg.norm(query)
    found = _search(folder, manifest, 1e-30 * query, 100)
    assert [int(x.path) for x in found.matches] == np.argsort(-cosines)[:100].tolist()
    np.testing.assert_allclose([x.cosine for x in found.matches], np.sort(cosines)[:-101:-1], 1e-5)
    assert _search(folder / "b.parquet", manifest, query).searched == 1_000


def test_a_large_row_group_is_not_held(
    write: Write, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow's memory stays below a part of a column, whatever the rows that lie together."""
    vectors = _vectors(60_000)
    folder = write([vectors[0]])
    schema = pq.read_schema(folder / "a.parquet")
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), WIDTH)
    paths = pa.array([f"{i}.wav" for i in range(len(vectors))])
    columns = [paths, embeddings.cast(schema.field("embedding").type)]
    pq.write_table(pa.table(columns, schema=schema), folder / "a.parquet")
    del embeddings, columns
    held: list[int] = []
    before = pa.total_allocated_bytes()
    compare = index._compare

    def watched(*arguments: Any) -> None:
        held.append(pa.total_allocated_bytes() - before)
        compare(*arguments)

    monkeypatch.setattr(index, "_compare", watched)
    assert _search(folder, manifest, vectors[0]).searched == len(vectors)
    assert max(held) < vectors.nbytes / 2


def test_rows_that_cannot_be_compared(write: Write, manifest: Manifest) -> None:
    """Zeros, NaN, infinity, parts that are null, and failed rows are counted and left out."""
    good = _vectors(3)
    bad = [np.zeros(WIDTH), np.full(WIDTH, np.nan), np.full(WIDTH, np.inf)]
    part: list[Any] = [None, *good[0][1:].tolist()]
    folder = write([None, bad[0], good[0], part, bad[1], None, good[1], bad[2], good[2] * 1e-38])
    found = _search(folder, manifest, good[1])
    assert (found.searched, found.failed, found.unusable) == (3, 2, 4)
    assert {x.path for x in found.matches} == {"2.wav", "6.wav", "8.wav"}
    assert found.matches[0].path == "6.wav"
    for query, words in ((bad[0], "zeros"), (bad[1], "not finite"), (good[0][:5], "5 values")):
        with pytest.raises(InputError, match=words):
            _search(folder, manifest, query)


def test_a_path_is_found_once(write: Write, manifest: Manifest) -> None:
    """Of several rows of a path the best counts, and equal ones are in the index's order."""
    a, b = _vectors(2)
    folder = write([b, a, a, a, b], ["x", "y", "x", "z", "x"])
    found = _search(folder, manifest, a, 3)
    assert [(x.path, round(x.cosine, 6)) for x in found.matches] == [("y", 1), ("x", 1), ("z", 1)]
    assert [x.path for x in _search(folder, manifest, a, 1).matches] == ["y"]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(-5, 5)), max_size=40),
    st.integers(1, 9),
)
def test_the_best_are_those_of_a_sort(rows: list[tuple[str, int]], size: int) -> None:
    """Kept as rows come, they are the first of all paths by their best row."""
    best = _Best(size)
    for path, value in rows:
        best.add(path, value)
    order = sorted(range(len(rows)), key=lambda i: (-rows[i][1], i))
    wanted = list(dict.fromkeys(rows[i][0] for i in order))[:size]
    assert [x.path for x in best.matches()] == wanted


def test_what_is_no_index(write: Write, manifest: Manifest, tmp_path: Path) -> None:
    """Another bundle, width or type, no name of a bundle, no column, no rows: refused, by name."""
    query = _vectors(1)[0]
    folder = write(list(_vectors(3)))
    whole = pq.read_table(folder / "a.parquet")

    def refuse(table: pa.Table, words: str, metadata: Any = whole.schema.metadata) -> None:
        table = table.replace_schema_metadata(metadata)
        pq.write_table(table, folder / "a.parquet")
        with pytest.raises(IndexMismatchError, match=words):
            _search(folder, manifest, query)

    refuse(whole, r"a\.parquet: found no name of the bundle", None)
    refuse(whole, "no name of the bundle", {"w2v_edge": "[" * 9})
    refuse(whole.rename_columns(["path", "pooled"]), "no column 'embedding'.*--embedding")
    short = pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))
    refuse(whole.set_column(1, "embedding", short), r"\[2\].*\[96\]")
    lists = pa.array([[1.0] * WIDTH] * 3, pa.list_(pa.float32()))
    refuse(whole.set_column(1, "embedding", lists), "found columns of type")
    refuse(whole.slice(0, 0), "no embedding to compare with in 0 rows")
    write([None, None])
    with pytest.raises(IndexMismatchError, match="in 2 rows"):
        _search(folder, manifest, query)
    write([query], bundle_sha256="0" * 64)
    with pytest.raises(IndexMismatchError, match=r"another bundle \(000000000000\)"):
        _search(folder, manifest, query)
    for place, words in ((tmp_path / "gone", "nothing there"), (tmp_path, "no shards")):
        with pytest.raises(IndexMismatchError, match=words):
            _search(place, manifest, query)


def test_broken_files(write: Write, manifest: Manifest) -> None:
    """A shard cut anywhere, or with other bytes, is an error that names it, or right."""
    query = _vectors(1)[0]
    folder = write(list(_vectors(50)))
    path = folder / "a.parquet"
    data, wanted = path.read_bytes(), _search(folder, manifest, query).matches
    for end in (0, 3, 8, len(data) // 2, len(data) - 9, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(IndexMismatchError, match=r"a\.parquet: cannot be read"):
            _search(folder, manifest, query)
    path.write_bytes(data)
    (folder / ".a.parquet.part.parquet").write_bytes(b"half")
    assert _search(folder, manifest, query).matches == wanted
    (folder / "_job.json").write_text("{}")
    with pytest.raises(IndexMismatchError, match="record of a job"):
        _search(folder, manifest, query)
    record: dict[str, Any] = dict.fromkeys(("format", "provider", "files_sha256"), "") | {
        **dict.fromkeys(("context", "pooled", "tuned"), False),
        "provider_options": {},
        "shard_size": 9,
        "files": 60,
        "window": None,
    }
    for window in ([1.0], [-1.0, 0.0, 0.0]):
        known = record | {"bundle_sha256": manifest.sha256, "window": window}
        (folder / "_job.json").write_text(json.dumps(known))
        with pytest.raises(IndexMismatchError, match="cannot be read"):
            EmbeddingIndex(str(folder), manifest)
    (folder / "_job.json").write_text(json.dumps(record | {"bundle_sha256": "other"}))
    with pytest.raises(IndexMismatchError, match=r"_job\.json: found embeddings of another"):
        EmbeddingIndex(str(folder), manifest)
    (folder / "_job.json").write_text(json.dumps(record | {"bundle_sha256": manifest.sha256}))
    assert _search(folder, manifest, query).missing == 10


def test_an_index_of_another_job(
    voice_bundle: Path, manifest: Manifest, recordings: Path, tmp_path: Path
) -> None:
    """One without embeddings says how to write them."""
    options = CorpusOptions(pooled=True)
    files = [recordings / "good-00.flac"]
    encode_corpus(voice_bundle, files, tmp_path / "out", options=options)
    with pytest.raises(IndexMismatchError, match="no column 'embedding'"):
        _search(tmp_path / "out", manifest, _vectors(1)[0])
