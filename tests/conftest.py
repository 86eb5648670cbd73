"""Shared fixtures: small models, their checkpoints and bundles, and real speech.

Exports are slow, so each small model is exported once per run: under pytest-xdist the first worker
that needs a bundle makes it, and the others wait at a file lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from w2v_edge.model import ModelConfig

TESTS = Path(__file__).parent

# Workers of pytest-xdist have a width, which results in a pipe would be wrapped at.
os.environ.pop("COLUMNS", None)

WHOLE_GATE = (20.0, 20_000)
"""Longest case in s and number of codes of the shipped parity gate."""

SHORT_GATE = (7.3, 4_000)

# The same examples in every run, so that failures are reproducible.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Bind each worker of pytest-xdist to its share of the cores; let Ctrl-C end programs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell ignores it in what it starts in the background, and programs inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    index, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    mine = cores[index % count :: count] or [cores[index % len(cores)]]
    os.sched_setaffinity(0, mine)


@pytest.fixture
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for settings, on every system."""
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    return tmp_path / "settings"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def shared_cache(shared_folder: Path) -> Iterator[None]:
    """Caches, of traces above all, are shared by the workers of this run and by nobody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared_folder / "cache"))
        yield


@pytest.fixture(scope="session")
def locked(shared_folder: Path) -> Callable[[str], AbstractContextManager[None]]:
    """`locked(name)`: a block that one worker at a time runs."""

    @contextmanager
    def lock(name: str) -> Iterator[None]:
        with (shared_folder / f"{name}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    return lock


@pytest.fixture(scope="session")
def small_config() -> Callable[[str], ModelConfig]:
    """`small_config(name)`: a published architecture at a size for tests."""
    return _small_config


@pytest.fixture(scope="session")
def checkpoint(
    shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Callable[[str], Path]:
    """`checkpoint(name)`: a `.pt` file of a small model, initialised from seed 7."""

    def make(name: str) -> Path:
        from w2v_edge.model import build_model, save_checkpoint

        path = shared_folder / "checkpoints" / f"{name}.pt"
        with locked(f"checkpoint-{name}"):
            if not path.exists():
                save_checkpoint(build_model(_small_config(name), seed=7), path)
        return path

    return make


@pytest.fixture(scope="session")
def bundle(
    shared_folder: Path,
    checkpoint: Callable[[str], Path],
    locked: Callable[[str], AbstractContextManager[None]],
) -> Callable[[str], Path]:
    """`bundle(name)`: a small model exported for the target `cpu`.

    `base-small` goes through the whole parity gate, other models through a shorter one. It is
    shared: a test that damages a bundle copies it first.
    """

    def make(name: str) -> Path:
        from w2v_edge_export import export

        folder = shared_folder / "bundles" / f"{name}-fp32"
        gate = WHOLE_GATE if name == "base-small" else SHORT_GATE
        with locked(f"bundle-{name}"), _gate(*gate):
            if not folder.exists():
                export(checkpoint(name), folder)
        return folder

    return make


@pytest.fixture(scope="session")
def int8_bundle(
    shared_folder: Path,
    checkpoint: Callable[[str], Path],
    locked: Callable[[str], AbstractContextManager[None]],
) -> Callable[[str], Path]:
    """`int8_bundle(name)`: a small model exported to int8, shared like those of `bundle`.

    The speed budget is off: small products are not faster in int8.
    """

    def make(name: str) -> Path:
        from w2v_edge_export import export

        folder = shared_folder / "bundles" / f"{name}-int8"
        with locked(f"bundle-{name}-int8"), _gate(*SHORT_GATE):
            if not folder.exists():
                export(checkpoint(name), folder, precision="int8", require_speedup=0.0)
        return folder

    return make


@pytest.fixture(scope="session")
def fp16_bundle(
    shared_folder: Path,
    checkpoint: Callable[[str], Path],
    locked: Callable[[str], AbstractContextManager[None]],
) -> Path:
    """`large-small` exported to fp16, for the target `cuda`."""
    folder = shared_folder / "bundles" / "large-small-fp16"
    with locked("bundle-fp16"), _gate(*SHORT_GATE):
        if not folder.exists():
            from w2v_edge_export import export

            export(checkpoint("large-small"), folder, precision="fp16", target="cuda")
    return folder


@pytest.fixture(scope="session")
def ctc_bundle(shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]) -> Path:
    """A small transformers model with random weights and letters as labels, exported."""
    folder = shared_folder / "bundles" / "ctc-fp32"
    with locked("bundle-ctc"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            from w2v_edge_export import export

            patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
            export(_ctc_folder(shared_folder / "checkpoints" / "ctc"), folder)
    return folder


@pytest.fixture(scope="session")
def voice_bundle(
    shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Path:
    """A small transformers model with random weights that classifies and embeds, exported.

    It has five classes, an embedding of 96 values, and a threshold for speakers.
    """
    folder = shared_folder / "bundles" / "voice-fp32"
    with locked("bundle-voice"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            from w2v_edge_export import export

            patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
            source = _voice_folder(shared_folder / "checkpoints" / "voice")
            export(source, folder, pool="mean,std", speaker_threshold=0.98)
    return folder


@pytest.fixture
def copied_bundle(bundle: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`copied_bundle(name)`: a copy of a bundle, which the test may damage."""
    return lambda name: shutil.copytree(bundle(name), tmp_path / "bundle", dirs_exist_ok=True)


@pytest.fixture(scope="session")
def reseal() -> Callable[..., None]:
    """`reseal(folder, **changes)`: update all hashes of a changed bundle.

    `changes` replace keys of the manifest.
    """

    def run(folder: Path, **changes: Any) -> None:
        path = folder / "manifest.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in content["files"]:
            data = (folder / name).read_bytes()
            content["files"][name] = {"size": len(data), "sha256": _sha256(data)}
        content |= changes
        del content["sha256"]
        content["sha256"] = _sha256(_canonical(content))
        path.write_bytes(_canonical(content))

    return run


@pytest.fixture(scope="session")
def plain() -> Callable[..., dict[str, npt.NDArray[Any]]]:
    """`plain(path, **inputs)`: run a graph with onnxruntime alone."""
    import onnxruntime

    @cache
    def session(path: Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(path: Path, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        opened = session(path)
        names = [x.name for x in opened.get_outputs()]
        return dict(zip(names, opened.run(names, inputs), strict=True))

    return run


@pytest.fixture(scope="session")
def empty_batch(plain: Callable[..., dict[str, npt.NDArray[Any]]]) -> Callable[[Path], None]:
    """`empty_batch(folder)`: assert that every graph gives 0 rows for a batch of 0 rows."""
    import onnx

    def check(folder: Path) -> None:
        for path in sorted(folder.glob("*.onnx")):
            graph = onnx.load(path, load_external_data=False).graph
            for samples in (0, 48_000):
                sizes = {"batch": 0, "samples": samples, "frames": samples // 320}
                inputs, shapes = (
                    {
                        x.name: [
                            sizes.get(axis.dim_param, axis.dim_value)
                            for axis in x.type.tensor_type.shape.dim
                        ]
                        for x in values
                    }
                    for values in (graph.input, graph.output)
                )
                kinds = {x: np.int64 if "lengths" in x else np.float32 for x in inputs}
                found = plain(path, **{x: np.zeros(shape, kinds[x]) for x, shape in inputs.items()})
                for name, shape in shapes.items():
                    assert found[name].shape[0] == 0
                    assert found[name].shape[2:] == tuple(shape[2:])
                    if samples == 0 and len(shape) > 1 and name != "statistics":
                        assert len(found[name].shape) == len(shape)

    return check


@pytest.fixture(scope="session")
def speech() -> dict[str, npt.NDArray[np.float32]]:
    """The recordings that ship with the package, at 16 kHz, by name."""
    from w2v_edge import data

    return data.clips(16_000)


@pytest.fixture(scope="session")
def tutorial_reference() -> ModuleType:
    """The independent implementation of the tutorial architecture."""
    spec = importlib.util.spec_from_file_location("reference", TESTS / "reference/tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _gate(longest: float, codes: int) -> Iterator[None]:
    """Let exports in the block run a parity gate up to this length, with this many codes.

    Bundles are shared, so that the gate of the test that comes first must not shorten them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 3.7)
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", longest)
        patch.setattr("w2v_edge_export.exact_gate.MIN_CODES", codes)
        yield


def _ctc_folder(folder: Path) -> Path:
    import torch
    import transformers

    labels = [*"<pad> <s> </s> <unk> |".split(), *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    folder.mkdir(parents=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({label: i for i, label in enumerate(labels)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(vocabulary))  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor()  # type: ignore[no-untyped-call]
    extractor.save_pretrained(folder)
    config = transformers.Wav2Vec2Config(vocab_size=len(labels), **_SIZES)
    torch.manual_seed(3)
    _save(transformers.Wav2Vec2ForCTC(config), folder)
    return folder


def _voice_folder(folder: Path) -> Path:
    import torch
    import transformers

    labels = dict(enumerate("neutral happy angry sad bored".split()))
    config = transformers.Wav2Vec2Config(id2label=labels, **_SIZES)
    torch.manual_seed(4)
    _save(transformers.Wav2Vec2ForSequenceClassification(config), folder)
    return folder


_SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": [32] * 7,
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def _save(model: Any, folder: Path) -> None:
    """Save a model of transformers whose frames differ enough to have several labels."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=2 / weight.shape[1] ** 0.5)
    model.save_pretrained(folder)


def _canonical(content: dict[str, Any]) -> bytes:
    """Return the text that a manifest's own hash is computed from."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def _small_config(name: str) -> ModelConfig:
    from w2v_edge.model import preset
    from w2v_edge.model.config import FeatureEncoderConfig, NormalisationConfig

    if name == "tiny":
        return preset("tiny")
    if name == "base-normalised-small":
        return replace(_small_config("base-small"), normalise=NormalisationConfig(eps=1e-7))
    architecture = name.removesuffix("-small")
    assert architecture in {"tutorial", "base", "large"}, name
    config = preset(architecture)
    assert isinstance(config.feature_encoder, FeatureEncoderConfig)
    convolutions = tuple(replace(x, channels=32) for x in config.feature_encoder.layers)
    context: dict[str, Any] = {
        "dim": 48,
        "layers": 2,
        "heads": 4,
        "feed_forward": 96,
        "position_groups": 4,
    }
    if architecture != "tutorial":
        context |= {"dropout": 0.0, "layer_drop": 0.0}
    assert config.quantizer is not None
    assert config.objective is not None
    return replace(
        config,
        feature_encoder=replace(config.feature_encoder, layers=convolutions),
        quantizer=replace(config.quantizer, entries=40, vector_dim=16),
        context=replace(config.context, **context),
        objective=replace(config.objective, projection_dim=16),
    )
