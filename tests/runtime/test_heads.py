"""transcribe and classify: decoding of logits, and errors of models without heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from w2v_edge import Classification, FrameClassification, Model, Transcription
from w2v_edge.bundle import Bundle, CtcInfo, Manifest
from w2v_edge.errors import BundleError, GraphMissingError, HeadMissingError, InputError
from w2v_edge.providers import Execution, choose
from w2v_edge.runtime.session import Session

CTC = CtcInfo(0, "|", ("<pad>",))
LABELS = ("<pad>", "|", "a", "b")
FRAMES = ("batch", "frames", "labels")
UTTERANCE = ("batch", "labels")


@dataclass(frozen=True)
class _Session:
    """Gives the same logits for any waveform, a batch of one."""

    bundle: Bundle
    logits: npt.NDArray[Any]
    execution: Execution = field(default=choose("cpu", None, allow_fallback=False))

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def run(self, graph: str, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        assert graph == "encoder"
        assert inputs["waveform"].shape == (1, *inputs["lengths"])
        lengths = np.array([len(self.logits)])
        return {"logits": self.logits[np.newaxis], "frame_lengths": lengths}


@pytest.fixture(scope="session")
def headed(bundle: Callable[[str], Path]) -> Callable[..., Model]:
    """`headed(logits, **changes)`: a model whose manifest is changed and whose logits are these."""

    def make(logits: npt.NDArray[Any], **changes: Any) -> Model:
        opened = Bundle.open(bundle("tiny"))
        changed = replace(opened, manifest=replace(opened.manifest, **changes))
        return Model(cast("Session", _Session(changed, logits)))

    return make


def _best(ids: list[int], labels: int = 4) -> npt.NDArray[np.float32]:
    return 9 * np.eye(labels, dtype=np.float32)[ids]


SECOND = np.zeros(16_000, np.float32)


def test_transcribe(headed: Callable[..., Model]) -> None:
    """Text has times by the hop, for a waveform or a list, with any decoder."""
    model = headed(_best([2, 3, 0, 1, 2]), logits_axes=FRAMES, labels=LABELS, ctc=CTC)
    found = model.transcribe(SECOND)
    assert found.text == "ab a"
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.1])
    assert model.transcribe([SECOND, SECOND[:8_000]], 16_000) == [found, found]
    assert model.transcribe([]) == []

    class Shapes:
        def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
            return Transcription(f"{logits.shape} {frame_seconds:g}", (), 1.0)

    assert model.transcribe(SECOND, decoder=Shapes()).text == "(5, 4) 0.02"


def test_classify_utterances(headed: Callable[..., Model]) -> None:
    """Softmax over labels and the best ones; unnamed labels are numbers."""
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    found = headed(logits, logits_axes=UTTERANCE, labels=("yes", "no", "up")).classify(SECOND)
    assert isinstance(found, Classification)
    assert (found.label, found.index) == ("no", 1)
    assert found.scores == pytest.approx([0.1, 0.6, 0.3])
    assert [label for label, _ in found.top(2)] == ["no", "up"]
    assert found.top(1)[0][1] == pytest.approx(0.6)
    (unnamed,) = headed(logits, logits_axes=UTTERANCE).classify([SECOND])
    assert isinstance(unnamed, Classification)
    assert unnamed.label == "1"
    assert unnamed.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("meaning", "scores"),
    [("one_of", [0.5, 0.5]), ("any_of", [0.880797, 0.880797]), ("values", [2.0, 2.0])],
)
def test_scores_are_what_logits_mean(
    meaning: str, scores: list[float], headed: Callable[..., Model]
) -> None:
    """Scores are softmax, sigmoid or the logits, as `logits_meaning` states."""
    logits = np.array([2, 2], np.float32)
    found = headed(logits, logits_axes=UTTERANCE, logits_meaning=meaning).classify(SECOND)
    assert isinstance(found, Classification)
    assert found.scores == pytest.approx(scores)


def test_classify_frames(headed: Callable[..., Model]) -> None:
    """The best label of each frame, its time, and logits as either kind of probability."""
    logits = np.array([[2, -2], [-1e4, 0], [1e4, 1e4]], np.float32)
    model = headed(logits, logits_axes=FRAMES, labels=("one", "two"))
    found = model.classify(SECOND)
    assert isinstance(found, FrameClassification)
    assert found.indices.tolist() == [0, 1, 0]
    assert found.labels == ("one", "two")
    np.testing.assert_array_equal(found.times, model.times(3))
    np.testing.assert_array_equal(found.logits, logits)
    assert found.probabilities.sum(axis=1) == pytest.approx([1, 1, 1])
    assert found.activations[0] == pytest.approx([0.880797, 0.119203])
    assert found.activations[1:].tolist() == [[0, 0.5], [1, 1]]
    nothing = headed(logits[:0], logits_axes=FRAMES, labels=("one", "two")).classify(SECOND)
    assert isinstance(nothing, FrameClassification)
    assert len(nothing.indices) == len(nothing.times) == len(nothing.probabilities) == 0
    assert found.probabilities.dtype == found.activations.dtype == np.float32


def test_fewer_frames_of_context(headed: Callable[..., Model]) -> None:
    """Where strided convolutions end the context network, its frames take that much longer."""
    adapter = {"dim": 8, "layers": 2, "kernel": 3, "stride": 2, "padding": 1}
    plain = headed(_best([0]))
    config = plain.manifest.config
    changes: dict[str, Any] = {
        "logits_axes": FRAMES,
        "labels": LABELS,
        "config": config | {"context": config["context"] | {"adapter": adapter}},
    }
    (word,) = headed(_best([0, 2, 2]), ctc=CTC, **changes).transcribe(SECOND).words
    assert [word.start, word.end] == pytest.approx([0.08, 0.24])
    frames = headed(_best([0, 2, 2]), **changes).classify(SECOND)
    assert isinstance(frames, FrameClassification)
    # With a kernel of three and a zero on each side, an output is centred on its second input.
    np.testing.assert_allclose(frames.times, plain.times(9)[::4])


def test_models_without_the_head(headed: Callable[..., Model]) -> None:
    """A missing head is an error that names the other call and the checkpoint class."""
    bare = headed(_best([0]))
    transcriber = headed(_best([0]), logits_axes=FRAMES, labels=LABELS, ctc=CTC)
    classifier = headed(_best([0])[0], logits_axes=UTTERANCE, labels=LABELS)
    with pytest.raises(HeadMissingError, match=r"has no head.*Wav2Vec2ForCTC"):
        bare.transcribe(SECOND)
    with pytest.raises(HeadMissingError, match=r"has no head.*ForSequenceClassification"):
        bare.classify(SECOND)
    with pytest.raises(HeadMissingError, match=r"call transcribe"):
        transcriber.classify(SECOND)
    with pytest.raises(HeadMissingError, match=r"call classify"):
        classifier.transcribe(SECOND)
    unnamed = headed(_best([0]), logits_axes=FRAMES, ctc=CTC)
    with pytest.raises(BundleError, match=r"no vocab\.json.*export again") as caught:
        unnamed.transcribe(SECOND)
    assert not isinstance(caught.value, GraphMissingError | HeadMissingError)


def test_bad_inputs(headed: Callable[..., Model]) -> None:
    """Waveforms are checked as for encode; logits must be finite and fit the labels."""
    options: dict[str, Any] = {"logits_axes": FRAMES, "labels": LABELS, "ctc": CTC}
    model = headed(_best([0]), **options)
    with pytest.raises(InputError, match=r"item 1 of the list"):
        model.transcribe([SECOND, SECOND[:10]])
    for logits in (_best([0], 5), np.full((3, 4), np.nan, np.float32)):
        with pytest.raises(InputError):
            headed(logits, **options).transcribe(SECOND)
        for axes, shaped in ((FRAMES, logits), (UTTERANCE, logits[0])):
            with pytest.raises(InputError):
                headed(shaped, logits_axes=axes, labels=LABELS).classify(SECOND)
