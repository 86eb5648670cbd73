"""SEW's context networks: transformers at a lower frame rate.

Source: SEW and SEW-D (arXiv 2109.06870), section 4, as in their authors' code and in transformers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from w2v_edge.model.config import TransformerContextConfig
from w2v_edge.model.disentangled import DisentangledBlock, DistanceEmbedding
from w2v_edge.model.padding import Frames, valid_steps, zero_padding
from w2v_edge.model.sew_config import (
    DisentangledContextConfig,
    SewContextConfig,
    SqueezedContextConfig,
)
from w2v_edge.model.transformer import PostNormContextNetwork


class SqueezedContextNetwork(PostNormContextNetwork):
    """SEW: post-norm blocks on means of frames, and a linear layer back to the rate of frames."""

    def __init__(self, config: SewContextConfig) -> None:
        """Create the network."""
        super().__init__(_transformer(config))
        self.squeeze = config.squeeze
        self.upsample = nn.Linear(config.dim, config.dim * config.squeeze)

    def states(self, frames: Frames) -> list[Tensor]:
        """Return the hidden states (b, m, d), of groups of frames; see `ContextNetwork`."""
        squeezed = self.dropout(self.normed(self.embed(frames)))
        return self.run_blocks(squeezed, self.state_lengths(frames.lengths))

    def state_lengths(self, lengths: Tensor) -> Tensor:
        """Return the full groups (b,) of `lengths` (b,) frames."""
        return lengths.div(self.squeeze, rounding_mode="floor")

    def finish(self, x: Tensor, frames: Frames) -> Frames:
        """Widen the last hidden state (b, m, d) to the rate of frames; see `ContextNetwork`."""
        widened = F.gelu(self.upsample(x))
        context = rearrange(widened, "b m (s d) -> b (m s) d", s=self.squeeze)
        context = zero_padding(context, self.state_lengths(frames.lengths) * self.squeeze)
        left_over = frames.values.shape[1] - context.shape[1]
        return Frames(F.pad(context, (0, 0, 0, left_over)), frames.lengths)

    def embed(self, frames: Frames) -> Tensor:
        """Return the first block's input (b, m, d): means of frames, and their positions."""
        x, size = zero_padding(frames.values, frames.lengths), self.squeeze
        groups = x.shape[1] // size
        means: Tensor = reduce(x[:, : groups * size], "b (m s) d -> b m d", "mean", s=size)
        if not groups:
            return means
        # The convolution has a stride of `squeeze`.
        positions: Tensor = self.position(Frames(x, frames.lengths))
        return means + positions[:, : groups * size : size]


class DisentangledContextNetwork(SqueezedContextNetwork):
    """SEW-D: the same with disentangled attention, and no norm before the blocks."""

    def __init__(self, config: DisentangledContextConfig) -> None:
        """Create the network."""
        super().__init__(config)
        self.distances = DistanceEmbedding(config)
        block = _transformer(config)
        self.blocks = nn.ModuleList(DisentangledBlock(config, block) for _ in range(config.layers))

    def run_blocks(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the hidden states of x (b, n, d), with layer drop in training."""
        valid, distances = valid_steps(lengths, x.shape[1]), self.distances(x.shape[1])
        states = [x]
        for block in self.blocks:
            dropped = self.training and torch.rand(()).item() < self.config.layer_drop
            states.append(states[-1] if dropped else block(states[-1], valid, distances))
        return states


def _transformer(config: SewContextConfig) -> TransformerContextConfig:
    """Return the transformer on groups of frames; SEW-D has blocks of its own."""
    squeezed = isinstance(config, SqueezedContextConfig)
    return TransformerContextConfig(
        "post_norm",
        dim=config.dim,
        layers=config.layers if squeezed else 0,
        heads=config.heads,
        feed_forward=config.feed_forward,
        position_kernel=config.position_kernel,
        position_groups=config.position_groups,
        dropout=config.dropout,
        layer_drop=config.layer_drop,
        norm_eps=config.norm_eps,
        activation=config.activation,
        final_norm=squeezed,
    )
