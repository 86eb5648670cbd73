"""The fuzzing corpus, and mutations of it, in every run of the tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent


def _targets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_targets", HERE / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TARGETS = _targets().TARGETS
CORPUS = {
    name: {path.name: path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())}
    for name in TARGETS
}


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    """Each file of the corpus gives a result or a typed error."""
    for content in CORPUS[name].values():
        TARGETS[name](content)


def test_seeds_are_valid(tmp_path: Path) -> None:
    """The seeds are valid files, so that mutations reach every part of a reader."""
    from w2v_edge.audio import read_audio

    for file in CORPUS["audio"]:
        if "pcm" in file or "float" in file:
            assert len(read_audio(HERE / "corpus" / "audio" / file, 16_000)) > 0
    targets = sys.modules["fuzz_targets"]
    path = tmp_path / "manifest.json"
    path.write_bytes(targets._sealed(CORPUS["manifest"]["bundle"]))
    assert targets.read_manifest(tmp_path).labels
    targets.check_graph(CORPUS["graph"]["external"], targets.GRAPH, targets.DATA_SIZES)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100)
@given(data=st.data())
def test_mutations(name: str, data: st.DataObject) -> None:
    """Each file with bytes changed, removed or repeated gives a result or a typed error."""
    content = bytearray(CORPUS[name][data.draw(st.sampled_from(sorted(CORPUS[name])))])
    for _ in range(data.draw(st.integers(1, 4))):
        if not content:
            break
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from((0, 1, 2, 4, 8, 64)))
        put = data.draw(
            st.binary(max_size=8)
            | st.sampled_from((b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff"))
            | st.just(bytes(content[at : at + 64]) * 2)
        )
        content[at : at + length] = put
    TARGETS[name](bytes(content))


@pytest.mark.parametrize("name", TARGETS)
@given(content=st.binary(max_size=200))
@example(content=b"")
def test_any_bytes(name: str, content: bytes) -> None:
    """Any bytes give a result or a typed error."""
    TARGETS[name](content)


NUMBERS = (0, -1, 2**31, 2**63, 10**400, 0.5, 1e308, float("inf"), float("nan"))
OTHERS: tuple[Any, ...] = (
    None,
    True,
    "",
    "\x1b[2J\n",
    "../../etc/passwd",
    "\ud800",
    "a" * 10_000,
    [],
    {},
    {"": [0]},
)
JSON_VALUES = st.sampled_from([*NUMBERS, *OTHERS]).map(deepcopy)


@settings(max_examples=200)
@given(data=st.data())
def test_any_value_of_a_manifest(data: st.DataObject) -> None:
    """A manifest with any values replaced is refused or can be used."""
    content = json.loads(CORPUS["manifest"]["bundle"])
    for _ in range(data.draw(st.integers(1, 3))):
        at = content
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(at[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
                at[key] = data.draw(JSON_VALUES)
                break
            at = at[key]
    TARGETS["manifest"](json.dumps(content).encode())


TENSOR_WORDS = ("features", "context", "logits", "layer_1", "lengths", "context_lengths", "other")
AXES = ("batch", "frames", "context_frames", "samples", "other", "", 7, True)


@settings(max_examples=200)
@given(data=st.data())
def test_any_tensors_of_a_manifest(data: st.DataObject) -> None:
    """A manifest whose tensors have other names, types and axes is refused or can be used."""
    content = json.loads(CORPUS["manifest"]["bundle"])
    for _ in range(data.draw(st.integers(1, 3))):
        info = content["graphs"][data.draw(st.sampled_from(sorted(content["graphs"])))]
        tensor = data.draw(st.sampled_from(info["inputs"] + info["outputs"]))
        field = data.draw(st.sampled_from(("name", "type", "axes")))
        if field == "axes":
            at = data.draw(st.integers(0, len(tensor["axes"])))
            tensor["axes"][at : at + data.draw(st.integers(0, 1))] = data.draw(
                st.lists(st.sampled_from(AXES), max_size=1)
            )
        else:
            words = TENSOR_WORDS if field == "name" else ("float", "int64", "double")
            tensor[field] = data.draw(st.sampled_from(words))
    TARGETS["manifest"](json.dumps(content).encode())
