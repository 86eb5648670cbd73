"""Manifests of recordings: what is read from them, and errors that name the file and the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from w2v_edge.audio import find_utterances
from w2v_edge.errors import InputError


def _manifest(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return path


def test_the_three_formats_give_the_same_utterances(tmp_path: Path) -> None:
    """A .tsv with any end of line, a .jsonl and fairseq's table name the same files."""
    (tmp_path / "clips").mkdir()
    long = "word " * 40_000
    manifests = [
        _manifest(tmp_path, "a.tsv", "path\ttext", f"clips/a.wav\t{long}", "", "clips/b.wav\t"),
        _manifest(
            tmp_path, "b.tsv", "text\tpath\r", f"{long}\tclips/a.wav\r", '"\tclips/b.wav\r', ""
        ),
        _manifest(
            tmp_path,
            "c.jsonl",
            json.dumps({"audio_filepath": "clips/a.wav", "text": long}),
            json.dumps({"audio": "clips/b.wav"}),
        ),
        _manifest(tmp_path, "d.tsv", "clips", "a.wav\t16000", "b.wav\t16000", ""),
    ]
    found = [find_utterances([path]) for path in manifests]
    paths = [tmp_path / "clips/a.wav", tmp_path / "clips/b.wav"]
    assert [[x.path for x in utterances] for utterances in found] == [paths] * 4
    assert [x[0].text for x in found] == [long, long, long, None]
    assert [x[1].text for x in found] == ["", '"', None, None]


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        ("cr.tsv", ["path\ttext", "a.wav\tone\rb.wav\ttwo"], r"cr\.tsv, line 2: .*carriage return"),
        ("mac.tsv", ["path\ttext\ra.wav\tone"], r"mac\.tsv, line 1: .*carriage return"),
        ("long.tsv", ["path\ttext", "a" * 200_000], r"long\.tsv, line 2: found a path of 200000"),
        ("long.jsonl", [json.dumps({"path": "a" * 9000})], r"line 1: found a path of 9000"),
        ("nul.tsv", ["path", "a\0.wav"], "line 2: found no path"),
        ("empty.tsv", ["path\ttext", "\tone"], "line 2: found no path"),
        ("columns.tsv", ["file\ttext", "a.wav\tone"], "found the columns 'file, text'"),
        ("text.jsonl", ['{"path": "a.wav", "text": 3}'], "line 1: found 'text' 3"),
        ("none.jsonl", ["[1]"], "line 1: found no key 'path'"),
        ("cut.jsonl", ['{"path": "a.wav"}', '{"path": '], "line 2: not JSON"),
        ("number.jsonl", ["1" * 5000], "line 1: not JSON"),
        ("latin.tsv", ["path", "\udcff.wav"], "not UTF-8"),
        ("header.tsv", ["path\ttext"], "no audio found"),
    ],
)
def test_a_malformed_manifest_is_one_line_with_its_name(
    name: str, lines: list[str], words: str, tmp_path: Path
) -> None:
    """The error names the file and, where there is one, the line."""
    with pytest.raises(InputError, match=words) as caught:
        find_utterances([_manifest(tmp_path, name, *lines)])
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
