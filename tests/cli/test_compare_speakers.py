"""compare-speakers: two files, one against several, and lists of pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

import w2v_edge as package
from w2v_edge import data
from w2v_edge.runtime.embedding import cosine

Verb = Callable[..., Any]

CLIPS = Path(data.__path__[0])
ONE, OTHER = CLIPS / "en-activated.flac", CLIPS / "fr-demo-abouttotry.flac"


def test_two_recordings(w2v_edge: Verb, voice_bundle: Path, speech: dict[str, Any]) -> None:
    """The cosine of their embeddings, and the verdict by the bundle's threshold or another."""
    model = package.load(voice_bundle)
    found = cosine(*(model.embed(speech[x.stem]) for x in (ONE, OTHER)))
    assert 0.5 < found < 0.98
    outcome = w2v_edge("compare-speakers", voice_bundle, ONE, OTHER)
    assert (outcome.code, outcome.out) == (0, f"{found:.4f}\tdifferent speakers\n")
    assert "not trained to tell speakers apart" in outcome.err
    outcome = w2v_edge("compare-speakers", voice_bundle, ONE, OTHER, "--threshold", "0.5", "--json")
    (pair,) = outcome.json
    assert pair == {
        "a": str(ONE),
        "b": str(OTHER),
        "cosine": pytest.approx(found),
        "threshold": 0.5,
        "same_speaker": True,
    }
    exact = w2v_edge("compare-speakers", voice_bundle, ONE, ONE, "--threshold", "0.9999")
    assert exact.out == "1.0000\tsame speaker\n"


def test_without_a_threshold(
    w2v_edge: Verb, voice_bundle: Path, tmp_path: Path, reseal: Verb
) -> None:
    """Without a threshold there is no verdict, and a note says so; an invalid one is refused."""
    import shutil

    folder = shutil.copytree(voice_bundle, tmp_path / "bundle")
    reseal(folder, selection={"pool": "mean,std"})
    outcome = w2v_edge("compare-speakers", folder, ONE, OTHER, "--json")
    assert outcome.code == 0
    assert outcome.json[0]["same_speaker"] is outcome.json[0]["threshold"] is None
    assert "--speaker-threshold" in outcome.err
    assert w2v_edge("compare-speakers", folder, ONE, OTHER).out.count("\t") == 0
    for wrong in (2, "high", True):
        reseal(folder, selection={"speaker_threshold": wrong})
        outcome = w2v_edge("compare-speakers", folder, ONE, OTHER)
        assert outcome.code == 1
        assert "selection.speaker_threshold" in outcome.err


def test_one_against_several(w2v_edge: Verb, voice_bundle: Path) -> None:
    """The first is compared with each of the others, files and folders."""
    outcome = w2v_edge("compare-speakers", voice_bundle, ONE, OTHER, CLIPS, "--json")
    assert [x["a"] for x in outcome.json] == [str(ONE)] * 6
    assert [x["b"] for x in outcome.json] == [str(OTHER), *map(str, sorted(CLIPS.glob("*.flac")))]


def test_silence_has_no_speaker(w2v_edge: Verb, voice_bundle: Path, tmp_path: Path) -> None:
    """Two recordings of digital silence are alike, and of nobody: there is no verdict."""
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", [0.0] * 16_000, 16_000)
    outcome = w2v_edge("compare-speakers", voice_bundle, tmp_path / "a.wav", tmp_path / "b.wav")
    assert outcome.code == 1
    assert f"{tmp_path / 'a.wav'}: found digital silence" in outcome.err


def test_a_bad_pair_stops_no_other(
    w2v_edge: Verb, voice_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bad line has its reason; paths are relative to the list; each file is embedded once."""
    (tmp_path / "here.flac").write_bytes(ONE.read_bytes())
    (tmp_path / "text.wav").write_text("not audio")
    lines = (
        *(f"here.flac\t{OTHER}", "only.wav", "", f"gone.wav\t{ONE}", "text.wav\there.flac"),
        *("a\0b\there.flac", "a\tb\tc", f"{OTHER}\there.flac"),
    )
    (tmp_path / "pairs.txt").write_text("\r\n".join(lines))
    calls: list[Any] = []
    embed = package.Model.embed

    def counted(model: Any, audio: Any, **options: Any) -> Any:
        calls.append(audio)
        return embed(model, audio, **options)

    monkeypatch.setattr(package.Model, "embed", counted)
    outcome = w2v_edge(
        "compare-speakers", voice_bundle, "--pairs", tmp_path / "pairs.txt", "--json"
    )
    assert outcome.code == 1
    assert "5 of 7 pairs failed" in outcome.err
    first, only, gone, text, nul, three, last = outcome.json
    assert first["cosine"] == pytest.approx(last["cosine"])
    assert (
        (first["a"], first["b"])
        == (last["b"], last["a"])
        == (
            str(tmp_path / "here.flac"),
            str(OTHER),
        )
    )
    assert len(calls) == 2
    for failed, words in (
        (only, "line 2: found 1 paths"),
        (gone, "gone.wav"),
        (text, "text.wav"),
        (nul, "expected an audio file"),
        (three, "line 7: found 3 paths"),
    ):
        assert words in failed["error"]
        assert "internal" not in failed["error"]


def test_lists_that_cannot_be_used(
    w2v_edge: Verb, refused: Verb, voice_bundle: Path, tmp_path: Path
) -> None:
    """A list that is missing, empty or not text, and arguments that do not go together."""
    for content, words in ((b" \n", "no pairs"), (b"\xff\xfe", "UTF-8"), (None, "not exist")):
        if content is not None:
            (tmp_path / "pairs").write_bytes(content)
        else:
            (tmp_path / "pairs").unlink()
        outcome = w2v_edge("compare-speakers", voice_bundle, "--pairs", tmp_path / "pairs")
        refused(outcome, 1, words)
    for arguments in ((), (ONE,), (ONE, OTHER, "--pairs", "x"), (ONE, OTHER, "--threshold", "7")):
        assert w2v_edge("compare-speakers", voice_bundle, *arguments).code == 2
    outcome = w2v_edge("compare-speakers", data.TINY_INT8, ONE, OTHER)
    refused(outcome, 1, "no embedding", "--pool")
