"""A loaded model: audio to features, context, codes, text and classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Bundle, HeadInfo, Tensors
from w2v_edge.bundle.language_model import UNIGRAMS
from w2v_edge.errors import BundleError, GraphMissingError, InputError
from w2v_edge.names import Power
from w2v_edge.providers import ProviderChoice, choose
from w2v_edge.providers.tuned import find_tuning
from w2v_edge.runtime.alignment_stream import AlignmentStream
from w2v_edge.runtime.classification import (
    Classification,
    FrameClassification,
    WindowedClassification,
    classifiers,
    classify_frames,
    classify_utterance,
)
from w2v_edge.runtime.embedding import Embedding, check_embedding, require_embedding
from w2v_edge.runtime.encoding import Encoding, FrameTimes, Times
from w2v_edge.runtime.graphs import Graphs
from w2v_edge.runtime.inference import (
    OF_ENCODER,
    encode_blocks,
    logit_blocks,
    measure_statistics,
    run_recordings,
)
from w2v_edge.runtime.over_time import Hops, classify_windows
from w2v_edge.runtime.recordings import Audio, Recording, is_list, prepare, prepare_one
from w2v_edge.runtime.session import Session
from w2v_edge.runtime.statistics import RunningStatistics, Statistics, choose_statistics
from w2v_edge.runtime.stream import Stream
from w2v_edge.runtime.units import Units
from w2v_edge.runtime.window import (
    STREAM_WINDOW,
    Window,
    check_window,
    default_window,
    whole_seconds,
)
from w2v_edge.text.aligner import Aligner, Alignment, Unknown
from w2v_edge.text.decoding import Decoder, GreedyDecoder, Transcription
from w2v_edge.text.language_model import LanguageModelFiles
from w2v_edge.text.online_alignment import KnownText, OnlineAligner
from w2v_edge.text.pronunciation import Pronunciation, score_pronunciation
from w2v_edge.text.segments import Segment, Segmenter, SegmentLimits, decode_segments
from w2v_edge.text.spelling import Spelling

T = TypeVar("T")

Classes = Classification | FrameClassification | dict[str, Classification]
"""Result of `Model.classify`: of an utterance, of frames, or of several classifiers by name."""

ClassesOverTime = WindowedClassification | dict[str, WindowedClassification]
"""Result of `Model.classify` with `every`; of several classifiers by name."""


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
        provider: an execution provider, such as `cpu`, `cuda` or `openvino`; a name with
            onnxruntime's options, `("cuda", {"device_id": 1})`; or a list or tuple of these. The
            first one must run, and heavy operators run on those named and nowhere else.
        threads: intra-op threads; by default the cores that this process may use.
        power: `low` for one thread that sleeps while it waits.
        allow_fallback: run on the CPU if `provider` does not start; `placement` tells.
        tuned: use the settings that `w2v-edge tune` found on this device, or wrote to this file;
            `threads` and provider options given here take precedence.

    Raises:
        BundleError: the bundle is missing, damaged, or of a newer format.
        ProviderError: the provider does not run here.
        MissingExtraError: onnxruntime is not installed.
        TuningError: there is no tuning for this bundle, device and onnxruntime.
    """
    execution = choose(provider, threads, allow_fallback=allow_fallback, power=power)
    opened = Bundle.open(bundle)
    tuning = find_tuning(tuned, opened.manifest, execution)
    return Model(Session(opened, tuning.applied(execution, threads)), tuning.batch_seconds)


class Model(Graphs):
    """A model ready to run, from `w2v_edge.load`. Safe to use from many threads at once.

    Audio is a waveform (samples,) of floats in [-1, 1] or int16; or an `AudioSource` such as
    `w2v_edge.AudioFile`, which is read in blocks; or a list of these, of any lengths. A list gives
    a list in the same order: short utterances of similar length run in one batch, which changes no
    result.

    A model is a context manager; leaving it, or `close`, releases its memory.

    Attributes:
        session: runs the graphs.
    """

    def __init__(self, session: Session, batch_seconds: float | None = None) -> None:
        """Wrap a session.

        Args:
            session: of the bundle.
            batch_seconds: audio in a batch; None for the provider's default.
        """
        super().__init__(session)
        self._batch_seconds = batch_seconds

    @property
    def spelling(self) -> Spelling:
        """The text of each label of the logits; decoders are built from it.

        Raises:
            HeadMissingError: the model has no CTC head.
            BundleError: the bundle has no labels.
        """
        return Spelling.of_manifest(self.manifest)

    @property
    def language_model(self) -> LanguageModelFiles:
        """The bundle's language model, for `lm` of `w2v_edge.BeamSearch`.

        Raises:
            BundleError: the bundle has none.
            BundleIntegrityError: a file is missing or damaged.
        """
        info = self.manifest.language_model
        if info is None:
            raise BundleError(
                "this bundle has no language model; export the checkpoint again with --with-lm, "
                "or give a file"
            )
        return LanguageModelFiles(
            self.bundle.path(info.file),
            self.bundle.path(UNIGRAMS) if info.unigrams else None,
            info.alpha,
            info.beta,
            info.unk_score_offset,
            info.score_boundary,
        )

    @overload
    def encode(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> Encoding: ...
    @overload
    def encode(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> list[Encoding]: ...
    def encode(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> Encoding | list[Encoding]:
        """Compute features, context and codes of one recording, or of each in a list.

        Features, and codes computed from them, are exact at any length. Attention covers the whole
        recording up to the manifest's `longest_context_seconds`, and a moving window beyond that.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None for the model's.
            window: of attention, for recordings longer than the window; by default steps of 20 s
                with 5 s on both sides, beyond `longest_context_seconds` only.

        Raises:
            InputError: audio that cannot be used; `SampleRateError` for its rate; too long for a
                model whose attention cannot be computed in windows.
        """
        times = FrameTimes.of_manifest(self.manifest)
        return _gather(
            audio,
            (
                (
                    i,
                    Encoding.of(
                        x,
                        times.of_features(len(x["features"])),
                        times.of_context(len(x["context"])),
                    ),
                )
                for i, x in self._run(audio, sample_rate, "encoder", window)
            ),
        )

    @overload
    def tokenize(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
        deduplicate: Literal[False] = False,
    ) -> npt.NDArray[np.int64]: ...
    @overload
    def tokenize(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
        deduplicate: Literal[False] = False,
    ) -> list[npt.NDArray[np.int64]]: ...
    @overload
    def tokenize(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
        deduplicate: Literal[True],
    ) -> Units: ...
    @overload
    def tokenize(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
        deduplicate: Literal[True],
    ) -> list[Units]: ...
    def tokenize(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
        deduplicate: bool = False,
    ) -> object:
        """Compute the codes (frames, groups) of one recording, or of each in a list.

        The transformer is neither loaded nor run, unless codes are computed from its output; only
        then `window` is used. Other arguments and errors as for `encode`.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None for the model's.
            window: of attention; see `encode`.
            deduplicate: give each run of equal frames once, as `Units`, with durations in frames.

        Raises:
            GraphMissingError: the model has no quantizer.
        """
        if "tokenizer" not in self.manifest.graphs:
            raise GraphMissingError(
                "this model has no quantizer, so it has no codes; export a checkpoint that has "
                "one, or with --layer and --kmeans"
            )
        found = self._run(audio, sample_rate, "tokenizer", window)
        codes = ((i, outputs["codes"]) for i, outputs in found)
        if not deduplicate:
            return _gather(audio, codes)
        return _gather(audio, ((i, Units.of(each)) for i, each in codes))

    @overload
    def transcribe(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
        window: Window | None = None,
    ) -> Transcription: ...
    @overload
    def transcribe(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
        window: Window | None = None,
    ) -> list[Transcription]: ...
    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
        window: Window | None = None,
    ) -> Transcription | list[Transcription]:
        """Transcribe one recording, or each in a list.

        Errors as for `encode`, and these.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None for the model's.
            decoder: such as `w2v_edge.BeamSearch`; None decodes greedily.
            window: as for `encode`.

        Raises:
            HeadMissingError: the model has no CTC head.
            BundleError: the bundle has no labels.
        """
        decoder = decoder or GreedyDecoder(self.spelling)
        seconds = self.context_frame_seconds
        logits = self._run(audio, sample_rate, "logits", window)
        return _gather(audio, ((i, decoder.decode(x["logits"], seconds)) for i, x in logits))

    def segments(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        limits: SegmentLimits | None = None,
        decoder: Decoder | None = None,
        window: Window | None = None,
    ) -> Iterator[Segment]:
        """Transcribe one recording segment by segment, cut at pauses; memory stays flat.

        Pauses are found in the model's own logits; see `w2v_edge.text.segments`. Decoded greedily,
        the segments have the words of `transcribe`, except that one with a pause in it is two, and
        one longer than the longest segment is cut. Arguments and errors as for `transcribe`, some
        errors only when a segment is reached.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None for the model's.
            limits: shortest pause and longest segment; by default 0.5 s and 30 s.
            decoder: of each segment; None decodes greedily.
            window: as for `encode`.
        """
        spelling, seconds = self.spelling, self.context_frame_seconds
        segmenter = Segmenter(spelling, seconds, limits)
        max_seconds, window = self._attention(window)
        recording = prepare_one(audio, sample_rate, self.manifest)
        blocks = logit_blocks(self.session, recording, max_seconds, window)
        return decode_segments(blocks, decoder or GreedyDecoder(spelling), segmenter, seconds)

    @overload
    def align(
        self,
        audio: Audio,
        text: str,
        sample_rate: int | None = None,
        *,
        unknown: Unknown = "star",
        romanize: Callable[[str], str] | None = None,
        strict: bool = False,
        window: Window | None = None,
    ) -> Alignment: ...
    @overload
    def align(
        self,
        audio: Sequence[Audio],
        text: Sequence[str],
        sample_rate: int | None = None,
        *,
        unknown: Unknown = "star",
        romanize: Callable[[str], str] | None = None,
        strict: bool = False,
        window: Window | None = None,
    ) -> list[Alignment]: ...
    def align(
        self,
        audio: Audio | Sequence[Audio],
        text: str | Sequence[str],
        sample_rate: int | None = None,
        *,
        unknown: Unknown = "star",
        romanize: Callable[[str], str] | None = None,
        strict: bool = False,
        window: Window | None = None,
    ) -> Alignment | list[Alignment]:
        """Find the times of a known text's lines, words and labels in a recording.

        The result is the likeliest CTC path over all frames and labels, in less than a hundredth of
        their matrix's memory; see `w2v_edge.text.alignment`. Errors as for `encode`, and these.

        Args:
            audio: see `Model`.
            text: what is spoken; a list of texts for a list of recordings.
            sample_rate: Hz of waveforms; None for the model's.
            unknown: what characters without a label do, such as digits: `star` takes any label's
                frames, `skip` none, `error` raises.
            romanize: applied to each word first, such as `uroman.Uroman().romanize_string`.
            strict: raise an error for words that get no time.
            window: as for `encode`.

        Raises:
            HeadMissingError: the model has no CTC head.
            BundleError: the bundle has no labels.
            InputError: a text without words, with more labels than the audio has frames, or with
                characters or words that `unknown` and `strict` refuse.
        """
        aligner = Aligner(self.spelling, self.manifest.labels, unknown, romanize, strict)
        is_one = isinstance(text, str) or not isinstance(text, Sequence)
        texts = [text] if is_one else list(text)
        count = len(audio) if is_list(audio) else 1
        if len(texts) != count or is_list(audio) == is_one:
            raise InputError(
                f"found {count} recordings and {len(texts)} texts, expected one text for each "
                "recording: a text for one, a list of texts for a list"
            )
        seconds = self.context_frame_seconds

        def aligned(i: int, logits: npt.NDArray[Any]) -> Alignment:
            try:
                return aligner.align(logits, texts[i], seconds)
            except InputError as error:
                if not is_list(audio):
                    raise
                raise type(error)(f"item {i} of the list: {error}") from error

        logits = self._run(audio, sample_rate, "logits", window)
        return _gather(audio, ((i, aligned(i, x["logits"])) for i, x in logits))

    def score(
        self,
        audio: Audio,
        text: str,
        sample_rate: int | None = None,
        *,
        romanize: Callable[[str], str] | None = None,
        window: Window | None = None,
    ) -> Pronunciation:
        """Score how well each label and word of a known text is spoken in one recording.

        For labels of phonemes the text is phonemes, parted by spaces. The measure is the goodness
        of pronunciation of `w2v_edge.text.pronunciation`. Arguments and errors as for `align`.
        """
        spelling, names = self.spelling, self.manifest.labels
        aligner = Aligner(spelling, names, romanize=romanize)
        prepare_one(audio, sample_rate, self.manifest)
        ((_, outputs),) = self._run(audio, sample_rate, "logits", window)
        logits = outputs["logits"]
        alignment = aligner.align(logits, text, self.context_frame_seconds)
        return score_pronunciation(logits, alignment, names, spelling)

    @overload
    def classify(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> Classes: ...
    @overload
    def classify(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> list[Classes]: ...
    @overload
    def classify(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        window: float | None = None,
        every: float,
    ) -> ClassesOverTime: ...
    @overload
    def classify(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: float | None = None,
        every: float,
    ) -> list[ClassesOverTime]: ...
    def classify(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | float | None = None,
        every: float | None = None,
    ) -> object:
        """Classify one recording, or each in a list: per utterance or per frame, as the model does.

        A model with several classifiers gives the result of each by its name.

        The logits of a long recording as a whole are the mean over its windows. With `every` each
        window of a recording is classified as an utterance of its own, in flat memory: windows
        begin every so many seconds, the last one ends with the recording, and a recording shorter
        than a window is one. Other errors as for `encode`.

        Args:
            audio: see `Model`.
            sample_rate: Hz of waveforms; None for the model's.
            window: of attention, see `encode`; with `every` the seconds of audio in each window,
                by default 5, or `every` if that is more.
            every: seconds from the start of a window to that of the next.

        Raises:
            HeadMissingError: the model has no classifier.
            InputError: `every` with a model that classifies frames, or seconds out of range.
        """
        heads = classifiers(self.manifest)
        if every is not None:
            return self._classify_over_time(audio, sample_rate, heads, every, window)
        # A number of seconds is refused as a window of attention.
        logits = self._run(audio, sample_rate, "logits", cast("Window | None", window))
        return _gather(audio, ((i, self._classified(x)) for i, x in logits))

    @overload
    def embed(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> Embedding: ...
    @overload
    def embed(
        self,
        audio: Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> list[Embedding]: ...
    def embed(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None = None,
        *,
        window: Window | None = None,
    ) -> Embedding | list[Embedding]:
        """Compute the embedding (dim,) float32 of one recording, or of each in a list.

        Of a recording beyond `longest_context_seconds` an x-vector is the mean of its windows'
        x-vectors, each weighted by the frames it adds; a mean, and a standard deviation, are over
        all frames of the recording. Memory stays flat. Arguments and errors as for `encode`.

        Raises:
            HeadMissingError: the model has no embedding.
            InputError: audio, or windows of it, too short for an x-vector.
        """
        require_embedding(self.manifest)
        found = self._run(audio, sample_rate, "embedding", window)
        return _gather(audio, ((i, check_embedding(x["embedding"])) for i, x in found))

    @overload
    def features(self, audio: Audio, sample_rate: int | None = None) -> npt.NDArray[np.float32]: ...
    @overload
    def features(
        self, audio: Sequence[Audio], sample_rate: int | None = None
    ) -> list[npt.NDArray[np.float32]]: ...
    def features(
        self, audio: Audio | Sequence[Audio], sample_rate: int | None = None
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Compute the latent features (frames, channels) of one recording, or of each in a list.

        The transformer is neither loaded nor run. Arguments and errors as for `encode`.
        """
        features = self._run(audio, sample_rate, "frontend", None)
        return _gather(audio, ((i, outputs["features"]) for i, outputs in features))

    def encode_blocks(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        context: bool = True,
        window: Window | None = None,
    ) -> Iterator[Encoding]:
        """Yield the encoding of one recording in blocks of about 10 s, so that memory stays flat.

        Concatenated, the blocks are what `encode` gives for a long recording: frames of the context
        lag behind those of the features, and only the last block has the embedding.

        Args:
            audio: see `Model`; a source is read twice if the front end needs statistics of the
                whole recording.
            sample_rate: Hz of a waveform; None for the model's.
            context: whether to run the transformer; without it there are features, and codes
                computed from them.
            window: of attention; see `encode`.

        Raises:
            InputError: as for `encode`; some errors only when a block is reached.
        """
        if context:
            window = self._window(window) or default_window(self.manifest)
        recording = prepare_one(audio, sample_rate, self.manifest)
        return encode_blocks(self.session, recording, window if context else None)

    @overload
    def stream(
        self,
        *,
        sample_rate: int | None = None,
        statistics: Statistics | RunningStatistics | str | None = None,
        context: Window | bool | None = None,
        align: None = None,
    ) -> Stream: ...
    @overload
    def stream(
        self,
        *,
        sample_rate: int | None = None,
        statistics: Statistics | RunningStatistics | str | None = None,
        context: Window | bool | None = None,
        align: str | KnownText,
    ) -> AlignmentStream: ...
    def stream(
        self,
        *,
        sample_rate: int | None = None,
        statistics: Statistics | RunningStatistics | str | None = None,
        context: Window | bool | None = None,
        align: str | KnownText | None = None,
    ) -> Stream | AlignmentStream:
        """Open a stream: push blocks of audio and get frames as soon as they are final.

        Args:
            sample_rate: Hz of the blocks; None for the model's.
            statistics: for front ends that need statistics of the whole utterance (group norm,
                mel energies, normalised input; others ignore it): frozen ones from `statistics`, of
                the same speaker and microphone; or "running", over the audio so far, updated every
                second; or `RunningStatistics` with another period.
            context: window of attention, which sets its latency; True for steps of 320 ms with 4 s
                before and 320 ms after; False to leave the transformer out. By default it is left
                out if codes are computed from features.
            align: a text that is read aloud: the stream gives the reader's position, and words with
                their times, in place of frames. `KnownText` has options.

        Raises:
            InputError: statistics are needed and were not chosen, or do not fit; a window that is
                invalid or that the model does not support; `SampleRateError` for the rate; a text
                that cannot be aligned, or without the transformer.
            HeadMissingError: a text is to be aligned, and the model has no CTC head.
        """
        aligner = None if align is None else self._online_aligner(align, context)
        if context is None:
            context = align is not None or self.manifest.quantizer_input != "features"
        if context is True:
            context = STREAM_WINDOW
        chosen = choose_statistics(self.manifest, statistics)
        stream = Stream(self.session, chosen, context or None, sample_rate)
        return stream if aligner is None else AlignmentStream(stream, aligner)

    def statistics(self, audio: Audio, sample_rate: int | None = None) -> Statistics:
        """Compute the front end's statistics (k,) of one recording; k is 0 if it needs none.

        Arguments and errors as for `encode`.
        """
        recording = prepare_one(audio, sample_rate, self.manifest)
        found, _ = measure_statistics(self.session, recording)
        return np.zeros(0, dtype=np.float32) if found is None else found

    def times(self, frames: int) -> Times:
        """Return the centers of the receptive fields of feature frames, (frames,) seconds."""
        return FrameTimes.of_manifest(self.manifest).of_features(frames)

    def context_times(self, frames: int) -> Times:
        """Return the same for frames of the context and of logits, (frames,) seconds.

        They are fewer than feature frames where the context network ends in strided convolutions.
        """
        return FrameTimes.of_manifest(self.manifest).of_context(frames)

    @property
    def context_frame_seconds(self) -> float:
        """Seconds between frames of the context and of logits."""
        return FrameTimes.of_manifest(self.manifest).context_seconds

    def _run(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None,
        task: str,
        window: Window | None,
    ) -> Iterator[tuple[int, Tensors]]:
        """Validate recordings, and yield the index and the outputs of each."""
        attention = self._attention(window)
        recordings = prepare(audio, sample_rate, self.manifest)
        if task in OF_ENCODER or (
            task == "tokenizer" and self.manifest.quantizer_input == "context"
        ):
            max_seconds, window = attention
        else:
            max_seconds, window = whole_seconds(self.manifest), None
        batch_seconds = self._batch_seconds
        if batch_seconds is None:
            batch_seconds = self._default_batch_seconds(task) if len(recordings) > 1 else 0.0
        return run_recordings(
            self.session,
            recordings,
            task,
            max_seconds=max_seconds,
            batch_seconds=batch_seconds,
            window=window,
        )

    def _default_batch_seconds(self, task: str) -> float:
        """Return the batch size of the provider that runs, which with a fallback is the CPU."""
        execution = self.session.execution
        if not execution.allow_fallback:
            return execution.batch_seconds(execution.info)
        graph = "encoder" if task in OF_ENCODER else task
        return execution.batch_seconds(self.session.open(graph).provider)

    def _attention(self, window: Window | None) -> tuple[float, Window]:
        """Return the seconds of audio beyond which attention is in windows, and the window."""
        window = self._window(window)
        max_seconds = window.seconds if window else self.manifest.longest_context_seconds
        return max_seconds, window or default_window(self.manifest)

    def _online_aligner(
        self, align: str | KnownText, context: Window | bool | None
    ) -> OnlineAligner:
        if context is False:
            raise InputError(
                "found a text to align on a stream without context, expected context: labels come "
                "after the transformer"
            )
        known = align if isinstance(align, KnownText) else KnownText(align)
        names = self.manifest.labels
        aligner = Aligner(self.spelling, names, known.unknown, known.romanize, known.strict)
        return OnlineAligner(aligner, known, self.context_frame_seconds)

    def _window(self, window: Window | None) -> Window | None:
        return None if window is None else check_window(window, self.manifest)

    def _classify_over_time(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None,
        heads: dict[str, HeadInfo],
        every: float,
        seconds: object,
    ) -> ClassesOverTime | list[ClassesOverTime]:
        if "frames" in self.manifest.logits_axes:
            raise InputError(
                "this model classifies each frame, which is finer than any window; leave every out"
            )
        hops = Hops.of(every, seconds, self.manifest)
        batch_seconds = self._batch_seconds
        if batch_seconds is None:
            batch_seconds = self._default_batch_seconds("logits")

        def classified(recording: Recording) -> ClassesOverTime:
            with recording.naming_errors():
                found = classify_windows(self.session, recording, hops, heads, batch_seconds)
            if self.manifest.heads:
                return {name.removeprefix("logits_"): x for name, x in found.items()}
            return found["logits"]

        recordings = prepare(audio, sample_rate, self.manifest)
        return _gather(audio, ((i, classified(x)) for i, x in enumerate(recordings)))

    def _classified(self, outputs: Tensors) -> Classes:
        found = classifiers(self.manifest)
        if self.manifest.heads:
            return {
                output.removeprefix("logits_"): classify_utterance(outputs[output], head)
                for output, head in found.items()
            }
        logits, head = outputs["logits"], found["logits"]
        if logits.ndim > 1:
            return classify_frames(logits, head.labels, self.context_times(len(logits)))
        return classify_utterance(logits, head)


def _gather(audio: Audio | Sequence[Audio], results: Iterator[tuple[int, T]]) -> T | list[T]:
    """Return results in the order of the recordings; a single one if there was no list."""
    by_index = dict(results)
    return [by_index[i] for i in range(len(by_index))] if is_list(audio) else by_index[0]
