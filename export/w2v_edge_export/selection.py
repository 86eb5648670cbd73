"""Selection from a checkpoint: layers, units by centroids, an embedding.

`select` returns a model, which all later stages treat like any other.
"""

from __future__ import annotations

import hashlib
import math
import os
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.checkpoints import Source, load_source
from w2v_edge.errors import ConfigError, InputError
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


@dataclass(frozen=True)
class Selection:
    """Layers, units and outputs that an export selects.

    Attributes:
        layer: transformer layer whose output becomes the context, from 1; layers above it and the
            head are dropped. None for all layers.
        layers: further layers, whose outputs the encoder gives; 0 is the first layer's input. `all`
            stands for every one.
        pool: pooling of the context to an embedding of the utterance; None for no embedding.
        centroids: (entries, dim); codes are the nearest centroid, in place of a quantizer.
        language: language of the adapter and the vocabulary.
        kind: what a transformers folder was read as, whatever its class; see `load_source`.
        blank: the CTC blank, a label or its index, in place of what the files say.
        no_labels: whether labels were left out.
        projection: whether the checkpoint's final projection is an output.
        heads: heads of a class that is in no library, as `load_source` takes them.
    """

    layer: int | None = None
    layers: tuple[int, ...] | Literal["all"] = ()
    pool: Literal["mean"] | None = None
    centroids: npt.NDArray[np.float32] | None = None
    language: str | None = None
    kind: str | None = None
    blank: str | None = None
    no_labels: bool = False
    projection: bool = False
    heads: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any] | None:
        """Return the selection as a manifest holds it; None for the whole model."""
        digest = None if self.centroids is None else _digest(self.centroids)
        chosen = {
            "layer": self.layer,
            "layers": list(self.layers),
            "pool": self.pool,
            "centroids_sha256": digest,
            "language": self.language,
            "kind": self.kind,
            "blank": self.blank,
            "no_labels": self.no_labels,
            "projection": self.projection,
            "heads": list(self.heads),
        }
        return {key: value for key, value in chosen.items() if value} or None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None, kmeans: Path | None) -> Selection:
        """Read the selection in a manifest, with the centroids from a file.

        Raises:
            ConfigError: centroids are missing, or there are none in the manifest.
        """
        data = data or {}
        selection = cls(
            data.get("layer"),
            tuple(data.get("layers", ())),
            data.get("pool"),
            None if kmeans is None else read_centroids(kmeans),
            data.get("language"),
            data.get("kind"),
            data.get("blank"),
            data.get("no_labels", False),
            data.get("projection", False),
            tuple(data.get("heads", ())),
        )
        digest = data.get("centroids_sha256")
        if digest is not None and kmeans is None:
            raise ConfigError("the bundle was exported with --kmeans; give the centroids again")
        if digest is None and kmeans is not None:
            raise ConfigError("the bundle was exported without --kmeans; leave it out")
        return selection


EVERYTHING = Selection()

OF_READING = {"language", "kind", "blank", "no_labels", "projection", "heads"}
"""What is selected when a checkpoint is read."""


def read_source(
    checkpoint: str | Path,
    selection: Selection,
    processor: str | Path | None = None,
    base: str | Path | None = None,
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
        mapped=True,
    )


def with_layers(selection: Selection, config: ModelConfig) -> Selection:
    """Return a selection with the numbers of all layers in place of `all`.

    Raises:
        ConfigError: the model has no layers to choose from.
    """
    if selection.layers != "all":
        return selection
    highest = _transformer(config).layers if selection.layer is None else selection.layer
    return replace(selection, layers=tuple(range(highest + 1)))


def _transformer(config: ModelConfig) -> TransformerContextConfig | AnyConformerConfig:
    if isinstance(config.context, QuerySoftmaxContextConfig | SewContextConfig):
        raise ConfigError(f"architecture {config.architecture!r} has no layers to choose from")
    return config.context


BAD_HEADER = (
    *(ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError),
    *(MemoryError, RecursionError, OverflowError, LookupError),
)
"""Errors of NumPy on an invalid header, which it parses as a Python expression."""


def read_centroids(path: Path) -> npt.NDArray[np.float32]:
    """Read centroids (entries, dim) from a `.npy` file.

    Raises:
        InputError: a file that cannot be read, a pickle, or anything but a finite 2-D array.
    """
    try:
        with path.open("rb") as stream:
            _check_size(stream)
            found = np.lib.format.read_array(stream, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: expected centroids, found no file to read") from error
    except BAD_HEADER as error:
        raise InputError(
            f"{path}: expected a .npy file of numbers ({error!s:.60}); save the centroids with "
            "numpy.save, such as cluster_centers_ of scikit-learn's k-means"
        ) from error
    table = found.ndim == 2 and np.issubdtype(found.dtype, np.floating)  # noqa: PLR2004
    if not table or len(found) < 2:  # noqa: PLR2004
        raise InputError(
            f"{path}: expected floats of shape (centroids, width), found {found.dtype} of shape "
            f"{found.shape}"
        )
    centroids: npt.NDArray[np.float32] = found.astype(np.float32)
    if not np.isfinite(centroids).all():
        raise InputError(f"{path}: holds NaN, infinity or numbers beyond float32")
    return centroids


def _check_size(stream: BinaryIO) -> None:
    """Raise `ValueError` if a header claims more bytes than follow, before memory is allocated."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = readers[version](stream)
    claimed = math.prod(shape) * dtype.itemsize
    held = os.fstat(stream.fileno()).st_size - stream.tell()
    if min(shape, default=0) < 0 or (claimed > held and not dtype.hasobject):
        raise ValueError(f"its header claims {claimed} bytes, {held} follow")
    stream.seek(0)


def select(model: SpeechModel, selection: Selection) -> SpeechModel:
    """Return the selected model, which shares its weights with `model`.

    Raises:
        ConfigError: a layer that does not exist, or centroids that do not fit the context.
    """
    if (selection.to_dict() or {}).keys() <= OF_READING:
        return model
    config = _config(model.config, selection)
    with torch.device("meta"):
        selected = assemble(config)
    tensors = {
        name: tensor for name, tensor in model.state_dict().items() if name in selected.state_dict()
    }
    if selection.centroids is not None:
        tensors["quantizer.codebook.weight"] = torch.from_numpy(selection.centroids).unsqueeze(0)
    selected.load_state_dict(tensors, assign=True)
    return selected.eval()


def _config(config: ModelConfig, selection: Selection) -> ModelConfig:
    selection = with_layers(selection, config)
    if selection.layer is not None or selection.layers:
        network = _transformer(config)
        if selection.layer is not None:
            config = _cut(config, network, selection.layer)
    context = config.context
    layers = _checked_layers(selection, context.layers)
    if selection.centroids is not None:
        entries, width = selection.centroids.shape
        if width != context.output_dim:
            raise ConfigError(
                f"--kmeans: expected centroids {context.output_dim} wide, as the context, found "
                f"{width}"
            )
        quantizer = NearestQuantizerConfig(groups=1, entries=entries, vector_dim=width)
        config = replace(config, quantizer=quantizer, objective=None)
    outputs = OutputsConfig(layers, selection.pool, config.outputs.projected)
    return replace(config, outputs=outputs)


def _cut(
    config: ModelConfig, context: TransformerContextConfig | AnyConformerConfig, layer: int
) -> ModelConfig:
    if not 1 <= layer <= context.layers:
        raise ConfigError(f"--layer: expected a layer from 1 to {context.layers}, found {layer}")
    # The head was trained on the last layer and is dropped.
    return replace(config, context=context.cut(layer), head=None, objective=None)


def _checked_layers(selection: Selection, highest: int) -> tuple[int, ...]:
    """Return the layers; raise `ConfigError` if one does not exist or is listed twice."""
    layers = tuple(map(int, selection.layers))
    below = "" if selection.layer is None else " (up to --layer)"
    for i, layer in enumerate(layers):
        if not 0 <= layer <= highest:
            raise ConfigError(
                f"--layers: expected layers from 0 to {highest}{below}, found {layer}"
            )
        if layer in layers[:i]:
            raise ConfigError(f"--layers: expected each layer once, found {layer} twice")
    return layers


def _digest(centroids: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(centroids).tobytes()).hexdigest()
