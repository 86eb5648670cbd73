"""doctor: versions, providers and limits of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from w2v_edge.extras import install_command
from w2v_edge.providers import default_threads
from w2v_edge.providers.instructions import instructions

Verb = Any

CPU = "CPUExecutionProvider"


def test_doctor_shows_what_runs_where(w2v_edge: Verb, bundle: Callable[[str], Path]) -> None:
    """With a bundle, doctor gives each graph's shares by provider and its dearest operators."""
    report = w2v_edge("doctor", "--bundle", bundle("tiny"), "--json").json
    assert set(report["placement"]) >= {"encoder", "tokenizer", "quantizer"}
    assert report["refused"] == {}
    for placement in report["placement"].values():
        assert placement["nodes"][CPU] > 0
        assert placement["time"] == {CPU: 1.0}
        shares = [share for _, _, share in placement["heaviest"]]
        assert shares == sorted(shares, reverse=True)
        assert abs(sum(shares) - 1) < 1e-6
    names = [name for name, _, _ in report["placement"]["encoder"]["heaviest"]]
    assert "MatMul" in names
    assert all(x["runs"] >= 5 for x in report["placement"].values())
    outcome = w2v_edge("doctor", "--bundle", bundle("tiny"))
    assert outcome.code == 0
    assert "encoder: CPUExecutionProvider 100.0% of" in outcome.out


def test_doctor_knows_threads_and_instructions(
    w2v_edge: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the default threads, and what products use the instructions for."""
    monkeypatch.setattr(
        "w2v_edge.cli.doctor.instructions", lambda: instructions(tmp_path), raising=True
    )
    (tmp_path / "proc").mkdir()
    text = "processor : 0\nFeatures : fp asimd asimddp i8mm bf16\n"
    (tmp_path / "proc/cpuinfo").write_text(text)
    report = w2v_edge("doctor", "--json").json
    assert list(report["instructions"]) == ["asimddp", "i8mm", "bf16"]
    assert report["threads"]["default"] == default_threads() <= report["threads"]["usable"]
    out = " ".join(w2v_edge("doctor").out.split())
    assert "instructions: bf16: unused" in out
    assert "mlas.enable_gemm_fastmath_arm64_bfloat16" in out


def test_the_first_line_is_the_verdict(w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that bundles run here; or that they do not, with the command that comes first."""
    for extras, word in (
        ({"cpu": ("onnxruntime",)}, "ready: bundles run here, and every extra"),
        ({"lm": ("no_such_module",)}, "ready: bundles run here; extras that are not installed (1)"),
        ({"cpu": ("no_such_module",)}, f"first: {install_command('cpu')}"),
    ):
        monkeypatch.setattr("w2v_edge.cli.doctor.EXTRAS", extras)
        first = w2v_edge("doctor").out.splitlines()[0]
        assert word in first
        assert first.startswith("not ready: ") == ("first: " in word)
        assert w2v_edge("doctor", "--json").json["verdict"] == first


def test_words_are_whole_at_80_columns(w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 80 columns every word of the wide output is on one line."""
    wide = w2v_edge("doctor").out
    monkeypatch.setenv("COLUMNS", "80")
    narrow = w2v_edge("doctor").out
    assert max(map(len, narrow.splitlines())) <= 80
    words = [x for x in wide.split() if len(x) < 80 and "─" not in x]
    assert [x for x in narrow.split() if "─" not in x] == words


def test_doctor_knows_limits_of_memory(w2v_edge: Verb) -> None:
    """The report has the memory and its control group's limit."""
    memory = w2v_edge("doctor", "--json").json["memory"]
    assert memory["bytes"] > 2**26
    assert memory["cgroup limit"] is None or memory["cgroup limit"] > 0


def test_doctor_of_a_bundle_that_is_not_there(
    w2v_edge: Verb, refused: Verb, tmp_path: Path
) -> None:
    """A missing bundle is one line and exit code 1."""
    refused(w2v_edge("doctor", "--bundle", tmp_path / "gone"), 1, "expected a bundle")


@pytest.mark.parametrize("verb", ["doctor", "verify"])
def test_a_provider_that_is_not_there(
    verb: str,
    w2v_edge: Verb,
    refused: Verb,
    bundle: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A provider that is not installed is one error line, with onnxruntime's own log silenced."""
    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the provider")
    severities: list[int] = []
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", severities.append)
    which = ["--bundle", bundle("tiny")] if verb == "doctor" else [bundle("tiny")]
    outcome = w2v_edge(verb, *which, "--provider", "tensorrt", "--provider-option", "device_id=1")
    refused(outcome, 1, "'tensorrt' is not in the installed onnxruntime", install_command("gpu"))
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert set(severities) == {4}


def test_options_of_a_provider(w2v_edge: Verb, bundle: Callable[[str], Path]) -> None:
    """--provider-option may be repeated, before or after --provider; one without = is usage."""
    folder = bundle("tiny")
    one, two = ("--provider-option", "a=1"), ("--provider-option", "b=x=y")
    assert w2v_edge("verify", folder, *one, "--provider", "cpu", *two).code == 0
    outcome = w2v_edge("verify", folder, "--provider-option", "fast")
    assert outcome.code == 2
    assert "KEY=VALUE" in outcome.err


def test_low_power(w2v_edge: Verb, bundle: Callable[[str], Path], tmp_path: Path) -> None:
    """--power low gives the codes that --threads 1 gives."""
    import numpy as np

    from w2v_edge import data

    audio = tmp_path / "speech.flac"
    source = next(Path(str(data.__file__)).parent.glob("*.flac"))
    audio.write_bytes(source.read_bytes())
    made = {}
    for name, option in {"low": ("--power", "low"), "one": ("--threads", "1")}.items():
        outcome = w2v_edge("encode", bundle("tiny"), audio, "-o", tmp_path / name, *option)
        assert outcome.code == 0, outcome.err
        with np.load(tmp_path / name / "speech.npz") as arrays:
            made[name] = arrays["codes"]
    assert np.array_equal(made["low"], made["one"])
