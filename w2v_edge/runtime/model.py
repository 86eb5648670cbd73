"""A loaded model: audio to features, context vectors, codes, text and classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform
from w2v_edge.bundle_files import Bundle
from w2v_edge.errors import GraphMissingError
from w2v_edge.names import Power
from w2v_edge.providers import ProviderChoice, choose
from w2v_edge.runtime import long_audio
from w2v_edge.runtime.classes import (
    Classification,
    FrameClassification,
    class_names,
    classify_frames,
    classify_utterance,
)
from w2v_edge.runtime.context_window import STREAM, ContextWindow, check_window, long_window
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.frontend_stream import RunningStatistics
from w2v_edge.runtime.graph_runner import GraphRunner
from w2v_edge.runtime.opened_bundle import OpenedBundle
from w2v_edge.runtime.recordings import Audio, Recordings
from w2v_edge.runtime.sources import AudioSource
from w2v_edge.runtime.spelling import Spelling
from w2v_edge.runtime.statistics import Statistics
from w2v_edge.runtime.stream import Stream, choose_statistics
from w2v_edge.runtime.text import Decoder, GreedyDecoder, Transcription
from w2v_edge.runtime.tuned import find_tuning
from w2v_edge.runtime.whole import WholeUtterances

T = TypeVar("T")

WHOLE_SECONDS = 60.0
"""Codes of what is longer are made piece by piece: they are the same, and memory stays flat."""

BATCH_SECONDS = {"cpu": 6.0}
"""Beyond this a batch gains nothing on a CPU, which a single utterance keeps busy."""

ACCELERATOR_BATCH_SECONDS = 160.0


def load(
    bundle: str | Path,
    *,
    provider: ProviderChoice | Sequence[ProviderChoice] = "cpu",
    threads: int | None = None,
    power: Power = "high",
    allow_fallback: bool = False,
    tuned: bool | str | Path = False,
) -> Model:
    """Open a bundle. Graphs are loaded when first used.

    Args:
        bundle: the folder that `w2v-edge export` wrote.
        provider: a name, such as `cpu`, `cuda` or `openvino`; a name with options of
            onnxruntime's, `("cuda", {"device_id": 1})`; or a list of such. The first must run, and
            the work may be done on those named and nowhere else.
        threads: for one operator; by default the cores this process may use.
        power: `low` for one thread, which sleeps whenever it waits.
        allow_fallback: run on the CPU where `provider` does not; `placement` tells.
        tuned: use what `w2v-edge tune` found on this device, or wrote to this file; `threads` and
            options of a provider that are given here win.

    Raises:
        BundleError: no bundle there, or damaged, or of a newer format.
        ProviderError: the provider does not run here.
        MissingExtraError: onnxruntime is not installed.
        TuningError: nothing was tuned here, or for another bundle, device or onnxruntime.
    """
    execution = choose(provider, threads, allow_fallback=allow_fallback, power=power)
    opened = Bundle.open(bundle)
    tuning = find_tuning(tuned, opened.manifest, execution)
    return Model(GraphRunner(opened, tuning.applied(execution, threads)), tuning.batch_seconds)


class Model(OpenedBundle):
    """A model ready to run, from `w2v_edge.load`. Safe to use from many threads at once.

    Audio is a waveform (samples,) of floats in [-1, 1] or int16; or an `AudioSource`, such as
    `w2v_edge.audio.AudioFile`, which is read in blocks; or a list of such, of any lengths. A list
    gives a list, in its order: short utterances of like length are run together, which changes
    no result.
    """

    def __init__(self, runner: GraphRunner, batch_seconds: float | None = None) -> None:
        super().__init__(runner)
        self._batch_seconds = batch_seconds

    @overload
    def encode(
        self, audio: Audio, sample_rate: int | None = None, *, window: ContextWindow | None = None
    ) -> Encoding: ...
    @overload
    def encode(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: ContextWindow | None = None,
    ) -> list[Encoding]: ...
    def encode(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: ContextWindow | None = None,
    ) -> Encoding | list[Encoding]:
        """Compute features, context and codes of one recording, or of each in a list.

        Features, and codes made of them, are exact at any length. Attention is over the whole
        recording up to the manifest's `longest_context_seconds`, beyond that over a window that
        moves.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None says that it is the model's.
            window: what attention sees of recordings that are longer than it; by default steps of
                20 s with 5 s before and behind, beyond `longest_context_seconds` only.

        Raises:
            InputError: audio that cannot be right; `SampleRateError` for its rate; too long for a
                model whose attention cannot be taken in windows.
        """
        return self._recordings.map(
            audio,
            sample_rate,
            self._whole.encode,
            lambda source: self._encode_long(source, window),
            self._longest(window),
        )

    @overload
    def tokenize(
        self, audio: Audio, sample_rate: int | None = None, *, window: ContextWindow | None = None
    ) -> npt.NDArray[np.int64]: ...
    @overload
    def tokenize(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: ContextWindow | None = None,
    ) -> list[npt.NDArray[np.int64]]: ...
    def tokenize(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: ContextWindow | None = None,
    ) -> npt.NDArray[np.int64] | list[npt.NDArray[np.int64]]:
        """Compute the codes (frames, groups) of one recording, or of each in a list.

        The transformer is neither loaded nor run, unless codes are made from what it gives: then
        `window` counts. Arguments and errors as for `encode`.

        Raises:
            GraphMissingError: the model has no quantizer.
        """
        if "tokenizer" not in self.manifest.graphs:
            raise GraphMissingError(
                "this model has no quantizer, so there are no codes; export one that has, or with "
                "--layer and --kmeans"
            )
        of_context = self.manifest.quantizer_input == "context"

        def long(source: AudioSource) -> npt.NDArray[np.int64]:
            moving = window or long_window(self.manifest) if of_context else None
            return long_audio.codes_of(self._runner.run, self.manifest, source, moving)

        longest = self._longest(window) if of_context else WHOLE_SECONDS
        return self._recordings.map(audio, sample_rate, self._whole.tokenize, long, longest)

    @overload
    def transcribe(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
        window: ContextWindow | None = None,
    ) -> Transcription: ...
    @overload
    def transcribe(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
        window: ContextWindow | None = None,
    ) -> list[Transcription]: ...
    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
        window: ContextWindow | None = None,
    ) -> Transcription | list[Transcription]:
        """Turn the speech of one recording, or of each in a list, into text.

        Errors as for `encode`, and these.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None says that it is the model's.
            decoder: such as `w2v_edge.runtime.beam_search.BeamSearch`; None decodes greedily.
            window: as for `encode`.

        Raises:
            HeadMissingError: the model does not transcribe.
            BundleError: the bundle does not say what its labels spell.
        """
        decode = (decoder or GreedyDecoder(self.spelling)).decode
        seconds = self.context_frame_seconds

        def text(logits: npt.NDArray[Any]) -> Transcription:
            return decode(logits, seconds)

        return self._of_logits(audio, sample_rate, text, window)

    @overload
    def classify(
        self, audio: Audio, sample_rate: int | None = None, *, window: ContextWindow | None = None
    ) -> Classification | FrameClassification: ...
    @overload
    def classify(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: ContextWindow | None = None,
    ) -> list[Classification | FrameClassification]: ...
    def classify(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: ContextWindow | None = None,
    ) -> Classification | FrameClassification | list[Classification | FrameClassification]:
        """Classify one recording, or each in a list; what is classified depends on the model.

        Where it is the recording as a whole, a long one's logits are the mean over its windows.
        Arguments and errors as for `encode`.

        Raises:
            HeadMissingError: the model does not classify.
        """
        names = class_names(self.manifest)

        def classes(logits: npt.NDArray[Any]) -> Classification | FrameClassification:
            if logits.ndim > 1:
                return classify_frames(logits, names, self.context_times(len(logits)))
            return classify_utterance(logits, names, self.manifest.logits_meaning)

        return self._of_logits(audio, sample_rate, classes, window)

    def features(self, audio: Audio, sample_rate: int | None = None) -> npt.NDArray[np.float32]:
        """Compute what the quantizer consumes, (frames, channels), of one recording.

        The transformer is neither loaded nor run. Arguments and errors as for `encode`.
        """

        def long(source: AudioSource) -> npt.NDArray[np.float32]:
            return long_audio.features_of(self._runner.run, self.manifest, source)

        source = self._recordings.one(audio, sample_rate)
        found = self._recordings.map(source, None, self._whole.features, long, WHOLE_SECONDS)
        assert isinstance(found, np.ndarray)
        return found

    def encode_blocks(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        context: bool = True,
        window: ContextWindow | None = None,
    ) -> Iterator[Encoding]:
        """Yield the encoding of one recording in pieces of about 10 s, so that hours need no room.

        Pieces in a row are what `encode` gives of a long recording: frames of the context lag
        behind those of the features, and the last piece alone has the embedding.

        Args:
            audio: see `Model`; a source is read a second time, or a third, for statistics where the
                front end needs those of the whole.
            sample_rate: Hz of a waveform; None says that it is the model's.
            context: whether the transformer is run; without it there are features, and codes made
                of them.
            window: what attention sees; see `encode`.

        Raises:
            InputError: as for `encode`, some of them when the piece is reached.
        """
        moving = window or long_window(self.manifest) if context else None
        source = self._recordings.one(audio, sample_rate)
        return long_audio.encode_blocks(self._runner.run, self.manifest, source, moving)

    def stream(
        self,
        *,
        sample_rate: int | None = None,
        statistics: Statistics | RunningStatistics | str | None = None,
        context: ContextWindow | bool | None = None,
    ) -> Stream:
        """Open a stream, to push blocks of audio to and get frames from as soon as they are final.

        Args:
            sample_rate: Hz of what will be pushed; None says that it is the model's.
            statistics: for a front end that needs those of the whole utterance (group norm,
                normalised input; others ignore it): frozen ones, from `statistics`, of the same
                speaker and microphone; or "running", over what was heard so far, brought up to date
                each second; or `RunningStatistics` with another period.
            context: what attention sees, with the latency that it costs; True for steps of 320 ms
                with 4 s before and 320 ms behind; False for none. By default there is none where
                codes are made of features.

        Raises:
            InputError: statistics are needed and were not chosen, or do not fit; a window that is
                none, or that the model cannot have; `SampleRateError` for a rate that is none.
        """
        if context is None:
            context = self.manifest.quantizer_input != "features"
        if context is True:
            context = STREAM
        chosen = choose_statistics(self.manifest, statistics)
        return Stream(self._runner.run, self.manifest, chosen, context or None, sample_rate)

    def statistics(self, audio: Audio, sample_rate: int | None = None) -> Statistics:
        """Compute what the front end needs of a whole utterance, (k,); k is 0 if it needs nothing.

        Arguments and errors as for `encode`.
        """
        source = self._recordings.one(audio, sample_rate)
        found = long_audio.measure_statistics(self._runner.run, self.manifest, source)
        return np.zeros(0, dtype=np.float32) if found is None else found

    @property
    def spelling(self) -> Spelling:
        """What the labels of the model's logits spell; decoders are made from it.

        Raises:
            HeadMissingError: the model does not transcribe.
            BundleError: the bundle does not say what its labels spell.
        """
        return Spelling.of_manifest(self.manifest)

    @property
    def _recordings(self) -> Recordings:
        usual = BATCH_SECONDS.get(self.provider, ACCELERATOR_BATCH_SECONDS)
        tuned = self._batch_seconds
        return Recordings(self.manifest, usual if tuned is None else tuned)

    @property
    def _whole(self) -> WholeUtterances:
        return WholeUtterances(self._runner.run, self.manifest)

    def _longest(self, window: ContextWindow | None) -> float:
        """Return the seconds up to which attention is over the whole recording."""
        longest = self.manifest.longest_context_seconds
        return longest if window is None else check_window(window, self.manifest).seconds

    def _encode_long(self, source: AudioSource, window: ContextWindow | None) -> Encoding:
        return long_audio.encode(
            self._runner.run, self.manifest, source, window or long_window(self.manifest)
        )

    def _of_logits(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None,
        decode: Callable[[npt.NDArray[Any]], T],
        window: ContextWindow | None,
    ) -> T | list[T]:
        """Compute logits, (frames, labels) or (labels,), and decode them one by one."""

        def long(source: AudioSource) -> T:
            moving = window or long_window(self.manifest)
            return decode(long_audio.logits_of(self._runner.run, self.manifest, source, moving))

        def whole(waveforms: list[Waveform]) -> list[T]:
            return [decode(logits) for logits in self._whole.logits(waveforms)]

        return self._recordings.map(audio, sample_rate, whole, long, self._longest(window))
