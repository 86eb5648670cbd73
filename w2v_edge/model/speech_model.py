"""The models: one class per architecture, composed of parts built by `build`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from w2v_edge.errors import ConfigError
from w2v_edge.model.adapters import ConvAdapter
from w2v_edge.model.attention_adapter import AttentionAdapter
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.feature_encoder import FeatureEncoder
from w2v_edge.model.heads import Head
from w2v_edge.model.masking import SpanMasker
from w2v_edge.model.padding import (
    Frames,
    frame_lengths,
    normalise,
    pool_frames,
    zero_padding,
)
from w2v_edge.model.pretraining import (
    BatchSamples,
    PretrainingOutput,
    pretraining_output,
    sample_batch,
)
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge.model.random import fresh_seeds
from w2v_edge.model.resampling import resample
from w2v_edge.model.standardisation import Standardisation
from w2v_edge.model.transformer import ContextNetwork, QuerySoftmaxContextNetwork


class SpeechModel(nn.Module):
    """Interface of all models, for the exporter and the training loop.

    Attributes:
        config: the model's configuration.
        feature_encoder: the strided convolutions.
        quantizer: maps `features` or the context to codes; None for a model without codes.
        origin: metadata of the source checkpoint of a converted model, as plain values.
    """

    config: ModelConfig
    feature_encoder: FeatureEncoder
    quantizer: VectorQuantizer | None
    origin: Mapping[str, Any] | None = None

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return latent features, what the quantizer consumes, (b, n, d) of waveform (b, t).

        Where they are resampled afterwards, those before their norm.
        """
        raise NotImplementedError

    def context(self, features: Frames) -> Tensor:
        """Return context representations (b, n, d) of unmasked features (b, n, d)."""
        return self.outputs(features)["context"]

    def outputs(self, features: Frames) -> dict[str, Tensor]:
        """Return all outputs for unmasked features (b, n, d), under their names in a bundle.

        Returns:
            `context` (b, m, d), m given by `ModelConfig.context_frames`; with a head its outputs,
            such as `logits`, (b, m, labels) or (b, labels); as configured, hidden states `layer_K`
            and the mean of some, `mixed`, all (b, n, d), or (b, m, d) of resampled features, and
            `embedding`, (b, d) or with standard deviations (b, 2 * d). Frames past an utterance's
            end are zero.
        """
        raise NotImplementedError

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        *,
        update: int = 0,
        seeds: Tensor | None = None,
    ) -> PretrainingOutput:
        """Run the pre-training objective.

        Args:
            waveform: (b, t) PCM in [-1, 1] at the config's sample rate.
            lengths: (b,) valid samples of each utterance, int64. With `lengths` and `seeds` on the
                host, masks are drawn there without device synchronisation.
            update: optimiser steps so far, for the temperature schedule.
            seeds: (b,) random seeds of the utterances' masks, distractors and noise (dropout uses
                torch's generator); fresh if None.
        """
        raise NotImplementedError


class TutorialModel(SpeechModel):
    """The reference notebook's network: quantizes and masks the raw features."""

    quantizer: VectorQuantizer

    def __init__(
        self,
        config: ModelConfig,
        *,
        feature_encoder: FeatureEncoder,
        quantizer: VectorQuantizer,
        masker: SpanMasker,
        context_network: QuerySoftmaxContextNetwork,
        projection: nn.Linear,
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_encoder = feature_encoder
        self.quantizer = quantizer
        self.masker = masker
        self.context_network = context_network
        self.projection = projection

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return the feature encoder's output (b, n, d)."""
        frames: Frames = self.feature_encoder(waveform, lengths)
        return frames

    def outputs(self, features: Frames) -> dict[str, Tensor]:
        """Return the context; see `SpeechModel.outputs`."""
        context: Tensor = self.context_network(features)
        return _with_embedding(self.config, {"context": context}, features.lengths)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        *,
        update: int = 0,
        seeds: Tensor | None = None,
    ) -> PretrainingOutput:
        """Run the pre-training objective; see `SpeechModel.forward`."""
        assert self.config.objective is not None
        seeds = fresh_seeds(len(lengths), lengths.device) if seeds is None else seeds
        samples = _sample(self.config, self.masker, waveform, lengths, seeds)
        features = self.features(waveform, lengths.to(waveform.device))
        quantized = self.quantizer(features, update=update, seeds=seeds)
        masked = self.masker(features, samples.mask)
        return pretraining_output(
            self.config.objective,
            predictions=self.projection(self.context(masked.frames)),
            targets=quantized.vectors,
            samples=samples,
            quantized=quantized,
            raw_features=features,
        )


class Wav2Vec2Model(SpeechModel):
    """wav2vec 2.0, and its relatives, which have a subset of its parts or others in their place.

    Quantizes the layer-normed features; masks the projected ones.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        feature_encoder: FeatureEncoder,
        feature_norm: nn.LayerNorm | None,
        quantizer: VectorQuantizer | None,
        target_projection: nn.Linear | None,
        feature_projection: nn.Linear | None,
        masker: SpanMasker | None,
        context_network: ContextNetwork,
        adapter: ConvAdapter | AttentionAdapter | None,
        prediction_projection: nn.Linear | None,
        head: Head | None,
        final_projection: nn.Linear | None,
        standardisation: Standardisation | None,
        dropout: nn.Dropout,
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_encoder = feature_encoder
        self.feature_norm = feature_norm
        self.quantizer = quantizer
        self.target_projection = target_projection
        self.feature_projection = feature_projection
        self.dropout = dropout
        self.masker = masker
        self.context_network = context_network
        self.adapter = adapter
        self.prediction_projection = prediction_projection
        self.head = head
        self.final_projection = final_projection
        self.standardisation = standardisation

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return the feature encoder's output (b, n, d), layer-normed if the model has the norm."""
        raw = self._convolve(waveform, lengths)
        return raw if self.config.resampling is not None else self._norm(raw)

    def outputs(
        self, features: Frames, augment: Callable[[Frames], Frames] = lambda projected: projected
    ) -> dict[str, Tensor]:
        """Return all outputs; see `SpeechModel.outputs`.

        Args:
            features: unmasked features (b, n, d).
            augment: applied to the projected features (b, n, d), such as SpecAugment masks.
        """
        projected = self._project(features)
        lengths = projected.lengths
        states = self.context_network.states(augment(projected))
        context = self.context_network.finish(states[-1], projected)
        if self.adapter is not None:
            context = self.adapter(context)
        made = {"context": context.values}
        if self.head is not None:
            made |= self.head(context, states, self.context_network.state_lengths(lengths))
        outputs = self.config.outputs
        for layer in outputs.layers:
            made[f"layer_{layer}"] = zero_padding(states[layer], lengths)
        if outputs.mixed:
            mixed = torch.stack([states[layer] for layer in outputs.mixed]).mean(dim=0)
            made["mixed"] = zero_padding(mixed, lengths)
        if self.final_projection is not None:
            values = self.final_projection(context.values)
            made["projected"] = zero_padding(values, context.lengths)
        main = Frames(made[outputs.main], lengths if outputs.mixed else context.lengths)
        if self.standardisation is not None:
            main = Frames(self.standardisation(main), main.lengths)
            made[outputs.main] = main.values
        return _with_embedding(self.config, made, main.lengths)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        *,
        update: int = 0,
        seeds: Tensor | None = None,
    ) -> PretrainingOutput:
        """Run the pre-training objective; see `SpeechModel.forward`.

        Raises:
            ConfigError: the model has no pre-training objective.
        """
        objective = self.config.objective
        if objective is None or self.masker is None:
            raise ConfigError(
                "found a model without a pre-training objective, expected a quantizer, masking "
                "and an objective; pre-train from a checkpoint that has them, or fine-tune"
            )
        assert self.quantizer is not None
        assert self.target_projection is not None
        assert self.prediction_projection is not None
        seeds = fresh_seeds(len(lengths), lengths.device) if seeds is None else seeds
        samples = _sample(self.config, self.masker, waveform, lengths, seeds)
        raw = self._convolve(waveform, lengths.to(waveform.device))
        raw = Frames(
            _ScaleGradient.scale(raw.values, objective.feature_gradient_scale), raw.lengths
        )
        features = self._norm(raw)
        quantized = self.quantizer(features, update=update, seeds=seeds)
        masked = self.masker(self._project(features), samples.mask)
        return pretraining_output(
            objective,
            predictions=self.prediction_projection(self.context_network(masked.frames)),
            targets=self.target_projection(quantized.vectors),
            samples=samples,
            quantized=quantized,
            raw_features=raw,
        )

    def _convolve(self, waveform: Tensor, lengths: Tensor) -> Frames:
        if self.config.normalise is not None:
            waveform = normalise(waveform, lengths, self.config.normalise.eps)
        frames: Frames = self.feature_encoder(waveform, lengths)
        return frames

    def _norm(self, raw: Frames) -> Frames:
        if self.feature_norm is None:
            return raw
        return Frames(zero_padding(self.feature_norm(raw.values), raw.lengths), raw.lengths)

    def _project(self, features: Frames) -> Frames:
        if self.config.resampling is not None:
            features = self._norm(resample(features, self.config.resampling))
        x, project = features.values, self.feature_projection
        return Frames(self.dropout(x if project is None else project(x)), features.lengths)


def _sample(
    config: ModelConfig, masker: SpanMasker, waveform: Tensor, lengths: Tensor, seeds: Tensor
) -> BatchSamples:
    """Draw masks and distractors for waveform (b, t) on the device of `lengths` (b,)."""
    assert config.objective is not None
    geometry = config.feature_encoder.geometry
    return sample_batch(
        config.objective,
        masker,
        lengths=frame_lengths(geometry, lengths),
        frames=geometry.frames(waveform.shape[1]),
        seeds=seeds,
        device=waveform.device,
    )


def _with_embedding(
    config: ModelConfig, made: dict[str, Tensor], lengths: Tensor
) -> dict[str, Tensor]:
    """Add `embedding`, if configured, to outputs; `lengths` (b,) are frames of the main one."""
    outputs = config.outputs
    if outputs.pooled is None:
        return made
    main = Frames(made[outputs.main], lengths)
    return {**made, "embedding": pool_frames(main, std=outputs.pooled == "mean,std")}


class _ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a constant."""

    @classmethod
    def scale(cls, x: Tensor, scale: float) -> Tensor:
        scaled: Tensor = x if scale == 1.0 else cls.apply(x, scale)  # type: ignore[no-untyped-call]
        return scaled

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None  # type: ignore[attr-defined]
