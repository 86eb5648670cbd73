"""Rules that hold for all verbs: exit codes, help, environment variables, JSON, completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import soundfile

import w2v_edge as package
from w2v_edge.cli.group import VERBS, cli
from w2v_edge.cli.output import progress, to_json
from w2v_edge.errors import ProviderError

Verb = Callable[..., Any]

OF_BUNDLE = (
    "verify",
    "inspect",
    "encode",
    "tokenize",
    "transcribe",
    "align",
    "classify",
    "compare-speakers",
    "stream",
    "bench",
    "tune",
    "serve",
)
IMPERATIVES = (
    "Check Choose Classify Compare Convert Encode Export Find Fine-tune List Make Measure "
    "Pre-train Print Serve Show Stream Transcribe"
).split()
WITH_AUDIO = (
    *("encode", "tokenize", "transcribe", "align", "classify", "compare-speakers"),
    "stream",
)


def _command(verb: str) -> click.Command:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return command


def _arguments(verb: str, bundle: Path, audio: Path) -> list[Path | str]:
    needed: dict[str, list[Path | str]] = {
        "align": ["--text", "a"],
        "compare-speakers": [audio],
    }
    more = needed.get(verb, [])
    return [bundle, audio, *more] if verb in WITH_AUDIO else [bundle]


@pytest.fixture
def clip(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """A short recording."""
    soundfile.write(tmp_path / "clip.wav", speech["en-activated"], 16_000)
    return tmp_path / "clip.wav"


def test_usage_errors_are_code_2(w2v_edge: Verb) -> None:
    """An unknown option, a missing argument and a value of the wrong type are usage errors."""
    for verb in VERBS:
        assert w2v_edge(verb, "--nonsense").code == 2
        command = _command(verb)
        if any(isinstance(x, click.Argument) and x.required for x in command.params):
            assert w2v_edge(verb).code == 2
        options = {name: x for x in command.params for name in x.opts if name.startswith("--")}
        values = {
            "--threads": "0",
            "--provider": "abacus",
            "--power": "most",
            "--window": "step=x",
            "--preset": "huge",
            "--seconds": "long",
            "--block-ms": "0",
            "--report": "report.txt",
            "--budget": "fast",
            "--provider-option": "fast",
            "--updates": "0",
            "--threshold": "much",
        }
        output = ("-o", "z") if "--output" in options else ()
        for option, value in values.items():
            if option in options:
                outcome = w2v_edge(verb, "x", "y", *output, option, value)
                assert (verb, option, outcome.code) == (verb, option, 2), outcome.err
                assert "Error: " in outcome.err


@pytest.mark.parametrize("verb", OF_BUNDLE)
def test_wrong_input_is_code_1(
    w2v_edge: Verb, refused: Verb, bundle: Verb, clip: Path, tmp_path: Path, verb: str
) -> None:
    """A missing bundle and a missing provider are exit code 1 and one line."""
    for folder in (tmp_path / "gone", tmp_path):
        refused(w2v_edge(verb, *_arguments(verb, folder, clip)), 1, "expected a bundle")
    if "provider" in {x.name for x in _command(verb).params}:
        given = (*_arguments(verb, bundle("tiny"), clip), "--provider", "qnn")
        refused(w2v_edge(verb, *given), 1, "qnn")


def test_a_window_is_named_seconds(w2v_edge: Verb) -> None:
    """Unknown, repeated and invalid parts of --window are usage errors."""
    cases: list[str] = ["step=0,left=1", "20", "step=1,step=2", "up=3", "left=-1"]
    for window in cases:
        for verb in WITH_AUDIO:
            assert w2v_edge(verb, "bundle", "audio", "b", "--window", window).code == 2


def test_the_old_window_still_works(
    w2v_edge: Verb, bundle: Verb, clip: Path, tmp_path: Path
) -> None:
    """Three numbers give the same as three names, and a deprecation warning."""
    base = ("encode", bundle("tiny"), clip, "--context", "--json", "--force", "-o", tmp_path / "o")
    new = w2v_edge(*base, "--window", "right=0.2,step=0.5,left=1")
    old = w2v_edge(*base, "--window", "0.5", "1", "0.2")
    assert (old.code, new.code, old.out) == (0, 0, new.out)
    assert "use --window step=0.5,left=1,right=0.2" in old.err
    assert new.err == ""


def test_help(w2v_edge: Verb) -> None:
    """Help begins with an imperative sentence; each option has help and shows its default."""
    for verb in VERBS:
        command = _command(verb)
        shown = " ".join(w2v_edge(verb, "--help").out.split())
        first = str(command.help).split(maxsplit=1)[0]
        assert first in IMPERATIVES
        assert "--json" in shown
        assert "\\b" not in shown
        for option in command.params:
            if not isinstance(option, click.Option) or option.hidden:
                continue
            assert option.help, option.name
            assert "[default: " not in option.help
            if isinstance(option.default, str | int | float) and not option.is_flag:
                assert f"[default: {option.default}" in shown


def test_every_verb_has_a_whole_summary(w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns the list of verbs has one line for each, and cuts none."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = w2v_edge("--help").out.split("Commands:")[1].strip().splitlines()
    assert [line.split()[0] for line in shown] == list(VERBS)
    assert not [line for line in shown if line.endswith("...")]
    assert all(len(_command(verb).short_help or "") in range(1, 51) for verb in VERBS)


@pytest.mark.parametrize("columns", ["80", None], ids=["terminal", "pipe"])
@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_fits_80_columns(
    verb: str | None, columns: str | None, w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of any help is longer, on a terminal and in a file."""
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    shown = w2v_edge(*filter(None, [verb]), "--help").out
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_a_mistyped_verb_is_corrected(w2v_edge: Verb) -> None:
    """A usage error names the verb that was meant, if one is similar."""
    for typed, meant in (("tokenise", "tokenize"), ("benhc", "bench"), ("exprot", "export")):
        outcome = w2v_edge(typed, "bundle")
        assert outcome.code == 2
        assert f"Did you mean {meant!r}?" in outcome.err
    outcome = w2v_edge("xyzzy")
    assert outcome.code == 2
    assert "Did you mean" not in outcome.err


def test_an_environment_variable_sets_an_option(
    w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """W2V_EDGE_VERB_OPTION is used unless the option is given."""
    monkeypatch.setenv("W2V_EDGE_INIT_PRESET", "tiny")
    monkeypatch.setenv("W2V_EDGE_INIT_SEED", "3")
    monkeypatch.setenv("W2V_EDGE_INIT_JSON", "1")
    assert w2v_edge("init", "-o", tmp_path / "a.pt").json["seed"] == 3
    assert w2v_edge("init", "-o", tmp_path / "b.pt", "--seed", "4").json["seed"] == 4


def test_shell_completion(
    w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The script that --help names is printed, and completes verbs."""
    assert "_W2V_EDGE_COMPLETE=bash_source w2v-edge" in w2v_edge("--help").out
    monkeypatch.setenv("_W2V_EDGE_COMPLETE", "zsh_source")
    with pytest.raises(SystemExit, match="0"):
        w2v_edge()
    assert "#compdef w2v-edge" in capfd.readouterr().out
    monkeypatch.setenv("_W2V_EDGE_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "w2v-edge transc")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit, match="0"):
        w2v_edge()
    assert "transcribe" in capfd.readouterr().out


def test_json_is_always_valid(
    w2v_edge: Verb, bundle: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Infinity and NaN, which JSON does not have, become null."""
    result = {"a": [float("inf"), 1.5], "b": {"c": float("nan")}, "d": [["x\n"], [], {}], 3: True}
    expected = {"a": [None, 1.5], "b": {"c": None}, "d": [["x\n"], [], {}], "3": True}
    for indent in (None, 2):
        assert json.loads(to_json(result, indent=indent)) == expected
    from dataclasses import replace

    from w2v_edge.bundle import golden

    rows, tally = golden.check_golden(package.load(bundle("tiny")))
    worst = [replace(rows[0], worst=float("inf"), problem="shape")]
    monkeypatch.setattr(golden, "check_golden", lambda _: (worst, tally))
    outcome = w2v_edge("verify", bundle("tiny"), "--json")
    assert outcome.code == 3
    assert "Infinity" not in outcome.out
    assert outcome.json["comparisons"][0]["worst"] is None


def test_an_error_of_all_files_is_said_once(
    w2v_edge: Verb, refused: Verb, bundle: Verb, clip: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A provider error ends the work at once; out of memory fails a single file."""
    files = [clip] * 3
    calls = []

    def fail(error: Exception) -> Callable[..., Any]:
        def tokenize(*_: Any, **__: Any) -> None:
            calls.append(error)
            raise error

        return tokenize

    arguments = ("encode", bundle("tiny"), *files, "-o", tmp_path / "out")
    monkeypatch.setattr(package.Model, "tokenize", fail(ProviderError("cuda did not start")))
    refused(w2v_edge(*arguments), 1, "cuda did not start")
    assert len(calls) == 1
    monkeypatch.setattr(package.Model, "tokenize", fail(OSError(28, "No space left on device")))
    refused(w2v_edge(*arguments), 1, "No space left")
    monkeypatch.setattr(package.Model, "tokenize", fail(MemoryError()))
    outcome = w2v_edge(*arguments)
    assert outcome.code == 1
    assert outcome.err.count(f"failed: {clip}: out of memory") == 3


@pytest.mark.parametrize("as_json", [False, True])
def test_results_are_printed_as_they_are_done(
    w2v_edge: Verb, bundle: Verb, clip: Path, tmp_path: Path, as_json: bool,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Results are printed as files are finished, and Ctrl-C loses none of them."""
    tokenize = package.Model.tokenize
    printed: list[str] = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if printed:
            printed.append(capfd.readouterr().out)
            raise KeyboardInterrupt
        printed.append("")
        return tokenize(*arguments, **options)

    monkeypatch.setattr(package.Model, "tokenize", interrupted)
    arguments = ("encode", bundle("tiny"), clip, clip, "-o", tmp_path / "out")
    outcome = w2v_edge(*arguments, *["--json"] * as_json)
    assert outcome.code == 130
    assert str(clip) in printed[1]
    if as_json:
        (result,) = json.loads(printed[1] + outcome.out)
        assert result["frames"] > 0


def test_a_reader_that_goes_away(bundle: Verb, clip: Path, tmp_path: Path) -> None:
    """A closed stdout, as with `| head -0`, is exit code 1 without output on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "w2v_edge", "encode", str(bundle("tiny")), str(clip)]
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "out")], stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        _, said = process.communicate()
    assert (process.returncode, said) == (1, b"")


def test_characters_that_stdout_lacks(bundle: Verb, clip: Path, tmp_path: Path) -> None:
    """They are escaped: text of any script can be printed to any terminal or file."""
    named = Path(shutil.copy(clip, tmp_path / "\u6587.wav"))
    found = subprocess.run(
        [sys.executable, "-m", "w2v_edge", "tokenize", str(bundle("tiny")), str(named), str(clip)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"\\u6587.wav: " in found.stdout


def test_long_work_prints_a_line_per_stage(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stderr is not a terminal, each stage is named once, with the seconds so far."""
    with progress("export") as show:
        show("loading", 0.0)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("w2v_edge.cli.output.QUIET_SECONDS", 0.0)
    with progress("export") as show:
        for stage in ("tracing: encoder", "tracing: tokenizer", "comparing: a", "tracing: b"):
            show(stage, 0.5)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["export: tracing", "export: comparing"]
    assert all(line.endswith(" s)") for line in lines)
