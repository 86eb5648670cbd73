"""Inference twin of the conformer context networks."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from w2v_edge.model.conformer import ConformerBlock, ConformerNetwork
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge_export.deployable.conformer import ConformerBlockTwin, positions_twin
from w2v_edge_export.deployable.context import Wav2Vec2ContextTwin
from w2v_edge_export.deployable.layers import Norm


class ConformerContextTwin(Wav2Vec2ContextTwin):
    """The conformers of wav2vec2-Conformer and w2v-BERT."""

    def __init__(self, model: Wav2Vec2Model, network: ConformerNetwork) -> None:
        super().__init__(model)
        self.positions = positions_twin(network.config)
        self.blocks = nn.ModuleList(
            ConformerBlockTwin(cast("ConformerBlock", source)) for source in network.blocks
        )
        norm = getattr(network, "norm", None)
        self.norm = None if norm is None else Norm(norm)

    def states(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """Return the hidden states; see `Wav2Vec2ContextTwin`."""
        positions = None if self.positions is None else self.positions(x)
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1], valid, positions))
        return states

    def normed_state(self, x: Tensor) -> Tensor:
        """Norm the last hidden state (b, n, d) if the network ends in a norm."""
        return x if self.norm is None else self.norm(x)
