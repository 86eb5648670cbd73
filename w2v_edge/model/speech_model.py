"""The assembled models: one class a published architecture, built from parts handed in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.config import ModelConfig
from w2v_edge.model.feature_encoder import FeatureEncoder
from w2v_edge.model.lengths import Frames, zero_padding
from w2v_edge.model.masking import SpanMasker
from w2v_edge.model.pretraining import PretrainingOutput, pretraining_output
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge.model.transformer import QuerySoftmaxContextNetwork, TransformerContextNetwork


class SpeechModel(nn.Module):
    """What the exporter and the training loop see of any model.

    Attributes:
        config: the configuration it was built from.
        feature_encoder: the convolutions.
        quantizer: what turns `features` into codes.
    """

    config: ModelConfig
    feature_encoder: FeatureEncoder
    quantizer: VectorQuantizer

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return what the quantizer consumes, (b, n, d), of waveform (b, t), lengths (b,)."""
        raise NotImplementedError

    def context(self, features: Frames) -> Tensor:
        """Return context vectors (b, n, d) of unmasked features (b, n, d)."""
        raise NotImplementedError

    def forward(self, waveform: Tensor, lengths: Tensor, *, update: int = 0) -> PretrainingOutput:
        """Run the pre-training objective.

        Args:
            waveform: (b, t) PCM in [-1, 1] at the config's sample rate.
            lengths: (b,) valid samples of each utterance, int64.
            update: optimiser steps done, for the temperature schedule.
        """
        raise NotImplementedError


class TutorialModel(SpeechModel):
    """The reference notebook's network: raw features are quantized, masked and contextualised."""

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
        """Return the convolutions' output (b, n, d)."""
        frames: Frames = self.feature_encoder(waveform, lengths)
        return frames

    def context(self, features: Frames) -> Tensor:
        """Return context vectors (b, n, d)."""
        context: Tensor = self.context_network(features)
        return context

    def forward(self, waveform: Tensor, lengths: Tensor, *, update: int = 0) -> PretrainingOutput:
        """Run the pre-training objective; see `SpeechModel.forward`."""
        features = self.features(waveform, lengths)
        quantized = self.quantizer(features, update=update)
        masked = self.masker(features)
        return pretraining_output(
            self.config.objective,
            predictions=self.projection(self.context(masked.frames)),
            targets=quantized.vectors,
            mask_indices=masked.indices,
            quantized=quantized,
            raw_features=features,
        )


class Wav2Vec2Model(SpeechModel):
    """wav2vec 2.0: normed features are quantized; masking follows the projection to the model."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        feature_encoder: FeatureEncoder,
        feature_norm: nn.LayerNorm,
        quantizer: VectorQuantizer,
        target_projection: nn.Linear,
        feature_projection: nn.Linear,
        masker: SpanMasker,
        context_network: TransformerContextNetwork,
        prediction_projection: nn.Linear,
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
        self.prediction_projection = prediction_projection

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return the layer-normed convolutions' output (b, n, d)."""
        return self._norm(self.feature_encoder(waveform, lengths))

    def context(self, features: Frames) -> Tensor:
        """Return context vectors (b, n, d)."""
        context: Tensor = self.context_network(self._project(features))
        return context

    def forward(self, waveform: Tensor, lengths: Tensor, *, update: int = 0) -> PretrainingOutput:
        """Run the pre-training objective; see `SpeechModel.forward`."""
        raw: Frames = self.feature_encoder(waveform, lengths)
        scale = self.config.objective.feature_gradient_scale
        raw = Frames(_ScaleGradient.scale(raw.values, scale), raw.lengths)
        features = self._norm(raw)
        quantized = self.quantizer(features, update=update)
        masked = self.masker(self._project(features))
        return pretraining_output(
            self.config.objective,
            predictions=self.prediction_projection(self.context_network(masked.frames)),
            targets=self.target_projection(quantized.vectors),
            mask_indices=masked.indices,
            quantized=quantized,
            raw_features=raw,
        )

    def _norm(self, raw: Frames) -> Frames:
        return Frames(zero_padding(self.feature_norm(raw.values), raw.lengths), raw.lengths)

    def _project(self, features: Frames) -> Frames:
        projected = self.dropout(self.feature_projection(features.values))
        return Frames(projected, features.lengths)


class _ScaleGradient(torch.autograd.Function):
    """The identity, with its gradient multiplied by a constant."""

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
