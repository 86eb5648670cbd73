"""The inference twin of each context network."""

from __future__ import annotations

from w2v_edge.model.conformer import ConformerNetwork
from w2v_edge.model.sew import DisentangledContextNetwork, SqueezedContextNetwork
from w2v_edge.model.speech_model import SpeechModel, TutorialModel, Wav2Vec2Model
from w2v_edge.model.transformer import TransformerContextNetwork
from w2v_edge_export.deployable.conformer_context import ConformerContextTwin
from w2v_edge_export.deployable.context import (
    ContextTwin,
    TransformerContextTwin,
    TutorialContextTwin,
)
from w2v_edge_export.deployable.sew import DisentangledContextTwin, SqueezedContextTwin
from w2v_edge_export.graph_builder import ExportError


def context_twin(model: SpeechModel) -> ContextTwin:
    """Return the twin of the context network of `model`."""
    if isinstance(model, TutorialModel):
        return TutorialContextTwin(model)
    if isinstance(model, Wav2Vec2Model):
        network = model.context_network
        if isinstance(network, DisentangledContextNetwork):
            return DisentangledContextTwin(model, network)
        if isinstance(network, SqueezedContextNetwork):
            return SqueezedContextTwin(model, network)
        if isinstance(network, ConformerNetwork):
            return ConformerContextTwin(model, network)
        if isinstance(network, TransformerContextNetwork):
            return TransformerContextTwin(model, network)
    raise ExportError(f"no inference twin for {type(model).__name__}")
