"""From the settings in a folder's JSON files to our config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from w2v_edge.checkpoints.huggingface.classes import Architecture, class_of, family
from w2v_edge.checkpoints.huggingface.vocabulary import ctc_head
from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import (
    ConvAdapterConfig,
    ConvLayer,
    FeatureEncoderConfig,
    FrameHeadConfig,
    GumbelQuantizerConfig,
    HeadConfig,
    Meaning,
    ModelConfig,
    NormalisationConfig,
    ObjectiveConfig,
    ProbableSpansConfig,
    RelativePositionConfig,
    SampledDistractorsConfig,
    TemperatureSchedule,
    TransformerContextConfig,
    UtteranceHeadConfig,
)

Files = Mapping[str, Mapping[str, Any]]
"""JSON files by name."""

CONFIG, PREPROCESSOR, PROCESSOR = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
NORMALISATION_EPS = 1e-7
SAMPLE_RATE = 16_000

PROBLEMS: dict[str, Meaning] = {
    "single_label_classification": "one_of",
    "multi_label_classification": "any_of",
    "regression": "values",
}
"""What logits mean, by `problem_type`."""

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
    "adapter_attn_dim": None,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "num_buckets": 320,
    "max_bucket_distance": 800,
    "conv_pos_kernel_size": 19,
    "pad_token_id": 0,
}
"""What transformers takes for settings that a config leaves out."""


@dataclass(frozen=True)
class Settings:
    """`config.json`, with defaults, and the types of what is asked for checked."""

    path: Path | str
    given: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        """Return a setting.

        Raises:
            CheckpointError: it is of another type than the default.
        """
        default = DEFAULTS[key]
        value = self.given.get(key, default)
        kind = (int, float) if isinstance(default, float) else type(default)
        whole = isinstance(value, bool) != isinstance(default, bool)
        if default is not None and (whole or not isinstance(value, kind)):
            raise self.wrong(key, type(default).__name__)
        return value

    def integer(self, key: str) -> int | None:
        """Return a whole number or None.

        Raises:
            CheckpointError: it is neither.
        """
        value = self.given.get(key, DEFAULTS.get(key))
        if value is not None and type(value) is not int:
            raise self.wrong(key, "a whole number")
        return value

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a setting that is not as expected."""
        return CheckpointError(
            f"{self.path}: {key}: expected {expected}, found {self.given.get(key)!r:.60}"
        )


def model_config(
    path: Path | str,
    files: Files,
    shapes: Mapping[str, tuple[int, ...]],
    language: str | None = None,
) -> ModelConfig:
    """Return our config of a folder's model.

    Args:
        path: the folder, for errors.
        files: its JSON files.
        shapes: of its tensors by name.
        language: of the vocabulary, where there are several.

    Raises:
        CheckpointError: settings that are not supported or contradict each other.
    """
    architecture = family(path, files[CONFIG])
    settings = Settings(path, files[CONFIG])
    kind = class_of(path, files[CONFIG], shapes)
    encoder = _feature_encoder(settings, architecture)
    normalise, rate = _waveform(path, files)
    pretrained = kind == "pretraining"
    if pretrained and architecture != "wav2vec2":
        raise CheckpointError(f"{path}: no {architecture} checkpoint has a quantizer to pre-train")
    masked = any(name.endswith("masked_spec_embed") for name in shapes)
    grouped = encoder.kind == "group_norm"
    return ModelConfig(
        architecture=architecture,
        sample_rate=rate,
        feature_encoder=encoder,
        quantizer=_quantizer(settings) if pretrained else None,
        masking=_masking(settings) if masked else None,
        context=_context(settings, architecture),
        objective=_objective(settings, grouped=grouped) if pretrained else None,
        normalise=NormalisationConfig(NORMALISATION_EPS) if normalise else None,
        feature_norm=architecture != "hubert" or settings["feat_proj_layer_norm"],
        head=_head(settings, kind, files, shapes, language),
    )


def preprocessor(files: Files) -> Mapping[str, Any] | None:
    """Return the settings of a folder's preprocessor; None where there are none."""
    found = files.get(PREPROCESSOR)
    if found is None:
        found = files.get(PROCESSOR, {}).get("feature_extractor")
    return found if isinstance(found, Mapping) else None


def _waveform(path: Path | str, files: Files) -> tuple[bool, int]:
    """Return whether waveforms are normalised, and their sample rate in Hz.

    Without a preprocessor's settings the model is taken as it is.
    """
    found = preprocessor(files)
    if found is None:
        return False, SAMPLE_RATE
    normalise = found.get("do_normalize", True)
    rate = found.get("sampling_rate", SAMPLE_RATE)
    if not isinstance(normalise, bool) or type(rate) is not int or rate < 1:
        raise CheckpointError(
            f"{path}: {PREPROCESSOR}: expected do_normalize true or false and a sampling_rate in "
            f"Hz, found {normalise!r:.20} and {rate!r:.20}"
        )
    return normalise, rate


def _feature_encoder(settings: Settings, architecture: Architecture) -> FeatureEncoderConfig:
    _only(settings, "feat_extract_activation", "gelu")
    lists = [settings[key] for key in ("conv_dim", "conv_kernel", "conv_stride")]
    numbers = [x for values in lists for x in values]
    if len({len(x) for x in lists}) > 1 or any(type(x) is not int or x < 1 for x in numbers):
        raise CheckpointError(
            f"{settings.path}: conv_dim, conv_kernel and conv_stride: expected as many whole "
            f"numbers each, found {lists!r:.120}"
        )
    layers = tuple(ConvLayer(*layer) for layer in zip(*lists, strict=True))
    norm = settings["feat_extract_norm"]
    if architecture == "data2vec":
        norm = "layer"
    if norm not in {"group", "layer"}:
        raise settings.wrong("feat_extract_norm", "'group' or 'layer'")
    kind: Literal["group_norm", "layer_norm"] = "group_norm" if norm == "group" else "layer_norm"
    return FeatureEncoderConfig(kind, layers, bias=settings["conv_bias"])


def _context(settings: Settings, architecture: Architecture) -> TransformerContextConfig:
    _only(settings, "hidden_act", "gelu")
    pre_norm = architecture != "data2vec" and settings["do_stable_layer_norm"]
    stacked = architecture == "data2vec"
    batch_normed = architecture == "hubert" and settings["conv_pos_batch_norm"]
    kernels = settings.integer("num_conv_pos_embeddings") or (5 if stacked else 128)
    return TransformerContextConfig(
        "pre_norm" if pre_norm else "post_norm",
        dim=settings["hidden_size"],
        layers=settings["num_hidden_layers"],
        heads=settings["num_attention_heads"],
        feed_forward=settings["intermediate_size"],
        position_kernel=settings["conv_pos_kernel_size"] if stacked else kernels,
        position_groups=settings["num_conv_pos_embedding_groups"],
        dropout=_share(float(settings["hidden_dropout"])),
        layer_drop=_share(float(settings["layerdrop"])),
        norm_eps=float(settings["layer_norm_eps"]),
        position=("output_norm" if stacked else "batch_norm" if batch_normed else "weight_norm"),
        position_layers=kernels if stacked else 1,
        relative_position=(
            RelativePositionConfig(settings["num_buckets"], settings["max_bucket_distance"])
            if architecture == "wavlm"
            else None
        ),
        # transformers has no such adapters in post-norm blocks, whatever the setting.
        language_adapter=(
            settings.integer("adapter_attn_dim")
            if architecture == "wav2vec2" and pre_norm
            else None
        ),
        adapter=_conv_adapter(settings) if architecture != "hubert" else None,
    )


def _conv_adapter(settings: Settings) -> ConvAdapterConfig | None:
    if not settings["add_adapter"]:
        return None
    return ConvAdapterConfig(
        dim=settings.integer("output_hidden_size") or settings["hidden_size"],
        layers=settings["num_adapter_layers"],
        kernel=settings["adapter_kernel_size"],
        stride=settings["adapter_stride"],
    )


def _quantizer(settings: Settings) -> GumbelQuantizerConfig:
    return GumbelQuantizerConfig(
        groups=settings["num_codevector_groups"],
        entries=settings["num_codevectors_per_group"],
        vector_dim=settings["codevector_dim"],
        temperature=TemperatureSchedule(start=2.0, end=0.5, decay=0.999995),
        hard=True,
    )


def _masking(settings: Settings) -> ProbableSpansConfig:
    length = max(1, settings["mask_time_length"])
    return ProbableSpansConfig(_share(float(settings["mask_time_prob"]) / length), length)


def _share(value: float) -> float:
    """Bring a share that only training reads into its bounds."""
    return min(1.0, max(0.0, value))


def _objective(settings: Settings, *, grouped: bool) -> ObjectiveConfig:
    return ObjectiveConfig(
        distractors=SampledDistractorsConfig(settings["num_negatives"]),
        projection_dim=settings["proj_codevector_dim"],
        logit_temperature=float(settings["contrastive_logits_temperature"]),
        diversity_weight=float(settings["diversity_loss_weight"]),
        penalty_weight=10.0 if grouped else 0.0,
        feature_gradient_scale=0.1 if grouped else 1.0,
    )


def _head(
    settings: Settings,
    kind: str,
    files: Files,
    shapes: Mapping[str, tuple[int, ...]],
    language: str | None,
) -> HeadConfig | None:
    if kind == "ctc":
        size = _rows(shapes, "lm_head.weight", settings.integer("vocab_size") or 32)
        blank = settings.integer("pad_token_id")
        return ctc_head(settings.path, files, size, 0 if blank is None else blank, language)
    if kind in {"body", "pretraining"}:
        return None
    labels = _labels(settings, _rows(shapes, "classifier.weight", 2))
    weighted = settings["use_weighted_layer_sum"]
    if settings["add_adapter"]:
        raise CheckpointError(f"{settings.path}: a classifier over an adapter is not supported")
    normed = _normed_mix(settings)
    if kind == "utterance":
        hidden = settings["classifier_proj_size"]
        return UtteranceHeadConfig(labels, hidden, weighted, normed, _meaning(settings, labels))
    return FrameHeadConfig(labels, weighted, normed, _meaning(settings, labels))


def _meaning(settings: Settings, labels: tuple[str, ...]) -> Meaning:
    """Return how logits are to be read, as transformers' pipelines do."""
    problem = settings.given.get("problem_type")
    if problem is None:
        return "values" if len(labels) == 1 else "one_of"
    if not isinstance(problem, str) or problem not in PROBLEMS:
        raise settings.wrong("problem_type", f"one of {', '.join(PROBLEMS)}")
    return PROBLEMS[problem]


def _normed_mix(settings: Settings) -> bool:
    """Tell whether a mix of layers has the final norm on the last one.

    It had in transformers before version 5, where such checkpoints were trained, and no longer has.
    """
    version = str(settings.given.get("transformers_version", "")).split(".", maxsplit=1)[0]
    return settings["do_stable_layer_norm"] and version.isdigit() and int(version) < 5  # noqa: PLR2004


def _labels(settings: Settings, rows: int) -> tuple[str, ...]:
    named = settings.given.get("id2label")
    if named is None:
        return tuple(f"LABEL_{i}" for i in range(rows))
    try:
        labels = {str(int(key)): label for key, label in cast("Mapping[str, Any]", named).items()}
        ordered = tuple(labels[str(i)] for i in range(len(named)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise settings.wrong("id2label", "labels for the numbers from 0 on") from error
    if not all(isinstance(label, str) for label in ordered):
        raise settings.wrong("id2label", "texts")
    return ordered


def _rows(shapes: Mapping[str, tuple[int, ...]], name: str, default: int) -> int:
    shape = shapes.get(name, ())
    return shape[0] if shape else default


def _only(settings: Settings, key: str, supported: str) -> None:
    if settings[key] != supported:
        raise settings.wrong(key, f"{supported!r}, the only one supported")
