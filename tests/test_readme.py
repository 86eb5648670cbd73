"""README snippets run, commands exist, and figures are those of the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import w2v_edge
from w2v_edge import data

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def _block(word: str) -> str:
    """The one snippet that has this word."""
    (found,) = (block for block in BLOCKS if word in block)
    return str(found)


@pytest.fixture
def at_demo(bundle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where `make demo` has been run."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/tiny-fp32").symlink_to(bundle("tiny"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_python_is_four_lines_and_runs(at_demo: Path, speech: dict[str, Any]) -> None:
    """Four lines turn a waveform into context and codes."""
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 4
    scope: dict[str, Any] = {"waveform": speech["en-activated"]}
    exec(BLOCKS[0], scope)  # noqa: S102 - our own README
    np.testing.assert_array_equal(scope["codes"], scope["encoding"].codes)
    assert at_demo.exists()


def test_many_long_and_live_runs(at_demo: Path, speech: dict[str, Any]) -> None:
    """A list, a file in blocks, and a stream at another rate."""
    clip = speech["en-demo-abouttotry"]
    soundfile.write(at_demo / "talk.mp3", clip, 16_000)
    scope: dict[str, Any] = {
        "model": w2v_edge.load("demo/tiny-fp32"),
        **dict.fromkeys(("one", "two", "three"), clip),
        "microphone": np.split(np.repeat(clip, 3), [100, 70_000]),
    }
    exec(_block("microphone"), scope)  # noqa: S102 - our own README
    assert len(scope["encodings"]) == 3
    assert len(scope["codes"]) == pytest.approx(len(clip) / 320, abs=4)
    assert len(scope["piece"].context) > 0


def test_the_callback_runs(speech: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of each block are the last ones of what is held, which ends with the newest sample."""
    tiny, load = w2v_edge.load(data.TINY_INT8), w2v_edge.load
    monkeypatch.setattr(w2v_edge, "load", lambda folder: tiny if "vec" in folder else load(folder))
    block = _block("def callback").replace("projected", "context")
    scope: dict[str, Any] = {"w2v_edge": w2v_edge}
    exec(block, scope)  # noqa: S102 - our own README
    speech_blocks = speech["en-activated"][: 3 * scope["NEW"]].reshape(3, -1)
    found = [scope["callback"](x) for x in speech_blocks]
    assert {x.shape for x in found} == {(16, tiny.manifest.context_dim)}
    held = np.concatenate([np.zeros(len(scope["held"]), np.float32), *speech_blocks])
    geometry = tiny.manifest.geometry
    held = held[-len(scope["held"]) :]
    assert (len(held) - geometry.receptive_field) % geometry.hop == 0
    np.testing.assert_array_equal(found[-1], tiny.encode(held).context[-16:])


def test_the_training_snippet_runs(speech: dict[str, Any]) -> None:
    """A fresh model gives a loss with gradients."""
    import torch

    clip = torch.from_numpy(speech["en-conf-getpin"])
    scope: dict[str, Any] = {
        "waveforms": clip[None],
        "lengths": torch.tensor([len(clip)]),
    }
    exec(_block("backward"), scope)  # noqa: S102 - our own README
    assert all(p.grad is not None for p in scope["model"].parameters())


def test_the_plain_onnxruntime_snippet_runs(at_demo: Path, speech: dict[str, Any]) -> None:
    """Graphs run with onnxruntime alone."""
    import onnxruntime

    clip = speech["en-activated"]
    scope: dict[str, Any] = {
        "onnxruntime": onnxruntime,
        "padded_batch": np.stack([clip, clip]),
        "lengths": np.array([len(clip), 8000]),
    }
    exec(_block("InferenceSession"), scope)  # noqa: S102 - our own README
    assert scope["frame_lengths"].tolist() == [52, 24]
    assert at_demo.exists()


def test_every_command_exists() -> None:
    """Each `w2v-edge VERB` in the README is a verb, and each verb is in the README."""
    from w2v_edge.cli.group import VERBS

    assert set(re.findall(r"(?:^|`)w2v-edge ([a-z]+)", README, re.MULTILINE)) <= set(VERBS)
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert f"\n{target}:" in (Path(__file__).parents[1] / "Makefile").read_text("utf-8")


def test_the_longest_context_is_the_exporters() -> None:
    """The limit stated for `base` is the exporter's."""
    from w2v_edge.model import preset
    from w2v_edge_export.bundle_writer import longest_context
    from w2v_edge_export.targets import load_target

    (seconds,) = re.findall(r"\((\d+) s for `base` on `cpu`\)", README)
    assert int(seconds) == longest_context(preset("base"), load_target("cpu"))
