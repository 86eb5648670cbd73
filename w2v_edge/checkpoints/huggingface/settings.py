"""Reads a `ModelConfig` from the JSON files of a transformers folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from w2v_edge.checkpoints.huggingface.classes import read_classes, read_meaning
from w2v_edge.checkpoints.huggingface.conformer_settings import ACTIVATIONS
from w2v_edge.checkpoints.huggingface.doubts import check_never_null, major_version
from w2v_edge.checkpoints.huggingface.families import POOLED, family_of, model_kind
from w2v_edge.checkpoints.huggingface.family import Family
from w2v_edge.checkpoints.huggingface.pooled_heads import HeadChoice, pooled_head, pooled_heads
from w2v_edge.checkpoints.huggingface.vocabulary import TOKENIZER, Labels, read_labels
from w2v_edge.checkpoints.settings import SourceSettings, clip_share
from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import (
    ConvLayer,
    FeatureEncoderConfig,
    GumbelQuantizerConfig,
    LogMelConfig,
    ModelConfig,
    NormalisationConfig,
    ObjectiveConfig,
    ProbableSpansConfig,
    SampledDistractorsConfig,
    TemperatureSchedule,
)
from w2v_edge.model.head_config import (
    CtcHeadConfig,
    FrameHeadConfig,
    HeadConfig,
    PooledHeadConfig,
    TdnnLayerConfig,
    UtteranceHeadConfig,
    XVectorHeadConfig,
)

JsonFiles = Mapping[str, Mapping[str, Any]]
"""Contents of JSON files by name."""

CONFIG, PREPROCESSOR, PROCESSOR = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
NESTED = ("feature_extractor", "audio_processor")
"""Where the processor's file keeps the settings of the preprocessor."""

NORMALISATION_EPS = 1e-7
SAMPLE_RATE = 16_000

MEL_DEFAULTS: dict[str, Any] = {
    "feature_extractor_type": "SeamlessM4TFeatureExtractor",
    "sampling_rate": SAMPLE_RATE,
    "num_mel_bins": 80,
    "stride": 2,
    "padding_side": "right",
}
"""Settings of the preprocessor of mel energies."""

DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout": 0.1,
    "layerdrop": 0.1,
    "layer_norm_eps": 1e-5,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "conv_dim": [512] * 7,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_bias": False,
    "num_conv_pos_embeddings": None,
    "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": False,
    "mask_time_prob": 0.05,
    "mask_time_length": 10,
    "num_codevectors_per_group": 320,
    "num_codevector_groups": 2,
    "contrastive_logits_temperature": 0.1,
    "num_negatives": 100,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
    "diversity_loss_weight": 0.1,
    "use_weighted_layer_sum": False,
    "classifier_proj_size": 256,
    "add_adapter": False,
    "adapter_kernel_size": 3,
    "adapter_stride": 2,
    "num_adapter_layers": 3,
    "output_hidden_size": None,
    "vocab_size": 32,
    "pooling_mode": "mean",
    "tdnn_dim": [512, 512, 512, 512, 1500],
    "tdnn_kernel": [5, 3, 3, 1, 1],
    "tdnn_dilation": [1, 2, 3, 1, 1],
    "xvector_output_dim": 512,
    "transformers_version": None,
    "adapter_attn_dim": None,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "num_buckets": 320,
    "max_bucket_distance": 800,
    "conv_pos_kernel_size": 19,
    "pad_token_id": None,
    "feature_projection_input_dim": 160,
    "conv_depthwise_kernel_size": 31,
    "position_embeddings_type": "relative",
    "rotary_embedding_base": 10_000,
    "left_max_position_embeddings": 64,
    "right_max_position_embeddings": 8,
    "adapter_act": "relu",
    "use_intermediate_ffn_before_adapter": False,
}
"""Defaults of transformers for settings that a config omits."""


def model_config(
    path: Path | str,
    files: JsonFiles,
    shapes: Mapping[str, tuple[int, ...]],
    language: str | None = None,
    kind: str | None = None,
    heads: Sequence[HeadChoice] = (),
) -> ModelConfig:
    """Return the config of a folder's model.

    Args:
        path: the folder, for errors.
        files: its JSON files.
        shapes: shapes of its tensors by name.
        language: selects a vocabulary of a multilingual model.
        kind: what to read the model as, of `KINDS`; None goes by its class and tensors.
        heads: pooled heads to read; by default those that the tensors show.

    Raises:
        CheckpointError: settings are not supported or inconsistent.
    """
    family = family_of(path, files[CONFIG])
    defaults = {**DEFAULTS, **family.defaults}
    settings = SourceSettings(path, files[CONFIG], defaults, null_is_default=True)
    check_never_null(settings)
    kind = kind or model_kind(path, files[CONFIG], shapes)
    encoder: FeatureEncoderConfig | LogMelConfig
    if family.log_mel:
        encoder, normalise, rate = _log_mel(settings, files), False, SAMPLE_RATE
    else:
        encoder = _feature_encoder(settings, family)
        normalise, rate = _waveform(path, files)
    pretrained = kind == "pretraining"
    if pretrained and not family.pretraining:
        raise CheckpointError(
            f"{path}: found a quantizer, expected none in a {family.model_type} checkpoint"
        )
    masked = any(name.endswith("masked_spec_embed") for name in shapes)
    grouped = encoder.kind == "group_norm"
    return ModelConfig(
        architecture=family.architecture,
        sample_rate=rate,
        feature_encoder=encoder,
        quantizer=_quantizer(settings) if pretrained else None,
        masking=_masking(settings) if masked else None,
        context=family.context(settings),
        objective=(
            _objective(settings, grouped=grouped)
            if pretrained and family.pretraining == "objective"
            else None
        ),
        normalise=NormalisationConfig(NORMALISATION_EPS) if normalise else None,
        feature_norm=family.feature_norm(settings),
        head=_head(settings, family, kind, files, shapes, language, heads),
    )


def labels_of(files: JsonFiles, head: CtcHeadConfig) -> Labels:
    """Return the labels that a folder's files give a head, with the remarks about them."""
    pad = files.get(CONFIG, {}).get("pad_token_id")
    return read_labels("", files, head.size, pad if type(pad) is int else None, head.language)


def preprocessor(files: JsonFiles) -> Mapping[str, Any] | None:
    """Return the settings of a folder's preprocessor, or None.

    As in transformers 5 those in the processor's file come first. Folders of early releases keep
    them in the tokenizer's file.
    """
    found = _nested(files)
    if found is None:
        found = files.get(PREPROCESSOR)
    if found is None and "do_normalize" in files.get(TOKENIZER, {}):
        found = files[TOKENIZER]
    return found if isinstance(found, Mapping) else None


def _nested(files: JsonFiles) -> Any:
    """Return the settings of the preprocessor in the processor's file, if it has them."""
    content = files.get(PROCESSOR, {})
    return next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), None)


def doubts_of_two(files: JsonFiles) -> tuple[str, ...]:
    """Return a remark if two files state different settings of a folder's preprocessor."""
    first, second = _nested(files), files.get(PREPROCESSOR)
    if first is None or second is None:
        return ()
    keys = first.keys() & second.keys() & {"do_normalize", "sampling_rate", "num_mel_bins"}
    both = [(key, first[key], second[key]) for key in sorted(keys)]
    differ = [f"{key} ({one!r:.20}, {other!r:.20})" for key, one, other in both if one != other]
    if not differ:
        return ()
    what = " and ".join(differ)
    return (f"{PROCESSOR} and {PREPROCESSOR} differ in {what}: the former is taken",)


def _waveform(path: Path | str, files: JsonFiles) -> tuple[bool, int]:
    """Return whether waveforms are normalised (default: no), and their sample rate in Hz."""
    found = preprocessor(files)
    if found is None:
        return False, SAMPLE_RATE
    normalise, rate = found.get("do_normalize"), found.get("sampling_rate")
    normalise = True if normalise is None else normalise
    rate = SAMPLE_RATE if rate is None else rate
    rate = int(rate) if isinstance(rate, float) and rate.is_integer() else rate
    if not isinstance(normalise, bool) or type(rate) is not int or rate < 1:
        raise CheckpointError(
            f"{path}: {PREPROCESSOR}: expected do_normalize true or false and a sampling_rate in "
            f"Hz, found {normalise!r:.20} and {rate!r:.20}"
        )
    return normalise, rate


def _feature_encoder(settings: SourceSettings, family: Family) -> FeatureEncoderConfig:
    if ACTIVATIONS.get(settings["feat_extract_activation"]) != "gelu":
        raise settings.error("feat_extract_activation", "'gelu', the only supported value")
    lists = _layer_lists(settings, ("conv_dim", "conv_kernel", "conv_stride"))
    layers = tuple(ConvLayer(*layer) for layer in lists)
    norm = family.encoder_norm(settings)
    if norm not in {"group", "layer"}:
        raise settings.error("feat_extract_norm", "'group' or 'layer'")
    kind: Literal["group_norm", "layer_norm"] = "group_norm" if norm == "group" else "layer_norm"
    return FeatureEncoderConfig(kind, layers, bias=settings["conv_bias"])


def _log_mel(settings: SourceSettings, files: JsonFiles) -> LogMelConfig:
    """Return the mel energies that the preprocessor computes; without one, by the config."""
    given = SourceSettings(
        f"{settings.path}: {PREPROCESSOR}", preprocessor(files) or {}, MEL_DEFAULTS, True
    )
    for key in ("feature_extractor_type", "sampling_rate", "stride", "padding_side"):
        given.require(key, MEL_DEFAULTS[key])
    bins, width = given["num_mel_bins"], settings["feature_projection_input_dim"]
    if preprocessor(files) is None:
        bins = width // given["stride"]
    if bins * given["stride"] != width:
        raise settings.error(
            "feature_projection_input_dim",
            f"{given['stride']} frames of {bins} mel bins, as {PREPROCESSOR} says",
        )
    return LogMelConfig(bins)


def _quantizer(settings: SourceSettings) -> GumbelQuantizerConfig:
    return GumbelQuantizerConfig(
        groups=settings["num_codevector_groups"],
        entries=settings["num_codevectors_per_group"],
        vector_dim=settings["codevector_dim"],
        temperature=TemperatureSchedule(start=2.0, end=0.5, decay=0.999995),
        hard=True,
    )


def _masking(settings: SourceSettings) -> ProbableSpansConfig:
    length = max(1, settings["mask_time_length"])
    return ProbableSpansConfig(clip_share(settings["mask_time_prob"] / length), length)


def _objective(settings: SourceSettings, *, grouped: bool) -> ObjectiveConfig:
    return ObjectiveConfig(
        distractors=SampledDistractorsConfig(settings["num_negatives"]),
        projection_dim=settings["proj_codevector_dim"],
        logit_temperature=float(settings["contrastive_logits_temperature"]),
        diversity_weight=float(settings["diversity_loss_weight"]),
        penalty_weight=10.0 if grouped else 0.0,
        feature_gradient_scale=0.1 if grouped else 1.0,
    )


def _head(
    settings: SourceSettings,
    family: Family,
    kind: str,
    files: JsonFiles,
    shapes: Mapping[str, tuple[int, ...]],
    language: str | None,
    heads: Sequence[HeadChoice],
) -> HeadConfig | None:
    if kind == "ctc":
        size = _rows(
            shapes, "lm_head.weight", settings.integer("vocab_size") or DEFAULTS["vocab_size"]
        )
        pad = settings.integer("pad_token_id")
        return read_labels(settings.path, files, size, pad, language).head
    if kind in {"body", "pretraining"}:
        return None
    if kind == POOLED:
        return _pooled_head(settings, heads or pooled_heads(shapes), shapes)
    weighted = settings["use_weighted_layer_sum"]
    normed = _normed_mix(settings, family)
    if settings["add_adapter"] and (kind != "xvector" or (weighted and normed)):
        raise CheckpointError(
            f"{settings.path}: add_adapter: expected false, since such a head on an adapter is not "
            "supported; export the body alone: --as body"
        )
    if kind == "xvector":
        return _xvector_head(settings, weighted=weighted, normed=normed)
    rows = _rows(shapes, "classifier.weight", 2)
    labels = read_classes(settings.path, settings.values, rows).labels
    meaning, _ = read_meaning(settings.path, settings.values, labels)
    if kind == "utterance":
        hidden = settings["classifier_proj_size"]
        return UtteranceHeadConfig(labels, hidden, weighted, normed, meaning)
    return FrameHeadConfig(labels, weighted, normed, meaning)


def _pooled_head(
    settings: SourceSettings,
    heads: Sequence[HeadChoice],
    shapes: Mapping[str, tuple[int, ...]],
) -> PooledHeadConfig:
    only = f"{heads[0].renamed}.out_proj.weight" if len(heads) == 1 else ""
    rows = _rows(shapes, only, 0) or None
    labels = read_classes(settings.path, settings.values, rows).labels
    meaning, _ = read_meaning(settings.path, settings.values, labels)
    return pooled_head(settings.path, heads, shapes, labels, meaning, settings["pooling_mode"])


def _xvector_head(settings: SourceSettings, *, weighted: bool, normed: bool) -> XVectorHeadConfig:
    keys = ("tdnn_dim", "tdnn_kernel", "tdnn_dilation")
    layers = tuple(TdnnLayerConfig(*x) for x in _layer_lists(settings, keys))
    size = settings["xvector_output_dim"]
    return XVectorHeadConfig(layers[0].channels, layers, size, weighted, normed)


def _layer_lists(settings: SourceSettings, keys: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Return the numbers of each layer, from lists with one number for each layer."""
    lists = [settings[key] for key in keys]
    numbers = [x for values in lists for x in values]
    unequal = len({len(x) for x in lists}) > 1
    if not numbers or unequal or any(type(x) is not int or x < 1 for x in numbers):
        raise CheckpointError(
            f"{settings.path}: {', '.join(keys[:-1])} and {keys[-1]}: expected lists of positive "
            f"integers of one length, found {lists!r:.120}"
        )
    return list(zip(*lists, strict=True))


def _normed_mix(settings: SourceSettings, family: Family) -> bool:
    """Return whether the final norm applies to the last hidden state in a mix of layers.

    It does in transformers before version 5, where such checkpoints were trained.
    """
    version = major_version(settings.values)
    return family.final_norm(settings) and version is not None and version < 5  # noqa: PLR2004


def _rows(shapes: Mapping[str, tuple[int, ...]], name: str, default: int) -> int:
    shape = shapes.get(name, ())
    return shape[0] if shape else default
