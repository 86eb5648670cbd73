"""Beam search: greedy's text where logits are clear, the language model's where they are not."""

from __future__ import annotations

import base64
import gzip
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import BundleError, InputError, MissingExtraError
from w2v_edge.text.alignment import align_labels
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.language_model import read_vocabulary
from w2v_edge.text.spelling import Spelling, log_softmax

SPECIAL = ("<pad>", "<s>", "<unk>")
LABELS = ("A", "<pad>", "B", "<s>", "D", "|", "T", "<unk>")
A, BLANK, B, START, D, SPACE, T, UNKNOWN = range(8)
SPELLING = Spelling.of(LABELS, CtcInfo(BLANK, "|", SPECIAL))
FRAME = 0.02

# "bat" is a hundred times likelier than "bad", above all at the beginning.
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<unk>\t0
0\t<s>\t-0.3
-1.0\t</s>
-0.7\tbat\t-0.3
-2.5\tbad\t-0.3

\\2-grams:
-0.2\t<s> bat
-0.3\tbat </s>
-2.0\tbad </s>

\\end\\
"""

# The same, made by KenLM's build_binary of the type probing, then compressed.
BINARY = """
H4sIAAAAAAACA8vNTSxQyMlVyCgpKbDS18/OSE1My0zNSdFLzs/VT85PSVVIyy/KTSxRKEstKs7Mz1Mw5WJAgAZ7ILGfEUj8
BwKQCCNUhglMHrBHFmOF0swMqAAkXlCnuNeyrRSstvnYrNNO3bXe6Oq0KywnHAl9aMcCZHPlfP9YW/wgm4kBH2jYDyJArFkz
Z+6DurfB2NjYHsJXOAChMUFj0dsPtdU1rWfP+OwTO+/1eV1NlgRIrWab+YU9h5oVQJ6zKc3LtmOwKQZifSCRlFgCxCkMAAhY
C81TAQAA
"""


def _binary() -> bytes:
    return gzip.decompress(base64.b64decode(BINARY))


@pytest.fixture(params=["lm.arpa", "lm.arpa.gz", "lm.bin"])
def lm(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The language model as a file of each kind."""
    path: Path = tmp_path / request.param
    text = ARPA.encode()
    contents = {
        "lm.arpa": text,
        "lm.arpa.gz": gzip.compress(text),
        "lm.bin": _binary(),
    }
    path.write_bytes(contents[request.param])
    return path


def _logits(ids: list[int], sure: float = 20.0) -> npt.NDArray[np.float32]:
    logits = np.zeros((len(ids), len(LABELS)), np.float32)
    logits[np.arange(len(ids)), ids] = sure
    return logits


@pytest.fixture(scope="session")
def unclear() -> npt.NDArray[np.float32]:
    """Logits that sound a little more like BAD than like BAT."""
    logits = _logits([BLANK, B, B, A, D, D])
    logits[4:, T] = 19.5
    return logits


@given(ids=st.lists(st.integers(0, len(LABELS) - 1), max_size=40), width=st.sampled_from([1, 50]))
def test_clear_logits(ids: list[int], width: int) -> None:
    """Text, score, words' times and confidences are greedy's where each frame has a clear label."""
    found = BeamSearch(SPELLING, beam_width=width).decode(_logits(ids), FRAME)
    expected = GreedyDecoder(SPELLING).decode(_logits(ids), FRAME)
    assert found.text == expected.text
    assert found.score == pytest.approx(expected.score, abs=1e-6)
    for word, other in zip(found.words, expected.words, strict=True):
        assert word.text == other.text
        assert word.start == pytest.approx(other.start)
        assert word.end == pytest.approx(other.end)
        assert word.confidence == pytest.approx(other.confidence, abs=1e-6)


@given(seed=st.integers(0, 10_000), sure=st.floats(0.1, 5))
def test_unclear_logits_have_words_in_order(seed: int, sure: float) -> None:
    """On noise, words are in order of time and align with their frames."""
    noise = np.random.default_rng(seed).standard_normal((60, len(LABELS))) * sure
    found = BeamSearch(SPELLING, beam_width=8).decode(noise, FRAME)
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times)
    for value in (found.score, *(word.confidence for word in found.words)):
        assert 0 < value <= 1


def test_the_language_model_decides(lm: Path, unclear: npt.NDArray[np.float32]) -> None:
    """Without it BAD is heard, with it BAT, in the case of the labels, though its own is another.

    The word is then less sure than the one that was heard.
    """
    heard = BeamSearch(SPELLING).decode(unclear, FRAME)
    assert heard.text == GreedyDecoder(SPELLING).decode(unclear, FRAME).text == "BAD"
    (word,) = BeamSearch(SPELLING, lm=lm).decode(unclear, FRAME).words
    assert word.text == "BAT"
    assert [word.start, word.end] == pytest.approx([FRAME, 6 * FRAME])
    assert 0 < word.confidence < heard.words[0].confidence
    assert BeamSearch(SPELLING, lm=lm, alpha=0.0).decode(unclear, FRAME).text == "BAD"


def test_vocabularies(lm: Path) -> None:
    """Each kind of file gives its words, without the marks of sentences."""
    assert read_vocabulary(lm) == ["bat", "bad"]


def test_a_binary_without_its_words(tmp_path: Path, unclear: npt.NDArray[np.float32]) -> None:
    """A binary language model without a word list is used with labels in their case."""
    path = tmp_path / "lm.bin"
    content = bytearray(_binary().removesuffix(b"<unk>\0<s>\0</s>\0bat\0bad\0"))
    content[100] = 0  # says whether words follow
    path.write_bytes(content)
    assert read_vocabulary(path) is None
    assert BeamSearch(SPELLING, lm=path).decode(unclear, FRAME).text == "BAD"


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Files that are no language model are refused in one line."""
    cases: list[tuple[bytes | None, str]] = [
        (None, "No such file"),
        (b"", "found no words"),
        (b"nonsense", "found no words"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (b"mmap lm http://kheafield.com/code format version 5\n" + bytes(100), "KenLM cannot"),
        (ARPA[:120].encode(), "KenLM cannot"),
        (ARPA.replace("-2.5", "x").encode(), "KenLM cannot"),
    ]
    for content, words in cases:
        path = tmp_path / "broken.arpa"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            BeamSearch(SPELLING, lm=path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert "/third_party/" not in str(caught.value)
        with pytest.raises(InputError):
            BeamSearch(SPELLING, lm=tmp_path)


def test_another_language(tmp_path: Path) -> None:
    """A language model whose words the labels cannot spell is refused with an example."""
    path = tmp_path / "other.arpa"
    path.write_text(ARPA.replace("bat", "кот").replace("bad", "кит"), encoding="utf-8")
    with pytest.raises(InputError, match=r"'кот'.*'AB.*same language"):
        BeamSearch(SPELLING, lm=path)


def test_words_need_a_delimiter(tmp_path: Path) -> None:
    """A language model cannot score labels that are not spelled into words; a search can go."""
    spelling = Spelling.of(LABELS, CtcInfo(BLANK, None, (*SPECIAL, "|")))
    found = BeamSearch(spelling).decode(_logits([A, SPACE, A, B]), FRAME)
    assert [(word.text, word.start) for word in found.words] == [("AAB", 0)]
    with pytest.raises(InputError, match=r"no delimiter"):
        BeamSearch(spelling, lm=tmp_path / "any.arpa")


@pytest.mark.parametrize("labels", [("", "##a"), ("", "o k"), ("", "a", " o k")])
def test_labels_that_cannot_be_searched(labels: tuple[str, ...]) -> None:
    """Labels with spaces inside, or a mark without a meaning, are refused; greedy is offered."""
    with pytest.raises(BundleError, match=r"decode without it"):
        BeamSearch(Spelling.of(labels, CtcInfo(0, None, ())))


def test_bad_numbers() -> None:
    """Beam widths are whole numbers from 1, and weights are finite."""
    cases: list[dict[str, Any]] = [
        {"beam_width": 0},
        {"beam_width": True},
        {"beam_width": 2.5},
        {"alpha": np.nan},
        {"beta": np.inf},
    ]
    for options in cases:
        with pytest.raises(InputError, match=next(iter(options)).replace("_", " ")):
            BeamSearch(SPELLING, **options)


def test_bad_logits() -> None:
    """Shape and NaN are refused as by greedy decoding; no frame gives no text."""
    search = BeamSearch(SPELLING)
    assert search.decode(_logits([]), FRAME) == GreedyDecoder(SPELLING).decode(_logits([]), FRAME)
    for bad in (np.zeros((4, 7), np.float32), np.full((4, 8), np.nan, np.float32)):
        with pytest.raises(InputError):
            search.decode(bad, FRAME)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "ctc_beam_decoder", None)
    with pytest.raises(MissingExtraError, match=r"\[lm\]'$"):
        BeamSearch(SPELLING)


@given(seed=st.integers(0, 1_000), length=st.integers(1, 3))
def test_alignment_is_the_likeliest(seed: int, length: int) -> None:
    """No other path through all those that spell the labels is likelier."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, 3, length)
    scores = log_softmax(generator.standard_normal((5, 3)))

    def spelled(path: tuple[int, ...]) -> list[int]:
        return [x for i, x in enumerate(path) if x and (i == 0 or path[i - 1] != x)]

    paths = [p for p in product(range(3), repeat=5) if spelled(p) == labels.tolist()]
    best = max(paths, key=lambda path: sum(scores[i, x] for i, x in enumerate(path)))
    emitting = [i for i, x in enumerate(best) if x]
    path = align_labels(scores, labels, 0)
    assert (path.end - path.first).sum() == len(emitting)
    assert path.scores.sum() == pytest.approx(sum(scores[i, best[i]] for i in emitting))


def test_alignment_without_room() -> None:
    """Two equal labels need a frame between them."""
    scores = log_softmax(np.zeros((2, 3)))
    assert align_labels(scores, np.array([1, 2]), 0).end.tolist() == [1, 2]
    with pytest.raises(InputError, match="at least 3"):
        align_labels(scores, np.array([1, 1]), 0)


def _near(*texts: str, first: float) -> npt.NDArray[np.float32]:
    """Logits in which the first of two texts of letters is likelier by `first` nats."""
    ids = [[LABELS.index(x) for x in text.replace(" ", "|")] for text in texts]
    logits = _logits([x for pair in ids[0] for x in (pair, BLANK)], 40.0)
    for i, (one, other) in enumerate(zip(*ids, strict=True)):
        if one != other:
            logits[2 * i, other] = logits[2 * i, one] - first
    return logits


@pytest.mark.parametrize("pieces", [False, True])
def test_alternatives_and_hotwords(pieces: bool) -> None:
    """Texts come in order of likelihood, once each; a hotword is preferred by its weight."""
    spelling, logits = SPELLING, _near("BAD TAB", "BAT TAB", first=3.0)
    if pieces:
        labels = ("<pad>", "▁BA", "D", "T", "▁TAB")
        spelling = Spelling.of(labels, CtcInfo(0, None, ("<pad>",)))
        logits = np.full((7, 5), -40.0, np.float32)
        logits[[0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 0, 0, 4, 0]] = 0.0
        logits[2, 3] = -3.0
    many = BeamSearch(spelling, n_best=9).decode(logits, FRAME)
    assert [many.text, *(x.text for x in many.alternatives)][:2] == ["BAD TAB", "BAT TAB"]
    texts = [many.text, *(x.text for x in many.alternatives)]
    assert len(set(texts)) == len(texts) <= 9
    assert many.alternatives[0].words[1].start == many.words[1].start
    assert not BeamSearch(spelling).decode(logits, FRAME).alternatives
    for weight, text in ((0.0, "BAD TAB"), (1.0, "BAD TAB"), (9.0, "BAT TAB")):
        search = BeamSearch(spelling, hotwords=["bat"], hotword_weight=weight)
        assert search.decode(logits, FRAME).text == text
    plain = BeamSearch(spelling, hotwords=["tab"], hotword_weight=9.0).decode(logits, FRAME)
    assert plain.text == "BAD TAB"
    assert plain.score == pytest.approx(many.score)


def test_hotwords_that_cannot_be_spelled() -> None:
    """They are named with the letters that no label has; numbers out of range too."""
    with pytest.raises(InputError, match=r"'bäd', .*\(ä\)"):
        BeamSearch(SPELLING, hotwords=["bat", "bäd"])
    with pytest.raises(InputError, match="number of texts of 0"):
        BeamSearch(SPELLING, n_best=0)
    with pytest.raises(InputError, match="hotword weight nan"):
        BeamSearch(SPELLING, hotwords=["bat"], hotword_weight=np.nan)


def test_weights_of_no_language_model() -> None:
    """Weights that would have no effect are an error that names them."""
    cases: list[dict[str, Any]] = [{"alpha": 0.5}, {"beta": 0.0}, {"alpha": 1.0, "beta": 2.0}]
    for weights in cases:
        with pytest.raises(InputError, match=f"{' and '.join(weights)} without a language model"):
            BeamSearch(SPELLING, **weights)
