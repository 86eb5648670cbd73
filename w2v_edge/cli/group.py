"""The command group: imports verbs when they are called, and turns errors into one line."""

from __future__ import annotations

import difflib
import importlib
import io
import keyword
import os
import signal
import stat
import sys
import warnings
from types import FrameType
from typing import TextIO

import click

from w2v_edge.cli.output import explain, warn

VERBS = (
    "demo",
    "init",
    "pretrain",
    "finetune",
    "import",
    "export",
    "verify",
    "inspect",
    "encode",
    "tokenize",
    "transcribe",
    "align",
    "classify",
    "compare-speakers",
    "search",
    "stream",
    "bench",
    "compare",
    "tune",
    "fit",
    "doctor",
    "devices",
    "serve",
)

TERMINATED = 143
"""Exit code after SIGTERM: 128 + 15."""

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


class VerbGroup(click.Group):
    """A group whose verbs are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the verbs in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a verb; the module of a Python keyword ends in an underscore."""
        if cmd_name not in VERBS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name.replace("-", "_")
        command: click.Command = importlib.import_module(f"w2v_edge.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb of a command line; an error names the most similar verb.

        click has suggestions of its own since 8.4, for commands that it need not import.
        """
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, VERBS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "w2v-edge --help lists all verbs."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=VerbGroup, context_settings=SETTINGS)
@click.version_option(package_name="w2v-edge")
def cli() -> None:
    """Export wav2vec 2.0-style speech models from PyTorch to ONNX and run them on a device.

    \b
    w2v-edge init --preset tiny -o ckpt.pt     make a checkpoint of random weights
    w2v-edge pretrain speech/ -o run           pre-train one: run/model.pt
    w2v-edge finetune ckpt.pt text.tsv -o run  fine-tune it to recognise speech
    w2v-edge export ckpt.pt                    write a verified bundle, ckpt-fp32/
    w2v-edge export owner/model                export one of the Hugging Face Hub
    w2v-edge encode ckpt-fp32 speech.wav       encode speech to codes
    w2v-edge tokenize ckpt-fp32 speech.wav     print the codes
    w2v-edge transcribe asr-fp32 speech.wav    transcribe speech, with a CTC head
    w2v-edge align asr-fp32 speech.wav a.txt   find when its words are spoken
    w2v-edge stream asr-fp32 -                 transcribe standard input, live
    w2v-edge bench ckpt-fp32                   measure latency on this device

    Every option has an environment variable: W2V_EDGE_ENCODE_THREADS=1 sets --threads of encode.

    \b
    Shell completion; use zsh_source or fish_source in other shells:
    eval "$(_W2V_EDGE_COMPLETE=bash_source w2v-edge)"

    Exit codes: 0 success; 1 input or environment; 2 usage; 3 parity, accuracy or speed of an
    export; 4 regression; 5 missed budget.
    """  # noqa: D301 - the escape is click's, for lines that stay as they are


def run(arguments: list[str]) -> int:
    """Run the command line on `arguments` and return its exit code. No traceback gets out."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            result = cli.main(args=arguments, prog_name="w2v-edge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("W2V_EDGE_DEBUG"):
            raise
        if isinstance(error, BrokenPipeError) and _stdout_is_pipe():
            # The reader, such as head, has all it wants. Flushing at exit would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        message, code = explain(error)
        click.echo(f"error: {message}", err=True)
        return code
    return result if isinstance(result, int) else 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Print a warning of a library in one line, as those of the command line."""
    warn(str(message))


def _stdout_is_pipe() -> bool:
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def print_any_character() -> None:
    """Escape characters that the encoding of stdout lacks, as Python does on stderr."""
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper) and stdout.errors == "strict":
        stdout.reconfigure(errors="backslashreplace")


def leave_on_sigterm() -> None:
    """Let SIGTERM and a closed terminal run the `finally` blocks, which remove partial files."""
    signal.signal(signal.SIGTERM, _terminate)
    hangup = getattr(signal, "SIGHUP", None)
    # nohup has it ignored; that stays.
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, _terminate)


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(TERMINATED)
