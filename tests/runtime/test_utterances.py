"""Utterances of a corpus: folders, files and manifests of several makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge import data
from w2v_edge.audio import find_utterances
from w2v_edge.errors import InputError

names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\t\n\r\0/"), min_size=1
).filter(str.strip)


def test_a_folder_has_its_audio_files(tmp_path: Path) -> None:
    """A folder gives its audio files in order, each once."""
    (tmp_path / "b").mkdir()
    for name in ("z.wav", "b/a.FLAC", "b/notes.txt"):
        (tmp_path / name).touch()
    found = find_utterances([tmp_path, tmp_path / "z.wav"])
    assert [x.id for x in found] == ["b/a.FLAC", "z.wav"]
    assert [x.path for x in found] == [tmp_path / "b/a.FLAC", tmp_path / "z.wav"]
    assert all(x.text is None for x in found)


def test_the_manifest_of_the_package() -> None:
    """Paths are relative to the manifest, and texts are read."""
    found = find_utterances([data.FOLDER / "clips.tsv"])
    assert len(found) == 5
    assert all(x.path.is_file() and x.text for x in found)


@given(rows=st.lists(st.tuples(names, names), min_size=1, max_size=5, unique_by=lambda x: x[0]))
def test_tables_and_lines_say_the_same(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Columns in any order, quotes as they are, either end of line, keys of several makes."""
    folder = tmp_path_factory.mktemp("manifests")
    table = ["speaker\ttext\tpath", *(f"x\t{text}\t{path}" for path, text in rows)]
    (folder / "list.tsv").write_bytes("\r\n".join([*table, ""]).encode())
    objects = [
        {"audio_filepath": path, "text": text, "duration": 1.5}
        if i % 2
        else {"audio": path, "sentence": text}
        for i, (path, text) in enumerate(rows)
    ]
    lines = "\n".join(json.dumps(x) for x in objects)
    (folder / "list.jsonl").write_text(lines + "\n\n", "utf-8")
    expected = [(path, folder / path, text) for path, text in rows]
    for name in ("list.tsv", "list.jsonl"):
        found = find_utterances([folder / name])
        assert [(x.id, x.path, x.text) for x in found] == expected


def test_fairseqs_table(tmp_path: Path) -> None:
    """A folder in the first line, paths and samples in the others."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "train.tsv").write_text(f"{tmp_path / 'audio'}\na/b.flac\t16000\nc.flac\t3\n")
    found = find_utterances([tmp_path / "train.tsv"])
    assert [(x.id, x.path) for x in found] == [
        ("a/b.flac", tmp_path / "audio/a/b.flac"),
        ("c.flac", tmp_path / "audio/c.flac"),
    ]


@pytest.mark.parametrize(
    ("row", "folder"), [("a.wav", "."), ("a.wav\t16000", "audio")], ids=["column", "fairseq"]
)
def test_a_folder_with_the_name_of_a_column(tmp_path: Path, row: str, folder: str) -> None:
    """Rows of fairseq have a number of samples; a table of one column is not taken for them."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "list.tsv").write_text(f"audio\n\n{row}\n")
    (found,) = find_utterances([tmp_path / "list.tsv"])
    assert found.path == tmp_path / folder / "a.wav"


def test_invalid_manifests_are_one_line(tmp_path: Path) -> None:
    """An invalid manifest is one line with the line number, found and expected."""
    cases: list[tuple[str, bytes, str]] = [
        ("a.tsv", b"", "no audio found"),
        ("a.tsv", b"path\ttext\n", "no audio found"),
        ("a.tsv", b"file\ttext\nx.wav\thello\n", "found the columns 'file, text'"),
        ("a.tsv", b"path\ttext\n\thello\n", "line 2: found no path"),
        ("a.tsv", b"path\n\xff\xfe\n", "UTF-8"),
        ("a.tsv", b"path\nx\0.wav\n", "line 2: found no path"),
        ("a.jsonl", b"[1, 2]\n", "line 1: found no key"),
        ("a.jsonl", b'{"path": "x.wav"}\n{"path": 3}\n', "line 2: found no path"),
        ("a.jsonl", b'{"path": "x.wav", "text": 7}\n', "found 'text' 7"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("a.tsv", b"path\n.\n", "line 2: found the path '.'"),
        ("a.tsv", b"path\nb/..\n", "line 2: found the path 'b/..'"),
        ("a.tsv", b"path\rx.wav\r", "line 1: found a carriage return"),
        ("a.tsv", b"path\nx.wav\rz\n", "line 2: found a carriage return"),
        ("a.tsv", b"\xff\nx.wav\n", "line 1: found bytes that are not UTF-8"),
    ]
    for name, content, words in cases:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words) as refused:
            find_utterances([tmp_path / name])
        assert "\n" not in str(refused.value)


def test_a_manifest_that_is_not_there() -> None:
    """A missing manifest is an error."""
    with pytest.raises(InputError, match=r"nowhere\.tsv: the manifest does not exist"):
        find_utterances([Path("nowhere.tsv")])
