"""transcribe, with a model that has a CTC head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pysubs2
import pytest
import soundfile

import w2v_edge as package
from w2v_edge import Transcription
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.segments import Segment, SegmentLimits, join_segments
from w2v_edge.text.subtitles import cues

Verb = Callable[..., Any]
Samples = npt.NDArray[np.int16]


@pytest.fixture
def clip(speech: dict[str, Any]) -> Samples:
    """Speech as it comes back from a 16-bit file."""
    samples: Samples = (speech["en-activated"] * 32768).round().astype(np.int16)
    return samples


@pytest.fixture
def recordings(tmp_path: Path, clip: Samples) -> Path:
    """A folder of two good files and a bad one."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "whole.wav", clip, 16_000)
    soundfile.write(folder / "half.flac", clip[: len(clip) // 2], 16_000)
    (folder / "text.wav").write_text("this is not audio")
    return folder


def _arpa(words: list[str]) -> str:
    """A language model to which all words are equally likely, after any other."""
    entries = "".join(f"-2\t{word}\t0\n" for word in words)
    pair = f"-1\t{words[3]} {words[4]}\n"
    counts = f"ngram 1={len(words)}\nngram 2=1\n"
    return f"\\data\\\n{counts}\n\\1-grams:\n{entries}\n\\2-grams:\n{pair}\n\\end\\\n"


@pytest.fixture
def expected(ctc_bundle: Path, clip: Samples) -> Transcription:
    """The package's transcription of the clip."""
    return package.load(ctc_bundle).transcribe(clip)


@pytest.fixture
def segments(ctc_bundle: Path, clip: Samples) -> list[Segment]:
    """The package's segments of the clip."""
    return list(package.load(ctc_bundle).segments(clip))


def test_the_text_of_one_file(
    w2v_edge: Verb, ctc_bundle: Path, recordings: Path, expected: Transcription
) -> None:
    """For one file, only the text is printed."""
    outcome = w2v_edge("transcribe", ctc_bundle, recordings / "whole.wav")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == expected.text + "\n"


def test_many_files(
    w2v_edge: Verb, ctc_bundle: Path, recordings: Path, expected: Transcription
) -> None:
    """Each text follows its file; a bad file is named, the others are done, the exit code is 1."""
    outcome = w2v_edge("transcribe", ctc_bundle, recordings)
    assert outcome.code == 1
    assert f"{recordings / 'whole.wav'}: {expected.text}\n" in outcome.out
    assert f"{recordings / 'half.flac'}: " in outcome.out
    assert len(outcome.out.splitlines()) == 2
    assert "text.wav" in outcome.err
    assert "1 of 3 files failed" in outcome.err


def test_json(w2v_edge: Verb, ctc_bundle: Path, recordings: Path, expected: Transcription) -> None:
    """A list with text, score and words with their times and confidences."""
    outcome = w2v_edge("transcribe", ctc_bundle, recordings, "--json")
    assert outcome.code == 1
    found = {Path(x["file"]).name: x for x in outcome.json}
    assert "error" in found["text.wav"]
    whole = found["whole.wav"]
    assert whole["text"] == expected.text
    assert whole["score"] == pytest.approx(expected.score)
    assert "confidence" not in whole
    assert [word["text"] for word in whole["words"]] == [word.text for word in expected.words]
    for word, other in zip(whole["words"], expected.words, strict=True):
        assert word == pytest.approx(vars(other))


def test_alternatives(w2v_edge: Verb, ctc_bundle: Path, recordings: Path) -> None:
    """--n-best lists other texts in JSON; a hotword takes its place in the text."""
    whole = recordings / "whole.wav"
    search = ("--beam-width", "20", "--n-best", "3")
    (found,) = w2v_edge("transcribe", ctc_bundle, whole, *search, "--json").json
    texts = [found["text"], *(x["text"] for x in found["alternatives"])]
    assert len(texts) == len(set(texts)) == 3
    hotword = next(x for text in texts[1:] for x in text.split() if x not in texts[0].split())
    weighed = ("--hotwords", hotword.lower(), "--hotword-weight", "100")
    (favoured,) = w2v_edge("transcribe", ctc_bundle, whole, *search, *weighed, "--json").json
    assert hotword in favoured["text"].split()
    assert w2v_edge("transcribe", ctc_bundle, whole, "--hotword-weight", "2").code == 2


def test_subtitles(
    w2v_edge: Verb, ctc_bundle: Path, recordings: Path, segments: list[Segment], tmp_path: Path
) -> None:
    """One file of each kind per recording, with the cues of its words; never over another one."""
    out = tmp_path / "out"
    arguments = ("transcribe", ctc_bundle, recordings, "--srt", "--vtt", "-o", out)
    outcome = w2v_edge(*arguments)
    assert outcome.code == 1
    made = ["half.srt", "half.vtt", "whole.srt", "whole.vtt"]
    assert sorted(path.name for path in out.iterdir()) == made
    for name in made:
        assert str(out / name) in outcome.out
    times = [(cue.start, cue.end) for cue in cues(join_segments(segments))]
    for kind in ("srt", "vtt"):
        found = pysubs2.load(str(out / f"whole.{kind}"), format_=kind)
        assert [(event.start, event.end) for event in found] == times
    again = w2v_edge(*arguments)
    assert "3 of 3 files failed" in again.err
    assert "--force" in again.err
    assert "1 of 3 files failed" in w2v_edge(*arguments, "--force").err


def test_segments(w2v_edge: Verb, ctc_bundle: Path, recordings: Path, clip: Samples) -> None:
    """A line for each with its times, and in JSON beside the words; limits need segments."""
    limits = ("--min-pause", "0.06", "--max-segment", "1")
    whole = ("transcribe", ctc_bundle, recordings / "whole.wav")
    cut = SegmentLimits(0.06, 1)
    expected = list(package.load(ctc_bundle).segments(clip, limits=cut))
    assert len(expected) > 1
    lines = w2v_edge(*whole, "--segments", *limits).out.splitlines()
    assert lines == [f"{x.start:.2f}\t{x.end:.2f}\t{x.text}" for x in expected]
    (found,) = w2v_edge(*whole, "--segments", *limits, "--json").json
    assert [x["text"] for x in found["segments"]] == [x.text for x in expected]
    assert [x["start"] for x in found["segments"]] == [x.start for x in expected]
    assert found["text"] == join_segments(expected).text
    assert "need --segments" in w2v_edge(*whole, *limits).err
    assert "at least the pause" in w2v_edge(*whole, "--segments", "--min-pause", "31").err


def test_the_default_folder(
    w2v_edge: Verb,
    ctc_bundle: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Subtitles go to `transcripts` in the current folder; without --srt nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert w2v_edge("transcribe", ctc_bundle, recordings / "whole.wav").code == 0
    assert not (tmp_path / "transcripts").exists()
    assert w2v_edge("transcribe", ctc_bundle, recordings / "whole.wav", "--srt").code == 0
    assert (tmp_path / "transcripts/whole.srt").exists()


def test_a_language_model(
    w2v_edge: Verb, refused: Verb, ctc_bundle: Path, recordings: Path, clip: Samples, tmp_path: Path
) -> None:
    """Texts are those of the same beam search in Python, and KenLM draws nothing."""
    model = package.load(ctc_bundle)
    letters = [text for text in model.spelling.texts if text.isalpha()]
    words = ["<unk>", "<s>", "</s>", *(a + b for a in letters for b in letters)]
    path = tmp_path / "lm.arpa"
    path.write_text(_arpa(words), encoding="utf-8")
    arguments = ("transcribe", ctc_bundle, recordings / "whole.wav", "--beam-width", "10")
    outcome = w2v_edge(*arguments, "--lm", path, "--alpha", "2", "--beta", "0.1")
    assert (outcome.code, outcome.err) == (0, "")
    search = BeamSearch(model.spelling, lm=path, alpha=2, beta=0.1, beam_width=10)
    assert outcome.out == model.transcribe(clip, decoder=search).text + "\n"
    alone = BeamSearch(model.spelling, beam_width=10)
    assert w2v_edge(*arguments).out == model.transcribe(clip, decoder=alone).text + "\n"
    refused(w2v_edge(*arguments, "--lm", tmp_path / "gone.arpa"), 1, "gone.arpa")
    path.write_text("nonsense")
    refused(w2v_edge(*arguments, "--lm", path), 1, "lm.arpa", "found no words")
    path.write_text(_arpa(words)[:-40], encoding="utf-8")
    refused(w2v_edge(*arguments, "--lm", path), 1, "lm.arpa")
