"""Inference twins of SEW's context networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.sew import DisentangledContextNetwork, SqueezedContextNetwork
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge_export.deployable.context import TransformerContextTwin
from w2v_edge_export.deployable.disentangled import PlacesTwin, disentangled
from w2v_edge_export.deployable.layers import Linear


class SqueezedContextTwin(TransformerContextTwin):
    """A transformer on means of frames, and a linear layer back to the rate of frames.

    In a graph the number of frames is a multiple of `squeeze`: `GraphAssembler` pads it.
    """

    def __init__(self, model: Wav2Vec2Model, network: SqueezedContextNetwork) -> None:
        super().__init__(model, network)
        self.squeeze = network.squeeze
        self.upsample = Linear(network.upsample)

    def states(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """Return the hidden states of groups of frames; see `Wav2Vec2ContextTwin`."""
        x, padded = self._whole(x), self._whole(valid)
        # The convolution has a stride of `squeeze`.
        positions = self._groups(self.position(x, padded))[:, :, 0]
        return self.run(self._groups(x).mean(dim=2) + positions, self.valid_states(valid))

    def valid_states(self, valid: Tensor) -> Tensor:
        """Return which groups are full; utterances have no gaps, so their last frame tells."""
        return self._groups(self._whole(valid))[:, :, -1]

    def finish(self, x: Tensor, valid: Tensor) -> Tensor:
        """Widen the last hidden state (b, m, d) to the rate of frames."""
        frames = valid.shape[1]
        widened = nn.functional.gelu(self.upsample(x)) * self.valid_states(valid)
        context = torch.unflatten(widened, 2, (self.squeeze, -1)).flatten(1, 2)
        return context[:, :frames] if frames % self.squeeze else context

    def _whole(self, x: Tensor) -> Tensor:
        """Pad frames x (b, n, d) with zeros to whole groups."""
        extra = -x.shape[1] % self.squeeze
        return nn.functional.pad(x, (0, 0, 0, extra)) if extra else x

    def _groups(self, x: Tensor) -> Tensor:
        """View frames x (b, n, d) as groups (b, n / squeeze, squeeze, d)."""
        return torch.unflatten(x, 1, (-1, self.squeeze))


class DisentangledContextTwin(SqueezedContextTwin):
    """The same with disentangled attention, and no norm before the blocks."""

    def __init__(self, model: Wav2Vec2Model, network: DisentangledContextNetwork) -> None:
        super().__init__(model, network)
        self.distances = PlacesTwin(network.distances)
        embeddings = network.distances.embeddings().detach()
        for twin, source in zip(self.blocks, network.blocks, strict=True):
            disentangled(twin, source, embeddings)
