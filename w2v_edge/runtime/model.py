"""A loaded model: waveforms to features, context vectors, codes, text and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard, overload

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform, as_waveform, check_length
from w2v_edge.bundle import Manifest
from w2v_edge.bundle_files import Bundle
from w2v_edge.errors import GraphMissingError, InputError
from w2v_edge.geometry import Geometry
from w2v_edge.names import Power
from w2v_edge.providers import Placement, ProviderChoice, choose
from w2v_edge.runtime.binding import run_on_device
from w2v_edge.runtime.classes import (
    Classification,
    FrameClassification,
    class_names,
    classify_frames,
    classify_utterance,
)
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.graph_runner import GraphRunner, Tensors
from w2v_edge.runtime.spelling import Spelling
from w2v_edge.runtime.text import Decoder, GreedyDecoder, Transcription


def load(
    bundle: str | Path,
    *,
    provider: ProviderChoice | Sequence[ProviderChoice] = "cpu",
    threads: int | None = None,
    power: Power = "high",
    allow_fallback: bool = False,
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

    Raises:
        BundleError: no bundle there, or damaged, or of a newer format.
        ProviderError: the provider does not run here.
        MissingExtraError: onnxruntime is not installed.
    """
    execution = choose(provider, threads, allow_fallback=allow_fallback, power=power)
    return Model(GraphRunner(Bundle.open(bundle), execution))


class Model:
    """A model ready to run, from `w2v_edge.load`. Safe to use from many threads at once."""

    def __init__(self, runner: GraphRunner) -> None:
        self._runner = runner

    @property
    def bundle(self) -> Bundle:
        """The bundle on disk."""
        return self._runner.bundle

    @property
    def manifest(self) -> Manifest:
        """The bundle's description of itself."""
        return self._runner.bundle.manifest

    @property
    def sample_rate(self) -> int:
        """Hz that the model takes."""
        return self.manifest.sample_rate

    @property
    def provider(self) -> str:
        """The execution provider that was asked for."""
        return self._runner.execution.provider

    @property
    def threads(self) -> int:
        """Threads that one operator may use."""
        return self._runner.execution.threads

    @property
    def placement(self) -> dict[str, Placement]:
        """Where each graph opened so far runs."""
        return self._runner.placement

    @overload
    def encode(self, waveform: npt.NDArray[Any], sample_rate: int | None = None) -> Encoding: ...
    @overload
    def encode(
        self, waveform: Sequence[npt.NDArray[Any]], sample_rate: int | None = None
    ) -> list[Encoding]: ...
    def encode(
        self,
        waveform: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        sample_rate: int | None = None,
    ) -> Encoding | list[Encoding]:
        """Compute features, context and codes of one waveform, or of each in a list.

        Args:
            waveform: (samples,) floats in [-1, 1] or int16; or a list of such, of any lengths.
            sample_rate: Hz of the waveform; None says that it is the model's.

        Raises:
            InputError: a waveform that cannot be right; `SampleRateError` for its rate.
        """
        if _is_batch(waveform):
            return [self._encode(x) for x in self._prepare_all(waveform, sample_rate)]
        return self._encode(self._prepare(waveform, sample_rate))

    @overload
    def tokenize(
        self, waveform: npt.NDArray[Any], sample_rate: int | None = None
    ) -> npt.NDArray[np.int64]: ...
    @overload
    def tokenize(
        self, waveform: Sequence[npt.NDArray[Any]], sample_rate: int | None = None
    ) -> list[npt.NDArray[np.int64]]: ...
    def tokenize(
        self,
        waveform: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        sample_rate: int | None = None,
    ) -> npt.NDArray[np.int64] | list[npt.NDArray[np.int64]]:
        """Compute the codes (frames, groups) of one waveform, or of each in a list.

        The transformer is neither loaded nor run, unless codes are made from what it gives.
        Arguments and errors as for `encode`.

        Raises:
            GraphMissingError: the model has no quantizer.
        """
        if _is_batch(waveform):
            return [self._tokenize(x) for x in self._prepare_all(waveform, sample_rate)]
        return self._tokenize(self._prepare(waveform, sample_rate))

    @overload
    def transcribe(
        self,
        waveform: npt.NDArray[Any],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
    ) -> Transcription: ...
    @overload
    def transcribe(
        self,
        waveform: Sequence[npt.NDArray[Any]],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
    ) -> list[Transcription]: ...
    def transcribe(
        self,
        waveform: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        sample_rate: int | None = None,
        *,
        decoder: Decoder | None = None,
    ) -> Transcription | list[Transcription]:
        """Turn the speech of one waveform, or of each in a list, into text.

        Errors as for `encode`, and these.

        Args:
            waveform: as for `encode`.
            sample_rate: Hz of the waveform; None says that it is the model's.
            decoder: such as `w2v_edge.runtime.beam_search.BeamSearch`; None decodes greedily.

        Raises:
            HeadMissingError: the model does not transcribe.
            BundleError: the bundle does not say what its labels spell.
        """
        spelling = self.spelling
        decode = (decoder or GreedyDecoder(spelling)).decode
        hop = self.context_frame_seconds
        if _is_batch(waveform):
            prepared = self._prepare_all(waveform, sample_rate)
            return [decode(self._logits(x), hop) for x in prepared]
        return decode(self._logits(self._prepare(waveform, sample_rate)), hop)

    @overload
    def classify(
        self, waveform: npt.NDArray[Any], sample_rate: int | None = None
    ) -> Classification | FrameClassification: ...
    @overload
    def classify(
        self, waveform: Sequence[npt.NDArray[Any]], sample_rate: int | None = None
    ) -> list[Classification | FrameClassification]: ...
    def classify(
        self,
        waveform: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        sample_rate: int | None = None,
    ) -> Classification | FrameClassification | list[Classification | FrameClassification]:
        """Classify one waveform, or each in a list; what is classified depends on the model.

        Arguments and errors as for `encode`.

        Raises:
            HeadMissingError: the model does not classify.
        """
        names = class_names(self.manifest)
        if _is_batch(waveform):
            return [self._classify(x, names) for x in self._prepare_all(waveform, sample_rate)]
        return self._classify(self._prepare(waveform, sample_rate), names)

    @property
    def spelling(self) -> Spelling:
        """What the labels of the model's logits spell; decoders are made from it.

        Raises:
            HeadMissingError: the model does not transcribe.
            BundleError: the bundle does not say what its labels spell.
        """
        return Spelling.of_manifest(self.manifest)

    def features(
        self, waveform: npt.NDArray[Any], sample_rate: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Compute what the quantizer consumes, (frames, channels), of one waveform.

        The transformer is neither loaded nor run. Arguments and errors as for `encode`.
        """
        batch = _batch_of_one(self._prepare(waveform, sample_rate))
        if "statistics" in self.manifest.graphs:
            batch |= self._runner.run("statistics", batch)
        features: npt.NDArray[np.float32] = self._runner.run("frontend", batch)["features"][0]
        return features

    def run(self, graph: str, **tensors: npt.NDArray[Any]) -> Tensors:
        """Run one graph on padded batches, by the tensor names in `w2v_edge.bundle`.

        Raises:
            GraphMissingError: the model has no such graph.
            InferenceError: onnxruntime refused the inputs.
        """
        return self._runner.run(graph, tensors)

    def run_on_device(self, graph: str, **tensors: Any) -> dict[str, Any]:
        """Run one graph as `run` does, and leave its outputs on the provider's device.

        Args:
            graph: its name.
            tensors: by name, each an `onnxruntime.OrtValue`, a numpy array, or anything else with
                `__dlpack__`, such as a torch tensor.

        Returns:
            An `onnxruntime.OrtValue` for each output: an input for the next graph, uncopied, or
            `.numpy()`.

        Raises:
            GraphMissingError: the model has no such graph.
            InputError: something that is none of these.
            InferenceError: onnxruntime refused the inputs.
        """
        return run_on_device(self._runner, graph, tensors)

    def prove(self, graph: str) -> Placement:
        """Measure where a graph's operators run, in a short profiled run; also on the CPU.

        Raises:
            GraphMissingError: the model has no such graph.
            ProviderError: it does not run on the provider asked for.
        """
        return self._runner.prove(graph)

    def times(self, frames: int) -> npt.NDArray[np.float64]:
        """Return the middle of what each frame sees, (frames,) seconds."""
        return self._middle(np.arange(frames))

    def context_times(self, frames: int) -> npt.NDArray[np.float64]:
        """Return the same for frames of the context and of logits.

        They are fewer than those of features where the context network ends in strided
        convolutions.
        """
        adapter = self._context_geometry
        middle = (adapter.receptive_field - 1) / 2 - adapter.left_padding
        return self._middle(np.arange(frames) * adapter.hop + middle)

    @property
    def context_frame_seconds(self) -> float:
        """Seconds from one frame of the context and of logits to the next."""
        return self._context_geometry.hop * self.manifest.hop / self.sample_rate

    @property
    def _context_geometry(self) -> Geometry:
        """How frames of the context lie over those of the features."""
        adapter = self.manifest.config.get("context", {}).get("adapter")
        if adapter is None:
            return Geometry.of_convolutions([])
        layer = (adapter["kernel"], adapter["stride"], adapter["padding"])
        return Geometry.of_convolutions([layer] * adapter["layers"])

    def _middle(self, frames: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the middle, in seconds, of what frames of the features see."""
        geometry = self.manifest.geometry
        middle = (geometry.receptive_field - 1) / 2 - geometry.left_padding
        times: npt.NDArray[np.float64] = (frames * geometry.hop + middle) / self.sample_rate
        return times

    def _prepare(self, waveform: npt.ArrayLike, sample_rate: int | None) -> Waveform:
        prepared = as_waveform(waveform, sample_rate, self.sample_rate)
        check_length(len(prepared), self.manifest.geometry, self.sample_rate)
        return prepared

    def _prepare_all(
        self, waveforms: Sequence[npt.ArrayLike], sample_rate: int | None
    ) -> list[Waveform]:
        """Prepare a list before any of it is run; an error says which item it is about."""
        prepared = []
        for i, waveform in enumerate(waveforms):
            try:
                prepared.append(self._prepare(waveform, sample_rate))
            except InputError as error:
                raise type(error)(f"item {i} of the list: {error}") from error
        return prepared

    def _encode(self, waveform: Waveform) -> Encoding:
        self._check_attention(len(waveform))
        encoded = self._runner.run("encoder", _batch_of_one(waveform))
        quantized: Tensors = {}
        source = self.manifest.quantizer_input
        if source is not None:
            quantized = self._runner.run("quantizer", {source: encoded[source]})
        times = self.times(encoded["features"].shape[1])
        context_times = self.context_times(encoded["context"].shape[1])
        return Encoding.of(encoded, quantized, times, context_times)

    def _logits(self, waveform: Waveform) -> npt.NDArray[Any]:
        """Return (frames, labels) or, of an utterance as a whole, (labels,)."""
        self._check_attention(len(waveform))
        logits: npt.NDArray[Any] = self._runner.run("encoder", _batch_of_one(waveform))["logits"][0]
        return logits

    def _classify(
        self, waveform: Waveform, names: tuple[str, ...]
    ) -> Classification | FrameClassification:
        logits = self._logits(waveform)
        if logits.ndim > 1:
            return classify_frames(logits, names, self.context_times(len(logits)))
        return classify_utterance(logits, names, self.manifest.logits_meaning)

    def _tokenize(self, waveform: Waveform) -> npt.NDArray[np.int64]:
        if "tokenizer" not in self.manifest.graphs:
            raise GraphMissingError(
                "this model has no quantizer, so there are no codes; export one that has, or with "
                "--layer and --kmeans"
            )
        if self.manifest.quantizer_input == "context":
            self._check_attention(len(waveform))
        codes: npt.NDArray[np.int64] = self._runner.run("tokenizer", _batch_of_one(waveform))[
            "codes"
        ][0]
        return codes

    def _check_attention(self, samples: int) -> None:
        seconds = samples / self.sample_rate
        longest = self.manifest.longest_context_seconds
        if seconds > longest:
            of_features = self.manifest.quantizer_input == "features"
            tokenizes = of_features and "tokenizer" in self.manifest.graphs
            other = ", or call tokenize, which takes any length" if tokenizes else ""
            raise InputError(
                f"found {seconds:.1f} s of audio; attention over more than {longest:g} s at once "
                f"would take too much memory or time: split it{other}"
            )


def _is_batch(waveform: object) -> TypeGuard[Sequence[npt.NDArray[Any]]]:
    """Tell a list of waveforms from one waveform given as a list of numbers."""
    if not isinstance(waveform, list | tuple):
        return False
    return (
        not waveform or isinstance(waveform[0], list | tuple) or getattr(waveform[0], "ndim", 0) > 0
    )


def _batch_of_one(waveform: Waveform) -> Tensors:
    return {
        "waveform": waveform[np.newaxis],
        "lengths": np.array([len(waveform)], dtype=np.int64),
    }
