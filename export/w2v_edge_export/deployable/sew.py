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
        """Return the context alone; see `Wav2Vec2ContextTwin`."""
        frames = x.shape[1]
        extra = -frames % self.squeeze
        if extra:
            x, valid = (nn.functional.pad(y, (0, 0, 0, extra)) for y in (x, valid))
        # Utterances have no gaps: a group of frames is full if its last one is there.
        full = self._groups(valid)[:, :, -1]
        # The convolution has a stride of `squeeze`.
        positions = self._groups(self.position(x, valid))[:, :, 0]
        squeezed = self.run(self._groups(x).mean(dim=2) + positions, full)[-1]
        widened = nn.functional.gelu(self.upsample(squeezed)) * full
        context = torch.unflatten(widened, 2, (self.squeeze, -1)).flatten(1, 2)
        return [context[:, :frames] if extra else context]

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
