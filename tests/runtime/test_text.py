"""Greedy CTC decoding: the text and words that transformers' tokenizer gives, and confidences."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import BundleError, InputError
from w2v_edge.text.aligner import Aligner
from w2v_edge.text.decoding import GreedyDecoder, Transcription
from w2v_edge.text.spelling import Spelling

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
LABELS = (*SPECIAL, "|", "A", "B", "É", "'", "ch", "L")
BLANK, UNKNOWN, SPACE, A, B, L = 0, 3, 4, 5, 6, 10
CTC = CtcInfo(BLANK, "|", SPECIAL)
FRAME = 320 / 16_000

PLAIN = [BLANK, *range(SPACE, len(LABELS))]


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The labels as a file for transformers."""
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.json"
    path.write_text(json.dumps({label: i for i, label in enumerate(LABELS)}), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def tokenizer(vocabulary: str) -> Any:
    """Transformers' tokenizer of the same labels."""
    from transformers import Wav2Vec2CTCTokenizer

    return Wav2Vec2CTCTokenizer(vocabulary)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def lowering(vocabulary: str) -> Any:
    """A spelling that converts to lower case."""
    from transformers import Wav2Vec2CTCTokenizer

    return Wav2Vec2CTCTokenizer(vocabulary, do_lower_case=True)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def phonemes(vocabulary: str) -> Any:
    """Transformers' tokenizer for labels that are phonemes."""
    from transformers import Wav2Vec2PhonemeCTCTokenizer

    return Wav2Vec2PhonemeCTCTokenizer(vocabulary, do_phonemize=False)  # type: ignore[no-untyped-call]


def _logits(ids: list[int], labels: int = len(LABELS), sure: float = 9.0) -> npt.NDArray[Any]:
    """Logits whose best labels are `ids`, the others being random and at least 1 below."""
    logits = np.random.default_rng(len(ids)).uniform(-1, 0, (len(ids), labels))
    logits[np.arange(len(ids)), ids] = sure
    return logits.astype(np.float32)


def _decode(ids: list[int], ctc: CtcInfo = CTC, labels: tuple[str, ...] = LABELS) -> Transcription:
    return GreedyDecoder(Spelling.of(labels, ctc)).decode(_logits(ids, len(labels)), FRAME)


@given(ids=st.lists(st.sampled_from(PLAIN), max_size=60))
def test_as_transformers_decodes(ids: list[int], tokenizer: Any) -> None:
    """Text and word offsets are the tokenizer's, but for its runs of several spaces."""
    found = _decode(ids)
    expected = tokenizer.decode(ids, output_word_offsets=True)
    assert found.text == " ".join(expected.text.split())
    assert [word.text for word in found.words] == [x["word"] for x in expected.word_offsets]
    for word, offsets in zip(found.words, expected.word_offsets, strict=True):
        assert word.start == pytest.approx(offsets["start_offset"] * FRAME)
        assert word.end == pytest.approx(offsets["end_offset"] * FRAME)


@given(ids=st.lists(st.sampled_from(PLAIN), max_size=60))
def test_lower_case(ids: list[int], lowering: Any) -> None:
    """Text is lower case if the tokenizer says so."""
    found = _decode(ids, replace(CTC, lowercase=True))
    assert found.text == " ".join(lowering.decode(ids).split())


@given(ids=st.lists(st.sampled_from([BLANK, *range(SPACE + 1, len(LABELS))]), max_size=60))
def test_phonemes_stand_apart(ids: list[int], phonemes: Any) -> None:
    """Phonemes are separate words with their own times."""
    found = _decode(ids, CtcInfo(BLANK, None, SPECIAL, separator=" "))
    assert found.text == (phonemes.decode(ids) if ids else "")
    offsets = phonemes.decode(ids, output_char_offsets=True).char_offsets if ids else []
    assert [word.text for word in found.words] == [x["char"] for x in offsets]
    starts = [x["start_offset"] * FRAME for x in offsets]
    ends = [x["end_offset"] * FRAME for x in offsets]
    assert [word.start for word in found.words] == pytest.approx(starts)
    assert [word.end for word in found.words] == pytest.approx(ends)


def test_what_is_spelled() -> None:
    """Repeats are one unless something parts them; special labels part and are not written."""
    cases: list[tuple[list[int], str]] = [
        ([A, L, L, BLANK, L, L, A], "ALLA"),
        ([A, L, L, L, A], "ALA"),
        ([A, UNKNOWN, A], "AA"),
        ([SPACE, A, SPACE, BLANK, SPACE, B, SPACE], "A B"),
        ([A, SPACE, UNKNOWN, SPACE, B], "A B"),
        ([9, 9, BLANK, 9], "chch"),
        ([B], "B"),
        ([BLANK] * 5, ""),
        ([SPACE, SPACE], ""),
        ([UNKNOWN, 1, 2], ""),
        ([], ""),
    ]
    for ids, text in cases:
        found = _decode(ids)
        assert found.text == text
        assert " ".join(word.text for word in found.words) == text


def test_the_delimiter_is_never_special() -> None:
    """A delimiter that is listed among special labels still parts words."""
    ctc = CtcInfo(BLANK, "|", (*SPECIAL, "|"))
    assert _decode([A, SPACE, B], ctc).text == "A B"


def test_without_a_delimiter() -> None:
    """Labels are joined into one word, parted only at spaces that labels hold."""
    ctc = CtcInfo(0, None, ("<pad>",))
    joined = _decode([0, 1, 2, 0, 1], ctc, ("<pad>", "n", "ʃ", "|"))
    assert [(w.text, w.start, w.end) for w in joined.words] == [("nʃn", FRAME, 5 * FRAME)]
    assert _decode([1, 3, 2], ctc, ("<pad>", "n", "ʃ", "|")).text == "n|ʃ"
    spaced = _decode([1, 2, 1], ctc, ("<pad>", "n", "o k "))
    assert [w.text for w in spaced.words] == ["no", "k", "n"]
    assert [w.start for w in spaced.words] == pytest.approx([0, FRAME, 2 * FRAME])


def test_score_of_a_text_is_the_mean_over_emitting_frames() -> None:
    """It leaves out blanks; a word's measure has a name of its own, `confidence`."""
    ids = [A, A, BLANK, B, SPACE, BLANK, L]
    logits = _logits(ids, sure=2.0)
    logits[1, B] = 1.9
    found = GreedyDecoder(Spelling.of(LABELS, CTC)).decode(logits, FRAME)
    wide = logits.astype(np.float64)
    scores = wide.max(axis=1) - np.log(np.exp(wide).sum(axis=1))
    assert found.score == pytest.approx(math.exp(scores[[0, 1, 3, 6]].mean()), rel=1e-5)
    with pytest.warns(DeprecationWarning, match=r"is now Transcription\.score"):
        assert found.confidence == found.score


def test_score_of_a_text_is_that_of_its_alignment() -> None:
    """One name has one meaning: aligning the decoded text gives the same score."""
    spelling = Spelling.of(LABELS, CTC)
    logits = _logits([A, A, BLANK, B, SPACE, BLANK, L], sure=2.0)
    found = GreedyDecoder(spelling).decode(logits, FRAME)
    aligned = Aligner(spelling, LABELS).align(logits, found.text, FRAME)
    assert aligned.score == pytest.approx(found.score, rel=1e-5)


def test_score_of_silence() -> None:
    """Without words, the score is that of the blanks, and 0 without frames."""
    logits = _logits([BLANK] * 4, sure=1.0)
    found = GreedyDecoder(Spelling.of(LABELS, CTC)).decode(logits, FRAME)
    wide = logits.astype(np.float64)
    expected = math.exp((wide[:, 0] - np.log(np.exp(wide).sum(axis=1))).mean())
    assert (found.text, found.words) == ("", ())
    assert found.score == pytest.approx(expected, rel=1e-5)
    assert _decode([]) == Transcription("", (), 0.0)


def test_scores_and_confidences_are_probabilities() -> None:
    """Scores and confidences are in [0, 1] for any logits, also in half precision."""
    for dtype in [np.float16, np.float32, np.float64]:
        for scale in [1e-3, 1.0, 1e4, 1e30]:
            if dtype == np.float16 and scale > 1e4:
                continue
            logits = (np.random.default_rng(3).standard_normal((400, len(LABELS))) * scale).astype(
                dtype
            )
            found = GreedyDecoder(Spelling.of(LABELS, CTC)).decode(logits, FRAME)
            assert len(found.words) > 10
            for value in (found.score, *(word.confidence for word in found.words)):
                assert 0 <= value <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    """NaN and infinity are refused, and their frame is named."""
    logits = _logits([A, B, L])
    logits[1, 2] = bad
    with pytest.raises(InputError, match=r"frame 1 that are not finite"):
        GreedyDecoder(Spelling.of(LABELS, CTC)).decode(logits, FRAME)
    logits[1] = -np.inf
    with pytest.raises(InputError, match=r"frame 1"):
        GreedyDecoder(Spelling.of(LABELS, CTC)).decode(logits, FRAME)


@pytest.mark.parametrize("shape", [(5, 10), (5, 12), (11,), (1, 5, 11)])
def test_logits_of_another_shape(shape: tuple[int, ...]) -> None:
    """As many labels as the model has, and two axes."""
    with pytest.raises(InputError, match=r"expected \(frames, 11\)"):
        GreedyDecoder(Spelling.of(LABELS, CTC)).decode(np.zeros(shape, np.float32), FRAME)


def test_labels_that_spell_nothing() -> None:
    """A model without labels is an error with a remedy; the blank must be a label."""
    with pytest.raises(BundleError, match=r"no vocab\.json; put one beside"):
        Spelling.of((), CTC)
    for blank in (-1, 11):
        with pytest.raises(BundleError, match=r"expected one of 11 labels"):
            Spelling.of(LABELS, CtcInfo(blank, "|", SPECIAL))
