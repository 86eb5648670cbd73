"""A model to be fine-tuned, of any checkpoint: the same weights below a CTC head."""

from __future__ import annotations

from dataclasses import dataclass, replace

from w2v_edge.errors import ConfigError
from w2v_edge.model.build import build_model
from w2v_edge.model.config import CtcHeadConfig, ModelConfig
from w2v_edge.model.speech_model import SpeechModel, Wav2Vec2Model


@dataclass(frozen=True)
class Prepared:
    """A model with a CTC head.

    Attributes:
        model: to be fine-tuned.
        new_head: whether its head is random.
        remarks: what a user should know of it.
    """

    model: Wav2Vec2Model
    new_head: bool
    remarks: tuple[str, ...]


def refuse_headless(model: SpeechModel) -> Wav2Vec2Model:
    """Return a model that can have a head.

    Raises:
        ConfigError: it is of the architecture `tutorial`, which cannot.
    """
    if not isinstance(model, Wav2Vec2Model):
        raise ConfigError(
            f"found a model of the architecture {model.config.architecture!r}, which has no place "
            "for a head, expected wav2vec 2.0's or its kin; begin with --preset tiny, base or large"
        )
    return model


def prepare(
    model: Wav2Vec2Model, new: CtcHeadConfig | None, *, train_feature_encoder: bool, seed: int
) -> Prepared:
    """Give a model the head that it is to be fine-tuned with, and freeze what stays as it is.

    What only pre-training needs goes. A quantizer stays, frozen, where codes stay what they are: of
    features that are frozen too.

    Args:
        model: of which weights are taken.
        new: the head, where it is to be another one than the model's.
        train_feature_encoder: whether features change.
        seed: of the new head's weights.
    """
    config = model.config
    keeps = config.quantizer_input == "features" and not train_feature_encoder
    remarks = []
    if config.quantizer is not None and not keeps:
        remarks.append(
            f"codes are made of {config.quantizer_input}, which fine-tuning changes: "
            "the fine-tuned model has no quantizer"
        )
    quantizer = config.quantizer if keeps else None
    if new is not None or quantizer != config.quantizer or config.objective is not None:
        head = new or config.head
        wanted = replace(config, head=head, quantizer=quantizer, objective=None)
        model = _rebuilt(model, wanted, seed, keep_head=new is None)
    freeze(model, train_feature_encoder=train_feature_encoder)
    return Prepared(model, new is not None, tuple(remarks))


def freeze(model: Wav2Vec2Model, *, train_feature_encoder: bool) -> None:
    """Keep the quantizer as it is and, unless it is trained, the feature encoder.

    Its norm is a part of it: the projection that follows can learn all that the norm could, and
    codes are made of what is normed.
    """
    features = () if train_feature_encoder else (model.feature_encoder, model.feature_norm)
    for part in (model.quantizer, *features):
        if part is not None:
            part.requires_grad_(requires_grad=False)


def _rebuilt(
    model: Wav2Vec2Model, config: ModelConfig, seed: int, *, keep_head: bool
) -> Wav2Vec2Model:
    """Return a model of another config, with the tensors that both have."""
    rebuilt = build_model(config, seed=seed)
    assert isinstance(rebuilt, Wav2Vec2Model)
    wanted = rebuilt.state_dict()
    kept = {
        name: x
        for name, x in model.state_dict().items()
        if name in wanted and (keep_head or not name.startswith("head."))
    }
    rebuilt.load_state_dict(wanted | kept)
    return rebuilt
