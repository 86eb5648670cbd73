"""`load(tuned=...)`: settings are used only where they were measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import strict
from w2v_edge.bundle import Bundle
from w2v_edge.errors import ConfigError, TuningError
from w2v_edge.providers import choose, open_session, usable_cores
from w2v_edge.providers.machine import device_identity
from w2v_edge.providers.tuned import Gain, describe, read_tuning, usual_path, write_tuning
from w2v_edge.providers.tuning import Tuning

Speech = dict[str, npt.NDArray[np.float32]]
Write = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("settings_folder")


@pytest.fixture
def tiny(bundle: Callable[[str], Path]) -> Path:
    return bundle("tiny")


@pytest.fixture
def write(tiny: Path, tmp_path: Path) -> Write:
    """`write(tuning, **changes)`: a file of this device with keys changed; its path."""

    def make(tuning: Tuning = Tuning(), **changes: Any) -> Path:  # noqa: B008 - it is frozen
        found = describe(Bundle.open(tiny).manifest, "cpu", tuning, (), "")
        path = tmp_path / "tuning.json"
        path.write_text(json.dumps(strict.to_plain(found) | changes), encoding="utf-8")
        return path

    return make


def refused(tiny: Path, tuned: Any, *words: str) -> None:
    with pytest.raises(TuningError) as caught:
        w2v_edge.load(tiny, tuned=tuned)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    for word in words:
        assert word in message, message


def test_a_tuning_is_used(tiny: Path, settings_folder: Path) -> None:
    """`tuned=True` uses the file of this bundle, provider and device; a path uses that file."""
    manifest = Bundle.open(tiny).manifest
    path = usual_path(manifest, "cpu")
    assert settings_folder in path.parents
    tuning = Tuning(threads=1, spinning="never", block_base=4, batch_seconds=3.0)
    gains = (Gain("single utterances", 1.2, 1.1, 1.3, 8),)
    found = describe(manifest, "cpu", tuning, gains, "2026-01-01T00:00:00+00:00")
    write_tuning(path, found)
    assert read_tuning(path) == found
    for tuned in (True, path, str(path)):
        model = w2v_edge.load(tiny, tuned=tuned)
        assert model.threads == 1
        execution = model.session.execution
        assert (execution.spinning, execution.block_base) == ("never", 4)
        assert model._batch_seconds == 3
    assert w2v_edge.load(tiny).threads == usable_cores()


def test_arguments_override_a_tuning(write: Write, tiny: Path) -> None:
    """Threads and options given to `load` override a tuning."""
    path = write(Tuning(threads=1, batch_seconds=0.0))
    model = w2v_edge.load(tiny, threads=3, tuned=path)
    assert model.threads == 3
    assert model._batch_seconds == 0
    own = choose(("cpu", {"a": "own", "b": "own"}), None, allow_fallback=False)
    applied = Tuning(provider_options={"a": "tuned", "c": "tuned"}).applied(own)
    assert applied.providers == (("cpu", {"a": "own", "b": "own", "c": "tuned"}),)
    assert Tuning().applied(own) == own


@pytest.mark.parametrize(
    ("model", "tuning"),
    [
        ("tiny", Tuning(spinning="never", batch_seconds=0.0)),
        ("tiny", Tuning(block_base=4, batch_seconds=12.0)),
        ("tiny", Tuning(threads=1, spinning="in_runs", block_base=4, batch_seconds=3.0)),
        ("tutorial-small", Tuning(threads=1, spinning="in_runs", batch_seconds=12.0)),
    ],
    ids=repr,
)
def test_results_are_the_same(
    model: str, tuning: Tuning, bundle: Callable[[str], Path], speech: Speech, tmp_path: Path
) -> None:
    """A tuning changes no bit of a single result, and of a list no more than batches do."""
    folder = bundle(model)
    path = tmp_path / "tuning.json"
    write_tuning(path, describe(Bundle.open(folder).manifest, "cpu", tuning, (), ""))
    usual, tuned = w2v_edge.load(folder, threads=2), w2v_edge.load(folder, tuned=path)
    clips = [clip[:24_000] for clip in speech.values()]
    one, other = usual.encode(clips[0]), tuned.encode(clips[0])
    np.testing.assert_array_equal(one.context, other.context)
    np.testing.assert_array_equal(one.features, other.features)
    for a, b in zip(usual.encode(clips), tuned.encode(clips), strict=True):
        np.testing.assert_allclose(a.context, b.context, rtol=1e-4, atol=1e-4)
    for codes, others in zip(usual.tokenize(clips), tuned.tokenize(clips), strict=True):
        np.testing.assert_array_equal(codes, others)


def test_nothing_tuned_is_an_error(tiny: Path, tmp_path: Path) -> None:
    """A missing tuning is an error with a remedy, never a silent default."""
    refused(tiny, True, "no tuning of this bundle", "'cpu'", "run: w2v-edge tune")
    refused(tiny, tmp_path / "gone.json", "gone.json: no file", "w2v-edge tune")
    refused(tiny, tmp_path, "no file")
    refused(tiny, "a\0b", "no file")
    refused(tiny, None, "tuned=None", "True, False or a file")
    with pytest.raises(TuningError, match="power='low'"):
        w2v_edge.load(tiny, tuned=tmp_path / "gone.json", power="low")


def test_a_tuning_of_something_else_is_refused(write: Write, tiny: Path) -> None:
    """A tuning of another bundle, provider, device or onnxruntime is refused."""
    for key in ["bundle", "provider", "device", "onnxruntime"]:
        refused(tiny, write(**{key: "0123"}), f"tuned for {key} '0123'", "w2v-edge tune BUNDLE")


def test_a_hostile_tuning_is_refused(write: Write, tiny: Path) -> None:
    """A tuning file can set tunable settings only, to allowed values."""
    cases: list[Any] = [
        {"threads": 0},
        {"threads": 10**6},
        {"threads": 10**400},
        {"threads": True},
        {"threads": "2"},
        {"spinning": "session.use_env_allocators"},
        {"block_base": 10**9},
        {"provider_options": {"device_id": "1"}},
        {"provider_options": {"session.custom_op_library": "x.so"}},
        {"provider_options": {"a" * 3000: "b" * 3000}},
        {"batch_seconds": -1},
        {"batch_seconds": 1e300},
        {"batch_seconds": float("nan")},
        {"batch_seconds": float("inf")},
        {"entries": {"session.set_denormal_as_zero": "1"}},
        [],
        None,
    ]
    for tuning in cases:
        refused(tiny, write(tuning=tuning), "tuning.json", "w2v-edge tune")


def test_a_damaged_file_is_refused(tiny: Path, tmp_path: Path) -> None:
    """A file that is no tuning is refused in one line."""
    cases: list[str] = [
        "",
        "{",
        "[]",
        "null",
        "[" * 20_000,
        '{"format": "other"}',
        " " * 2**17,
        "\x00",
        "{}" * 9,
    ]
    for text in cases:
        path = tmp_path / "tuning.json"
        path.write_text(text)
        refused(tiny, path, "tuning.json", "w2v-edge tune")
        path.write_bytes(b"\xff\xfe" + text.encode())
        refused(tiny, path, "tuning.json", "w2v-edge tune")


def test_a_device_needs_no_more_than_to_run(write: Write, tiny: Path) -> None:
    """A tuning is used with numpy and onnxruntime only."""
    missing = ("psutil", "click", "rich", "soundfile", "soxr", "torch", "pysubs2")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "import w2v_edge\n"
        "print(w2v_edge.load(sys.argv[1], tuned=sys.argv[2]).threads)"
    )
    path = write(Tuning(threads=1))
    command = [sys.executable, "-c", code, str(tiny), str(path)]
    assert subprocess.check_output(command, text=True).strip() == "1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(key=st.sampled_from([*Tuning.__dataclass_fields__, "other"]), value=JSON)
def test_any_value_is_checked(key: str, value: Any) -> None:
    """Any value of any setting is refused or allowed."""
    try:
        tuning = strict.from_plain(Tuning, {key: value})
        tuning.check("cuda")
    except ConfigError:
        return
    assert tuning == Tuning() or key != "other"
    assert tuning.threads is None or 1 <= tuning.threads <= usable_cores()
    assert set(tuning.provider_options) <= {
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
    }


def test_a_session_gets_what_was_tuned(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting reaches onnxruntime under its own name."""
    told: dict[str, str] = {}
    options = onnxruntime.SessionOptions

    class Options(options):  # type: ignore[misc, valid-type]
        def add_session_config_entry(self, key: str, value: str) -> None:
            told[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    execution = choose("cpu", 1, allow_fallback=False)
    for tuning, expected in (
        (Tuning(), {}),
        (Tuning(spinning="in_runs"), {"session.force_spinning_stop": "1"}),
        (Tuning(spinning="never"), {"session.intra_op.allow_spinning": "0"}),
        (Tuning(block_base=4), {"session.dynamic_block_base": "4"}),
    ):
        told.clear()
        open_session(tiny / "tokenizer.onnx", tuning.applied(execution))
        assert told == expected


def test_devices_of_one_make_are_one(tmp_path: Path) -> None:
    """Processor and GPU identify a device; frequency and load do not."""
    assert device_identity() == device_identity()

    def machine(name: str, model: str, mhz: int, gpu: str = "") -> str:
        root = tmp_path / name
        (root / "proc/driver/nvidia/gpus/0000").mkdir(parents=True)
        cores = (f"processor : {i}\nmodel name : {model}\ncpu MHz : {mhz}\n" for i in range(4))
        (root / "proc/cpuinfo").write_text("\n".join(cores))
        if gpu:
            (root / "proc/driver/nvidia/gpus/0000/information").write_text(f"Model: \t {gpu}\n")
        return device_identity(root)

    one = machine("a", "Fast 1", 2000)
    assert one == machine("b", "Fast 1", 3000)
    assert one != machine("c", "Fast 2", 2000)
    assert one != machine("d", "Fast 1", 2000, gpu="Card 1")
