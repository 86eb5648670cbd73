"""The command group: verbs are imported when called, and errors become one line."""

from __future__ import annotations

import importlib
import keyword
import os
import signal
import sys
from types import FrameType

import click

from w2v_edge.errors import W2VEdgeError

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
    "transcribe",
    "classify",
    "stream",
    "bench",
    "compare",
    "tune",
    "doctor",
)

INTERRUPTED = 130
TERMINATED = 143


class VerbGroup(click.Group):
    """Finds each verb in the file of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the verbs in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(_module(cmd_name)).command
        return command


def _module(verb: str) -> str:
    """Return the module of a verb; one that Python keeps for itself has an underscore."""
    return f"w2v_edge.cli.{verb}{'_' * keyword.iskeyword(verb)}"


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="w2v-edge")
def cli() -> None:
    """Take a wav2vec 2.0-style speech model from PyTorch to a device.

    \b
    w2v-edge init --preset tiny -o ckpt.pt     make a checkpoint
    w2v-edge pretrain speech/ -o run           or train one: run/model.pt
    w2v-edge finetune ckpt.pt text.tsv -o run  teach one to write what is said
    w2v-edge export ckpt.pt                    make a verified bundle beside it
    w2v-edge export owner/model                likewise, here, of one on the Hugging Face Hub
    w2v-edge encode ckpt-fp32 speech.wav       turn speech into codes
    w2v-edge transcribe asr-fp32 speech.wav    turn speech into text, with a CTC head
    w2v-edge stream asr-fp32 -                 the same live, of raw PCM on standard input

    w2v-edge bench ckpt-fp32                   measure it on this device

    Exit codes: 0 ok; 1 the input or the environment; 2 usage; 3 a bundle that differs from PyTorch;
    4 a regression; 5 a missed budget.
    """  # noqa: D301 - the escape is click's, for lines that stay as they are


def run(arguments: list[str]) -> int:
    """Run the command line on `arguments` and return its exit code. No traceback gets out."""
    try:
        result = cli.main(args=arguments, prog_name="w2v-edge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("W2V_EDGE_DEBUG"):
            raise
        return _fail(*_explain(error))
    return result if isinstance(result, int) else 0


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the one line and the exit code for an error."""
    if isinstance(error, W2VEdgeError):
        return str(error), error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted; nothing half-written was left", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 1
    if isinstance(error, MemoryError):
        return "out of memory; use shorter audio or a smaller model", 1
    what = f"{type(error).__name__}: {error}"
    return f"internal error, please report it: {what:.200} (W2V_EDGE_DEBUG=1 shows more)", 1


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def leave_on_sigterm() -> None:
    """Let SIGTERM, and a terminal that is closed, run the `finally` blocks.

    They remove what is half-written.
    """
    signal.signal(signal.SIGTERM, _terminate)
    hangup = getattr(signal, "SIGHUP", None)
    # nohup has it ignored; that stays.
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, _terminate)


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(TERMINATED)
