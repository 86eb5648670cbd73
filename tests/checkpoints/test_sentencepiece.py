"""Vocabularies of SentencePiece, against models that its own message classes write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import sentencepiece_model_pb2_new

from w2v_edge.checkpoints.sentencepiece import find_pieces, read_model, read_tokens
from w2v_edge.errors import CheckpointError

ModelProto: Callable[[], Any] = vars(sentencepiece_model_pb2_new)["ModelProto"]

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "a", "日", "<b>"]
TYPES = [3, 3, 3, 2, 1, 1, 4, 1, 1]


def _model(pieces: list[str], types: list[int]) -> bytes:
    model = ModelProto()
    for piece, kind in zip(pieces, types, strict=True):
        model.pieces.add(piece=piece, score=-1.5, type=kind)
    model.trainer_spec.model_prefix = "tokenizer"
    model.trainer_spec.vocab_size = 2**31 - 1
    model.normalizer_spec.precompiled_charsmap = bytes(range(256))
    content: bytes = model.SerializeToString()
    return content


def test_a_model(tmp_path: Path) -> None:
    """Pieces have the order of the file; control and unknown ones are no text."""
    path = tmp_path / "tokenizer.model"
    path.write_bytes(_model(PIECES, TYPES))
    found = read_model(path)
    assert found.labels == tuple(PIECES)
    assert found.special == ("<s>", "<pad>", "</s>", "<unk>")
    assert find_pieces(tmp_path) == found


def test_bytes_are_refused(tmp_path: Path) -> None:
    """A vocabulary that spells unknown characters by their bytes is named."""
    path = tmp_path / "tokenizer.model"
    path.write_bytes(_model(["<unk>", "<0x41>"], [2, 6]))
    with pytest.raises(CheckpointError, match="falls back to bytes"):
        read_model(path)


def test_which_file_is_read(tmp_path: Path) -> None:
    """A list goes before a model; of several models none is taken."""
    assert find_pieces(tmp_path) is None
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(_model(PIECES, TYPES))
    with pytest.raises(CheckpointError, match=r"found a\.model, b\.model"):
        find_pieces(tmp_path)
    (tmp_path / "tokens.txt").write_text("<s>\nx\n")
    found = find_pieces(tmp_path)
    assert found is not None
    assert (found.file, found.labels, found.special) == ("tokens.txt", ("<s>", "x"), ("<s>",))


@given(st.data())
def test_damaged_models(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A file that is cut off or changed is an error of one line, or other pieces; never a crash."""
    whole = bytearray(_model(PIECES, TYPES))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.model"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        assert read_model(path).labels
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


LISTS = {
    "an index twice": ("<s> 0\na 1\nb 1", "each index from 0 to 2 once"),
    "from one": ("<s> 1\na 2\nb 3", "each index from 0 to 2 once"),
    "an empty line": ("<s>\n\nb", "line 2: expected a piece"),
    "words": ("<s>\ntwo words\nb", "line 2: expected a piece, found 'two words'"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_are_not_pieces(name: str, tmp_path: Path) -> None:
    """A list whose indices differ from the numbers of its lines, or anything else, is refused."""
    text, message = LISTS[name]
    path = tmp_path / "tokens.txt"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_tokens(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="UTF-8"):
        read_tokens(path)
