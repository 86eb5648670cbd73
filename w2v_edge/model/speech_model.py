"""The assembled models: one class a published architecture, built from parts handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from w2v_edge.errors import ConfigError
from w2v_edge.model.adapters import ConvAdapter
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.feature_encoder import FeatureEncoder
from w2v_edge.model.heads import Head, mean_over_frames
from w2v_edge.model.lengths import Frames, frame_lengths, zero_padding
from w2v_edge.model.masking import SpanMasker
from w2v_edge.model.normalisation import normalise
from w2v_edge.model.pretraining import Drawn, PretrainingOutput, draw, pretraining_output
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge.model.random import fresh_seeds
from w2v_edge.model.transformer import QuerySoftmaxContextNetwork, TransformerContextNetwork


class SpeechModel(nn.Module):
    """What the exporter and the training loop see of any model.

    Attributes:
        config: the configuration it was built from.
        feature_encoder: the convolutions.
        quantizer: what makes codes of `features` or of the context; None where there are none.
        origin: what else a converted checkpoint said of itself, as plain values.
    """

    config: ModelConfig
    feature_encoder: FeatureEncoder
    quantizer: VectorQuantizer | None
    origin: Mapping[str, Any] | None = None

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return what the quantizer consumes, (b, n, d), of waveform (b, t), lengths (b,)."""
        raise NotImplementedError

    def context(self, features: Frames) -> Tensor:
        """Return context vectors (b, n, d) of unmasked features (b, n, d)."""
        return self.outputs(features)["context"]

    def outputs(self, features: Frames) -> dict[str, Tensor]:
        """Return all that is made of unmasked features (b, n, d), by the names of `bundle`.

        `context` (b, m, d); with a head `logits`, (b, m, labels) or (b, labels); by config,
        `layer_K` (b, n, d) and `embedding` (b, d). Frames past an utterance's end are zero;
        `ModelConfig.context_frames` says how many m are.
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
            lengths: (b,) valid samples of each utterance, int64. They and `seeds` may stay on the
                host: masks are drawn there then, and nothing waits for the device.
            update: optimiser steps done, for the temperature schedule.
            seeds: (b,) of all that chance decides of each utterance, but dropout; fresh ones if
                None.
        """
        raise NotImplementedError


class TutorialModel(SpeechModel):
    """The reference notebook's network: raw features are quantized, masked and contextualised."""

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
        """Return the convolutions' output (b, n, d)."""
        frames: Frames = self.feature_encoder(waveform, lengths)
        return frames

    def outputs(self, features: Frames) -> dict[str, Tensor]:
        """Return the context; see `SpeechModel.outputs`."""
        context: Tensor = self.context_network(features)
        return {"context": context, **_pooled(self.config, Frames(context, features.lengths))}

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
        drawn = _draw(self.config, self.masker, waveform, lengths, seeds)
        features = self.features(waveform, lengths.to(waveform.device))
        quantized = self.quantizer(features, update=update, seeds=seeds)
        masked = self.masker(features, drawn.mask)
        return pretraining_output(
            self.config.objective,
            predictions=self.projection(self.context(masked.frames)),
            targets=quantized.vectors,
            drawn=drawn,
            quantized=quantized,
            raw_features=features,
        )


class Wav2Vec2Model(SpeechModel):
    """wav2vec 2.0 and its kin (HuBERT, WavLM, data2vec), which lack some of its parts.

    Normed features are quantized; masking follows the projection to the model.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        feature_encoder: FeatureEncoder,
        feature_norm: nn.LayerNorm | None,
        quantizer: VectorQuantizer | None,
        target_projection: nn.Linear | None,
        feature_projection: nn.Linear,
        masker: SpanMasker | None,
        context_network: TransformerContextNetwork,
        adapter: ConvAdapter | None,
        prediction_projection: nn.Linear | None,
        head: Head | None,
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

    def features(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Return the convolutions' output (b, n, d), layer-normed where the model has that norm."""
        return self._norm(self._convolve(waveform, lengths))

    def outputs(
        self, features: Frames, augment: Callable[[Frames], Frames] = lambda projected: projected
    ) -> dict[str, Tensor]:
        """Return all that the transformer gives; see `SpeechModel.outputs`.

        `augment` changes what it is given, projected features (b, n, d), as masks do in training.
        """
        lengths = features.lengths
        states = self.context_network.states(augment(self._project(features)))
        context = Frames(zero_padding(self.context_network.finish(states[-1]), lengths), lengths)
        if self.adapter is not None:
            context = self.adapter(context)
        made = {"context": context.values}
        if self.head is not None:
            made["logits"] = self.head(context, states)
        for layer in self.config.outputs.layers:
            made[f"layer_{layer}"] = zero_padding(states[layer], lengths)
        return {**made, **_pooled(self.config, context)}

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
            ConfigError: the model has no objective, as one without a quantizer.
        """
        objective = self.config.objective
        if objective is None or self.masker is None:
            raise ConfigError(
                "found a model without a pre-training objective (no quantizer, or no masking), "
                "expected one with; pre-train from a checkpoint that has a quantizer, or fine-tune"
            )
        assert self.quantizer is not None
        assert self.target_projection is not None
        assert self.prediction_projection is not None
        seeds = fresh_seeds(len(lengths), lengths.device) if seeds is None else seeds
        drawn = _draw(self.config, self.masker, waveform, lengths, seeds)
        raw = self._convolve(waveform, lengths.to(waveform.device))
        raw = Frames(
            _ScaleGradient.scale(raw.values, objective.feature_gradient_scale), raw.lengths
        )
        features = self._norm(raw)
        quantized = self.quantizer(features, update=update, seeds=seeds)
        masked = self.masker(self._project(features), drawn.mask)
        return pretraining_output(
            objective,
            predictions=self.prediction_projection(self.context_network(masked.frames)),
            targets=self.target_projection(quantized.vectors),
            drawn=drawn,
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
        projected = self.dropout(self.feature_projection(features.values))
        return Frames(projected, features.lengths)


def _draw(
    config: ModelConfig, masker: SpanMasker, waveform: Tensor, lengths: Tensor, seeds: Tensor
) -> Drawn:
    """Draw masks and distractors for waveform (b, t), where `lengths` (b,) are."""
    assert config.objective is not None
    geometry = config.feature_encoder.geometry
    return draw(
        config.objective,
        masker,
        lengths=frame_lengths(geometry, lengths),
        frames=geometry.frames(waveform.shape[1]),
        seeds=seeds,
        device=waveform.device,
    )


def _pooled(config: ModelConfig, context: Frames) -> dict[str, Tensor]:
    return {} if config.outputs.pooled is None else {"embedding": mean_over_frames(context)}


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
