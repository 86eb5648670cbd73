"""Selection from a checkpoint: layers and their mean, units by centroids, an embedding.

`select` returns a model, which all later stages treat like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.checkpoints import Source, load_source
from w2v_edge.errors import ConfigError
from w2v_edge.model.build import assemble
from w2v_edge.model.config import (
    ModelConfig,
    NearestQuantizerConfig,
    OutputsConfig,
    QuerySoftmaxContextConfig,
    TransformerContextConfig,
)
from w2v_edge.model.conformer_config import AnyConformerConfig
from w2v_edge.model.sew_config import SewContextConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.names import Pooling
from w2v_edge_export.centroids import read_centroids
from w2v_edge_export.standardisation import ChannelStatistics, read_channel_statistics


@dataclass(frozen=True)
class Selection:
    """Layers, units and outputs that an export selects.

    Attributes:
        layer: transformer layer whose output becomes the context, from 1; layers above it and the
            head are dropped. None for all layers.
        layers: further layers, whose outputs the encoder gives; 0 is the first layer's input. `all`
            stands for every one.
        mix: layers whose outputs' mean is the output `mixed`; numbered as `layers`.
        statistics: of the channels; what is pooled is standardised by them: `mixed`, or the output
            of `layer`.
        pool: pooling, of `mixed` if there is one and of the context otherwise, to an embedding of
            the utterance; None for no embedding.
        centroids: (entries, dim); codes are the nearest centroid, in place of a quantizer.
        unit_length: whether context vectors have unit length before the nearest centroid.
        language: language of the adapter and the vocabulary.
        kind: what a transformers folder was read as, whatever its class; see `load_source`.
        blank: the CTC blank, a label or its index, in place of what the files say.
        no_labels: whether labels were left out.
        projection: whether the checkpoint's final projection is an output.
        heads: heads of a class that is in no library, as `load_source` takes them.
        frame_rate: Hz that features are resampled to, before their norm and projection; a quantizer
            of features is then left out.
        speaker_threshold: cosine of two embeddings from which they are said to be of one speaker.
    """

    layer: int | None = None
    layers: tuple[int, ...] | Literal["all"] = ()
    mix: tuple[int, ...] | Literal["all"] = ()
    statistics: ChannelStatistics | None = None
    pool: Pooling | None = None
    centroids: npt.NDArray[np.float32] | None = None
    unit_length: bool = False
    language: str | None = None
    kind: str | None = None
    blank: str | None = None
    no_labels: bool = False
    projection: bool = False
    heads: tuple[str, ...] = ()
    frame_rate: float | None = None
    speaker_threshold: float | None = None

    def to_dict(self) -> dict[str, Any] | None:
        """Return the selection as a manifest holds it; None for the whole model."""
        digest = None if self.centroids is None else _digest(self.centroids)
        chosen = {
            "layer": self.layer,
            "layers": list(self.layers),
            "mix": list(self.mix),
            "statistics_sha256": None if self.statistics is None else self.statistics.sha256,
            "pool": self.pool,
            "centroids_sha256": digest,
            "unit_length": self.unit_length,
            "language": self.language,
            "kind": self.kind,
            "blank": self.blank,
            "no_labels": self.no_labels,
            "projection": self.projection,
            "heads": list(self.heads),
            "frame_rate": self.frame_rate,
            "speaker_threshold": self.speaker_threshold,
        }
        # A threshold of 0 is one, too.
        return {key: x for key, x in chosen.items() if x or isinstance(x, float)} or None

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any] | None, kmeans: Path | None, standardise: Path | None = None
    ) -> Selection:
        """Read the selection in a manifest, with centroids and statistics from files.

        Raises:
            ConfigError: a file is missing, or the manifest has no hash for it.
        """
        data = data or {}
        for option, path, key in (
            ("--kmeans", kmeans, "centroids_sha256"),
            ("--standardise", standardise, "statistics_sha256"),
        ):
            if path is None and data.get(key) is not None:
                raise ConfigError(f"the bundle was exported with {option}; give the file again")
            if path is not None and data.get(key) is None:
                raise ConfigError(f"the bundle was exported without {option}; leave it out")
        return cls(
            layer=data.get("layer"),
            layers=tuple(data.get("layers", ())),
            mix=tuple(data.get("mix", ())),
            statistics=None if standardise is None else read_channel_statistics(standardise),
            pool=data.get("pool"),
            centroids=None if kmeans is None else read_centroids(kmeans),
            unit_length=data.get("unit_length", False),
            language=data.get("language"),
            kind=data.get("kind"),
            blank=data.get("blank"),
            no_labels=data.get("no_labels", False),
            projection=data.get("projection", False),
            heads=tuple(data.get("heads", ())),
            frame_rate=data.get("frame_rate"),
            speaker_threshold=data.get("speaker_threshold"),
        )


EVERYTHING = Selection()

OF_READING = {"language", "kind", "blank", "no_labels", "projection", "heads"}
"""What is selected when a checkpoint is read."""

OF_NO_TENSOR = OF_READING | {"speaker_threshold"}
"""What leaves a model that was read as it is."""


def read_source(
    checkpoint: str | Path,
    selection: Selection,
    processor: str | Path | None = None,
    base: str | Path | None = None,
    *,
    language_model: bool = False,
) -> Source:
    """Read a checkpoint as a selection asks; see `load_source` for the errors."""
    return load_source(
        checkpoint,
        selection.language,
        kind=selection.kind,
        processor=None if processor is None else Path(processor),
        blank=selection.blank,
        labels=not selection.no_labels,
        projection=selection.projection,
        base=base,
        heads=selection.heads,
        language_model=language_model,
        mapped=True,
    )


def with_layers(selection: Selection, config: ModelConfig) -> Selection:
    """Return a selection with the numbers of all layers in place of `all`.

    Raises:
        ConfigError: the model has no layers to choose from.
    """
    if "all" not in {selection.layers, selection.mix}:
        return selection
    highest = _transformer(config).layers if selection.layer is None else selection.layer
    numbers = tuple(range(highest + 1))
    return replace(
        selection,
        layers=numbers if selection.layers == "all" else selection.layers,
        mix=numbers if selection.mix == "all" else selection.mix,
    )


def _transformer(config: ModelConfig) -> TransformerContextConfig | AnyConformerConfig:
    if isinstance(config.context, QuerySoftmaxContextConfig | SewContextConfig):
        raise ConfigError(f"architecture {config.architecture!r} has no layers to choose from")
    return config.context


def select(model: SpeechModel, selection: Selection) -> SpeechModel:
    """Return the selected model, which shares its weights with `model`.

    Raises:
        ConfigError: a layer that does not exist, or centroids, statistics or a threshold that do
            not fit.
    """
    if (selection.to_dict() or {}).keys() <= OF_NO_TENSOR:
        _check_threshold(selection.speaker_threshold, model.config)
        return model
    config = _config(model.config, selection)
    _check_threshold(selection.speaker_threshold, config)
    with torch.device("meta"):
        selected = assemble(config)
    tensors = {
        name: tensor for name, tensor in model.state_dict().items() if name in selected.state_dict()
    }
    if selection.centroids is not None:
        tensors["quantizer.codebook.weight"] = torch.from_numpy(selection.centroids).unsqueeze(0)
    if selection.statistics is not None:
        tensors["standardisation.mean"] = torch.from_numpy(selection.statistics.mean)
        tensors["standardisation.std"] = torch.from_numpy(selection.statistics.std)
    selected.load_state_dict(tensors, assign=True)
    return selected.eval()


def _config(config: ModelConfig, selection: Selection) -> ModelConfig:
    selection = with_layers(selection, config)
    if selection.layer is not None or selection.layers or selection.mix:
        network = _transformer(config)
        if selection.layer is not None:
            config = _cut(config, network, selection.layer)
    if selection.frame_rate is not None:
        config = _resampled(config, selection.frame_rate)
    context = config.context
    below = "" if selection.layer is None else " (up to --layer)"
    layers = _checked_layers("--layers", selection.layers, context.layers, below)
    mix = _checked_layers("--mix", selection.mix, context.layers, below)
    if selection.unit_length and selection.centroids is None:
        raise ConfigError("--normalise-units: found no units; give the centroids with --kmeans")
    if selection.centroids is not None:
        entries, width = selection.centroids.shape
        if width != context.output_dim:
            raise ConfigError(
                f"--kmeans: expected centroids {context.output_dim} wide, as the context, found "
                f"{width}"
            )
        quantizer = NearestQuantizerConfig(1, entries, width, selection.unit_length)
        config = replace(config, quantizer=quantizer, objective=None)
    outputs = OutputsConfig(layers, selection.pool, config.outputs.projected, mixed=mix)
    if selection.statistics is not None:
        _check_statistics(selection, selection.statistics, context.dim)
        outputs = replace(outputs, standardised=outputs.main)
    return replace(config, outputs=outputs)


def _cut(
    config: ModelConfig, context: TransformerContextConfig | AnyConformerConfig, layer: int
) -> ModelConfig:
    if not 1 <= layer <= context.layers:
        raise ConfigError(f"--layer: expected a layer from 1 to {context.layers}, found {layer}")
    # The head was trained on the last layer and is dropped.
    return replace(config, context=context.cut(layer), head=None, objective=None)


def _resampled(config: ModelConfig, frame_rate: float) -> ModelConfig:
    context = config.context
    if not isinstance(context, TransformerContextConfig) or context.adapter is not None:
        raise ConfigError(
            "--frame-rate: expected a transformer without an adapter after it, found "
            f"architecture {config.architecture!r}"
        )
    return replace(
        config,
        context=replace(context, frame_rate=frame_rate),
        quantizer=None if config.quantizer_input == "features" else config.quantizer,
        objective=None,
    )


def _checked_layers(
    option: str, chosen: Sequence[int | str], highest: int, below: str
) -> tuple[int, ...]:
    """Return the layers; raise `ConfigError` if one does not exist or is listed twice."""
    layers = tuple(map(int, chosen))
    for i, layer in enumerate(layers):
        if not 0 <= layer <= highest:
            raise ConfigError(
                f"{option}: expected layers from 0 to {highest}{below}, found {layer}"
            )
        if layer in layers[:i]:
            raise ConfigError(f"{option}: expected each layer once, found {layer} twice")
    return layers


def _check_statistics(selection: Selection, statistics: ChannelStatistics, dim: int) -> None:
    if not selection.mix and selection.layer is None:
        raise ConfigError(
            "--standardise: found no layer to standardise; choose it with --layer, or layers with "
            "--mix"
        )
    if len(statistics.mean) != dim:
        raise ConfigError(
            f"--standardise: expected statistics {dim} wide, as the layers, found "
            f"{len(statistics.mean)}"
        )


def _check_threshold(threshold: float | None, config: ModelConfig) -> None:
    if threshold is None:
        return
    if not -1 <= threshold <= 1:
        raise ConfigError(
            f"--speaker-threshold: expected a cosine, from -1 to 1, found {threshold:g}"
        )
    if config.outputs.pooled is None and "embedding" not in getattr(config.head, "outputs", ()):
        raise ConfigError(
            "--speaker-threshold: found no embedding to compare; give --pool, or a checkpoint with "
            "an x-vector head, such as WavLMForXVector"
        )


def _digest(centroids: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(centroids).tobytes()).hexdigest()
