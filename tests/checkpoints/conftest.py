"""Small models of transformers' own classes, and their outputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from torch import Tensor, nn

Floats = npt.NDArray[np.float32]

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 40,
    "codevector_dim": 24,
    "proj_codevector_dim": 20,
    "classifier_proj_size": 20,
    "vocab_size": 37,
}
LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
LABELS = {"id2label": dict(enumerate("neutral happy angry sad bored".split()))}
FEW: dict[str, Any] = {"num_buckets": 8, "max_bucket_distance": 11}
STACK: dict[str, Any] = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7}
VOCABULARY = [*"<pad> <s> </s> <unk> | ' é è ç à ü".split(), *"abcdefghijklmnopqrstuvwxyz"]
BATCH_NORM: dict[str, Any] = {"feat_proj_layer_norm": False, "conv_pos_batch_norm": True}
DISTILLED: dict[str, Any] = {
    "num_hidden_layers": 2,
    "feat_proj_layer_norm": False,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
}
"""What DistilHuBERT's config states beside the sizes."""

WITH_FIRST = {"use_intermediate_ffn_before_adapter": True, "adapter_act": "swish"}
NEAR = {"left_max_position_embeddings": 5, "right_max_position_embeddings": 2}
TDNN: dict[str, Any] = {
    "tdnn_dim": [32, 24, 24, 20, 40],
    "tdnn_kernel": [5, 3, 3, 1, 1],
    "tdnn_dilation": [1, 2, 3, 1, 1],
    "xvector_output_dim": 16,
}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2Model", {}),
    "wav2vec2-stable": ("Wav2Vec2Model", {"do_stable_layer_norm": True, "conv_bias": True}),
    "wav2vec2-layer": ("Wav2Vec2Model", {"feat_extract_norm": "layer", "conv_bias": True}),
    "wav2vec2-pretraining": ("Wav2Vec2ForPreTraining", {}),
    "wav2vec2-pretraining-large": ("Wav2Vec2ForPreTraining", {**LARGE, "conv_bias": True}),
    "wav2vec2-ctc": ("Wav2Vec2ForCTC", {"conv_bias": True, "num_conv_pos_embeddings": 15}),
    "wav2vec2-ctc-large": ("Wav2Vec2ForCTC", LARGE),
    "wav2vec2-classes": ("Wav2Vec2ForSequenceClassification", LABELS),
    "wav2vec2-classes-mixed": (
        "Wav2Vec2ForSequenceClassification",
        {**LABELS, **LARGE, "use_weighted_layer_sum": True},
    ),
    "wav2vec2-frames": ("Wav2Vec2ForAudioFrameClassification", {**LARGE, **LABELS}),
    "wav2vec2-frames-mixed": (
        "Wav2Vec2ForAudioFrameClassification",
        {**LABELS, "use_weighted_layer_sum": True},
    ),
    "wav2vec2-adapter": ("Wav2Vec2Model", {"add_adapter": True, "output_hidden_size": 28}),
    "wav2vec2-adapter-ctc": (
        "Wav2Vec2ForCTC",
        {**LARGE, "add_adapter": True, "num_adapter_layers": 2, "adapter_stride": 3},
    ),
    "mms": ("Wav2Vec2ForCTC", {**LARGE, "conv_bias": True, "adapter_attn_dim": 12}),
    "wav2vec2-idle-adapter": ("Wav2Vec2ForCTC", {"adapter_attn_dim": 12}),
    "hubert": ("HubertModel", {}),
    "hubert-large": ("HubertModel", {**LARGE, "conv_bias": True}),
    "hubert-batch-norm": ("HubertModel", BATCH_NORM),
    "hubert-adapters": (
        "HubertModel",
        {**LARGE, "adapter_attn_dim": 12, "hidden_act": "gelu_python"},
    ),
    "distilhubert": ("HubertModel", DISTILLED),
    "hubert-ctc": ("HubertForCTC", LARGE),
    "hubert-classes": ("HubertForSequenceClassification", {**BATCH_NORM, **LABELS}),
    "hubert-classes-mixed": (
        "HubertForSequenceClassification",
        {**LABELS, **LARGE, "use_weighted_layer_sum": True},
    ),
    "wavlm": ("WavLMModel", {}),
    "wavlm-large": ("WavLMModel", LARGE),
    "wavlm-few": ("WavLMModel", FEW),
    "wavlm-ctc": ("WavLMForCTC", {**LARGE, **FEW}),
    "wavlm-classes": ("WavLMForSequenceClassification", LABELS),
    "wavlm-frames": (
        "WavLMForAudioFrameClassification",
        {**LARGE, **FEW, **LABELS, "use_weighted_layer_sum": True},
    ),
    "data2vec": ("Data2VecAudioModel", STACK),
    "data2vec-ctc": (
        "Data2VecAudioForCTC",
        {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 6, "conv_bias": True},
    ),
    "data2vec-classes": ("Data2VecAudioForSequenceClassification", {**STACK, **LABELS}),
    "unispeech": ("UniSpeechModel", {}),
    "unispeech-pretraining": ("UniSpeechForPreTraining", {}),
    "unispeech-ctc": ("UniSpeechForCTC", {**LARGE, "conv_bias": True, "adapter_attn_dim": 12}),
    "unispeech-classes": (
        "UniSpeechForSequenceClassification",
        {**LABELS, **LARGE, "use_weighted_layer_sum": True},
    ),
    "unispeech-sat": ("UniSpeechSatModel", LARGE),
    "unispeech-sat-pretraining": ("UniSpeechSatForPreTraining", {}),
    "unispeech-sat-ctc": ("UniSpeechSatForCTC", {}),
    "unispeech-sat-classes": ("UniSpeechSatForSequenceClassification", LABELS),
    "unispeech-sat-frames": (
        "UniSpeechSatForAudioFrameClassification",
        {**LABELS, "use_weighted_layer_sum": True},
    ),
    "conformer": ("Wav2Vec2ConformerModel", {}),
    "conformer-rotary": ("Wav2Vec2ConformerModel", {"position_embeddings_type": "rotary"}),
    "conformer-plain": ("Wav2Vec2ConformerModel", {"position_embeddings_type": None}),
    "conformer-pretraining": (
        "Wav2Vec2ConformerForPreTraining",
        {"hidden_act": "swish", "layer_norm_eps": 1e-3, "rotary_embedding_base": 500},
    ),
    "conformer-ctc": (
        "Wav2Vec2ConformerForCTC",
        {"add_adapter": True, "feat_extract_norm": "layer", "conv_depthwise_kernel_size": 7},
    ),
    "conformer-classes-mixed": (
        "Wav2Vec2ConformerForSequenceClassification",
        {**LABELS, "use_weighted_layer_sum": True},
    ),
    "conformer-frames": ("Wav2Vec2ConformerForAudioFrameClassification", LABELS),
    "bert": ("Wav2Vec2BertModel", NEAR),
    "bert-relative": ("Wav2Vec2BertModel", {"position_embeddings_type": "relative"}),
    "bert-rotary": ("Wav2Vec2BertModel", {"position_embeddings_type": "rotary"}),
    "bert-plain": ("Wav2Vec2BertModel", {"position_embeddings_type": None, "hidden_act": "gelu"}),
    "bert-adapter": ("Wav2Vec2BertModel", {"add_adapter": True, "output_hidden_size": 28}),
    "bert-ctc": (
        "Wav2Vec2BertForCTC",
        {**WITH_FIRST, "add_adapter": True, "num_adapter_layers": 2, "layer_norm_eps": 1e-3},
    ),
    "bert-classes": ("Wav2Vec2BertForSequenceClassification", LABELS),
    "bert-frames-mixed": (
        "Wav2Vec2BertForAudioFrameClassification",
        {**LABELS, "use_weighted_layer_sum": True},
    ),
}

CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": [16, *[24] * 4, *[32] * 8],
    "conv_kernel": [10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1],
    "conv_stride": [5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
}
BUCKETED: dict[str, Any] = {"position_buckets": 8, "max_position_embeddings": 12}
SQUEEZED: dict[str, tuple[str, dict[str, Any]]] = {
    "sew": ("SEWModel", CONVOLUTIONS),
    "sew-layer": ("SEWModel", {**CONVOLUTIONS, "feat_extract_norm": "layer", "conv_bias": True}),
    "sew-thirds": (
        "SEWModel",
        {**CONVOLUTIONS, "squeeze_factor": 3, "num_conv_pos_embeddings": 15},
    ),
    "sew-ctc": ("SEWForCTC", {**CONVOLUTIONS, "hidden_size": 32, "hidden_act": "quick_gelu"}),
    "sew-d": ("SEWDModel", {**CONVOLUTIONS, **BUCKETED}),
    "sew-d-ctc": (
        "SEWDForCTC",
        {**CONVOLUTIONS, **BUCKETED, "share_att_key": False, "pos_att_type": ["c2p"]},
    ),
    "sew-d-classes": (
        "SEWDForSequenceClassification",
        {**CONVOLUTIONS, **LABELS, "share_att_key": False, "norm_rel_ebd": "none"}
        | {"position_buckets": -1, "max_position_embeddings": 9, "pos_att_type": ["p2c"]},
    ),
    "sew-classes": ("SEWForSequenceClassification", {**CONVOLUTIONS, **LABELS}),
    "sew-classes-mixed": (
        "SEWForSequenceClassification",
        {**CONVOLUTIONS, **LABELS, "use_weighted_layer_sum": True, "squeeze_factor": 3},
    ),
    "sew-d-classes-mixed": (
        "SEWDForSequenceClassification",
        {**CONVOLUTIONS, **BUCKETED, **LABELS, "use_weighted_layer_sum": True}
        | {"hidden_act": "gelu_new"},
    ),
}
"""Models whose transformer has fewer frames, and which transformers does not run on one frame."""


@pytest.fixture(scope="session", params=SQUEEZED)
def squeezed(request: pytest.FixtureRequest) -> str:
    """Every kind of model whose transformer has fewer frames."""
    name: str = request.param
    return name


XVECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-xvector": ("Wav2Vec2ForXVector", TDNN),
    "wav2vec2-mixed-xvector": (
        "Wav2Vec2ForXVector",
        {**TDNN, **LARGE, "use_weighted_layer_sum": True},
    ),
    "wavlm-xvector": ("WavLMForXVector", TDNN),
    "unispeech-sat-mixed-xvector": (
        "UniSpeechSatForXVector",
        {**TDNN, "use_weighted_layer_sum": True},
    ),
    "data2vec-xvector": ("Data2VecAudioForXVector", {**TDNN, **STACK}),
    "conformer-mixed-xvector": (
        "Wav2Vec2ConformerForXVector",
        {**TDNN, "use_weighted_layer_sum": True},
    ),
    "wavlm-adapter-xvector": (
        "WavLMForXVector",
        {**TDNN, "add_adapter": True, "num_adapter_layers": 1},
    ),
    "bert-mixed-xvector": (
        "Wav2Vec2BertForXVector",
        {**TDNN, **NEAR, "use_weighted_layer_sum": True},
    ),
}
"""Models of `hf` and `fresh` beside `MODELS`, whose head gives an embedding."""


@pytest.fixture(scope="session", params=MODELS)
def family(request: pytest.FixtureRequest) -> str:
    """Every kind of model."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def fresh() -> Callable[..., Any]:
    """`fresh(name, seed=0, **changes)`: a model in eval mode, every parameter in play."""

    def make(name: str, seed: int = 0, **changes: Any) -> Any:
        cls, settings = (MODELS | SQUEEZED | XVECTORS)[name]
        model_class = getattr(transformers, cls)
        torch.manual_seed(seed)
        model = model_class(model_class.config_class(**{**SIZES, **settings, **changes}))
        _roughen(model, seed)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def hf(fresh: Callable[..., Any]) -> Callable[[str], Any]:
    """`hf(name)`: a shared model of `fresh`; a test that changes one makes its own."""
    return cache(fresh)


@pytest.fixture(scope="session")
def hf_folder(
    hf: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """`hf_folder(name)`: a shared folder of the model, as transformers saves it."""

    @cache
    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp("transformers") / name
        hf(name).save_pretrained(folder)
        return folder

    return save


@dataclass
class Compared:
    """What a test compared with a peer: classes of the peers, and the worst deviation.

    Attributes:
        peers: names of the peers' classes.
        deviation: the worst, in standard deviations of the expected output.
        outputs: number of comparisons.
    """

    peers: set[str] = field(default_factory=set)
    deviation: float = 0.0
    outputs: int = 0


COMPARED: list[Compared] = [Compared()]
"""Of the test that runs."""


@pytest.fixture(autouse=True)
def conformance(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[None]:
    """Record in the report of pytest what was compared, for the matrix of conformance.

    The layout of the checkpoints is the module's `LAYOUT`.
    """
    COMPARED[0] = found = Compared()
    yield
    if found.peers and found.outputs:
        layout = getattr(request.module, "LAYOUT", "folder of transformers")
        row = {"classes": sorted(found.peers), "layout": layout, "outputs": found.outputs}
        record_property("conformance", json.dumps(row | {"deviation": found.deviation}))


@pytest.fixture(scope="session")
def compared() -> Callable[..., None]:
    """`compared(name, deviation=None)`: record the class of a peer, and a comparison with it."""

    def record(name: str, deviation: float | None = None) -> None:
        found = COMPARED[0]
        found.peers.add(name)
        if deviation is not None:
            found.deviation = max(found.deviation, deviation)
            found.outputs += 1

    return record


@pytest.fixture(scope="session")
def prepared() -> Callable[[Any, Floats], Tensor]:
    """`prepared(model, waveform)`: the input of a model of transformers, without padding."""
    extractor: Any = transformers.SeamlessM4TFeatureExtractor()  # type: ignore[no-untyped-call]

    def prepare(model: Any, waveform: Floats) -> Tensor:
        if model.config.model_type != "wav2vec2-bert":
            return torch.from_numpy(waveform)[None]
        found = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        features: Tensor = found["input_features"]
        return features[:, : int(found["attention_mask"].sum())]

    return prepare


@pytest.fixture(scope="session")
def theirs(prepared: Callable[[Any, Floats], Tensor]) -> Callable[[Any, Floats], dict[str, Tensor]]:
    """`theirs(model, waveform)`: the outputs of transformers for one utterance, unpadded."""

    @torch.no_grad()
    def run(model: Any, waveform: Floats) -> dict[str, Tensor]:
        COMPARED[0].peers.add(type(model).__name__)
        body, features = model.base_model, prepared(model, waveform)
        batch = features
        if hasattr(body, "feature_extractor"):
            features = body.feature_extractor(batch).transpose(1, 2)
        norm = getattr(body, "layer_norm", None)
        norm = norm or getattr(body.feature_projection, "layer_norm", None)
        made = {"features": features if norm is None else norm(features)}
        made["context"] = body(batch).last_hidden_state
        if body is not model and not hasattr(model, "quantizer"):
            made["logits"] = model(batch).logits
        return {name: values[0] for name, values in made.items()}

    return run


@pytest.fixture(scope="session")
def ours() -> Callable[..., dict[str, Tensor]]:
    """`ours(model, *waveforms, extra=0)`: what a converted model makes of a padded batch.

    All padding, and `extra` samples of it past the longest waveform, is NaN.
    """

    @torch.no_grad()
    def run(model: Any, *waveforms: Floats, extra: int = 0) -> dict[str, Tensor]:
        batch = torch.full((len(waveforms), max(map(len, waveforms)) + extra), torch.nan)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        features = model.features(batch, torch.tensor([len(x) for x in waveforms]))
        return {"features": features.values, **model.outputs(features)}

    return run


@pytest.fixture(scope="session")
def equal() -> Callable[[Any, Any], None]:
    """`equal(found, expected)`: within 1e-4 of how much the expected varies."""

    def check(found: Any, expected: Any) -> None:
        found, expected = torch.as_tensor(found), torch.as_tensor(expected)
        assert expected.numel()
        scale = float(expected.double().std())
        assert scale > 1e-3
        torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)
        worst = float((found - expected).abs().max()) / scale
        seen = COMPARED[0]
        seen.deviation, seen.outputs = max(seen.deviation, worst), seen.outputs + 1

    return check


@pytest.fixture(scope="session")
def same_as(
    theirs: Callable[[Any, Floats], dict[str, Tensor]],
    ours: Callable[..., dict[str, Tensor]],
    equal: Callable[[Any, Any], None],
) -> Callable[[Any, Any, Floats], None]:
    """`same_as(model, peer, waveform)`: a converted model gives all that transformers' gives."""

    def check(model: Any, peer: Any, waveform: Floats) -> None:
        expected, found = theirs(peer, waveform), ours(model, waveform)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            equal(found[name][0], values)

    return check


@pytest.fixture(scope="session")
def utterance(speech: dict[str, Floats]) -> Callable[..., Floats]:
    """`utterance(samples, start=20000)`: that much of the recordings."""
    whole = np.concatenate(list(speech.values()))

    def cut(samples: int, start: int = 20_000) -> Floats:
        assert start + samples <= len(whole)
        return whole[start : start + samples].copy()

    return cut


@pytest.fixture
def refuses() -> Callable[..., None]:
    """`refuses(source, *words, **options)`: it is refused in one line that has these words."""
    from w2v_edge.checkpoints import load_source
    from w2v_edge.errors import CheckpointError

    def check(source: Path, *words: str, **options: Any) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_source(source, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 600
        for word in words:
            assert word in message, message

    return check


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`command(*arguments)`: run the command line and return code, stdout and stderr."""
    from w2v_edge.cli.group import run

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        # Long work prints its stages before an error.
        err = "".join(x for x in captured.err.splitlines(True) if not x.endswith(" s)\n"))
        return code, captured.out, err

    return call


@pytest.fixture(scope="session")
def edit() -> Callable[..., None]:
    """`edit(path, **changes)`: change keys of a JSON file; None takes one out."""

    def change(path: Path, **changes: Any) -> None:
        data = json.loads(path.read_text(encoding="utf-8")) | changes
        kept = {key: value for key, value in data.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return change


@pytest.fixture(scope="session")
def write_processor() -> Callable[..., Any]:
    """`write_processor(folder, do_normalize=True)`: a real processor's files, letters as labels."""

    def write(folder: Path, *, do_normalize: bool = True) -> Any:
        extractor = transformers.Wav2Vec2FeatureExtractor(  # type: ignore[no-untyped-call]
            do_normalize=do_normalize
        )
        path = folder / "vocab.json"
        path.write_text(json.dumps({token: i for i, token in enumerate(VOCABULARY)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(str(path))  # type: ignore[no-untyped-call]
        processor = transformers.Wav2Vec2Processor(extractor, tokenizer)  # type: ignore[no-untyped-call]
        tokenizer.save_pretrained(folder)
        extractor.save_pretrained(folder)
        return processor

    return write


@pytest.fixture(scope="session")
def cached() -> Callable[..., None]:
    """`cached(cache, name, source)`: put a folder's files into a cache of the Hub."""

    def put(cache: Path, name: str, source: Path) -> None:
        model = cache / f"models--{name.replace('/', '--')}"
        commit = "0123456789" * 4
        snapshot = model / "snapshots" / commit
        for folder in (snapshot, model / "refs", model / "blobs"):
            folder.mkdir(parents=True, exist_ok=True)
        (model / "refs" / "main").write_text(commit)
        for i, path in enumerate(sorted(source.iterdir())):
            blob = model / "blobs" / f"{i:040}"
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(blob)

    return put


@pytest.fixture
def no_gradients() -> Iterator[None]:
    """Record nothing for a backward pass."""
    with torch.no_grad():
        yield


def _roughen(model: nn.Module, seed: int) -> None:
    """Move all that starts as zero, one or nearly so to where a mistake with it shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or "embed_positions" in name:
                continue
            noise = torch.empty_like(tensor).normal_(generator=generator)
            if name.endswith("running_var"):
                tensor.mul_(1 + 0.5 * noise.abs())
            elif name.endswith("original0"):
                tensor.mul_(1 + 0.2 * noise)
            elif name.endswith(("rel_attn_embed.weight", "rel_embeddings.weight")):
                tensor.copy_(noise)
            elif tensor.ndim == 2:
                tensor.copy_(noise / tensor.shape[1] ** 0.5)
            elif tensor.ndim == 1 or name.endswith("gru_rel_pos_const"):
                tensor.add_(0.3 * noise)
