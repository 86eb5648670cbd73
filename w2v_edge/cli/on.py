"""`--on`: run a verb on another device; inputs are copied there, and outputs are pulled back."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from w2v_edge.cli.options import ARGUMENTS, Verb
from w2v_edge.cli.output import QUIET_SECONDS
from w2v_edge.errors import InputError, OutputExistsError

if TYPE_CHECKING:
    from w2v_edge.remote.connection import Connection
    from w2v_edge.remote.run import Means, RemoteCall
    from w2v_edge.remote.transfer import Tree

COPY_SECONDS = 5.0
"""Time between two lines on one copy."""

PATIENCE_SECONDS = 40.0
"""Time that devices have to clean up after Ctrl-C."""

ON = ("on", "ssh", "use", "keep")
"""Parameters that are not for the device."""

WHEEL_EXTRAS = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu", "onnxruntime-openvino": "openvino"}

Handler = Callable[["OnDevices"], None]
InputReader = Callable[[str], "Tree | None"]
"""Reads the files that a value names; None if it names none."""


def bundle_tree(text: str) -> Tree:
    """Return the files of a bundle.

    Raises:
        BundleError: it is none.
    """
    from w2v_edge.bundle import MANIFEST, Bundle
    from w2v_edge.remote.transfer import Tree

    path = Path(text)
    names = (MANIFEST, *Bundle.open(path).manifest.files)
    # Reports name a bundle after its own folder, not after a link to it.
    return Tree.of(path.resolve(), {name: path / name for name in names})


def audio_tree(text: str) -> Tree:
    """Return an audio file, or all audio files of a folder.

    Raises:
        InputError: there is no audio.
    """
    from w2v_edge.audio import find_audio
    from w2v_edge.remote.transfer import Tree

    path = Path(text)
    if not path.is_dir():
        return file_tree(text)
    found = {inner.as_posix(): file for file, inner in find_audio([path])}
    if not found:
        raise InputError(f"no audio found in {path}")
    return Tree.of(path, found)


def file_tree(text: str) -> Tree:
    """Return one file.

    Raises:
        InputError: it does not exist.
    """
    from w2v_edge.remote.transfer import Tree

    path = Path(text)
    if not path.is_file():
        raise InputError(f"{path}: no file; files are copied from here to the device")
    return Tree.of(path)


def file_unless(word: str) -> InputReader:
    """Return a reader of one file, or of a word that names none."""
    return lambda text: None if text == word else file_tree(text)


class RemoteVerb(Verb):
    """A verb with `--on`.

    Args:
        inputs: how to read the arguments and options that name files to copy, by parameter.
        outputs: parameters that name a file or folder to write.
        local: parameters that are not for the device.
        refused: options that do not work with `--on`.
        extras: extra of this package that an option needs, by parameter.
        on: runs the verb on the devices; None to print what it prints there.
    """

    def __init__(
        self,
        *arguments: Any,
        inputs: Mapping[str, InputReader],
        outputs: Sequence[str] = (),
        local: Sequence[str] = (),
        refused: Sequence[str] = (),
        extras: Mapping[str, str] | None = None,
        on: Handler | None = None,
        **attributes: Any,
    ) -> None:
        attributes["params"] = [*attributes.get("params", ()), *_options()]
        super().__init__(*arguments, **attributes)
        self._inputs, self._outputs, self._local = inputs, outputs, local
        self._refused, self._extras = refused, extras or {}
        self._on = on or OnDevices.print_output

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb here, or on the devices of `--on`."""
        given = {name: ctx.params.pop(name) for name in ON}
        if not given["on"]:
            idle = [name for name in ("use", "keep") if given[name]]
            if idle:
                raise click.UsageError(f"--{idle[0]} has no effect without --on.")
            return super().invoke(ctx)
        return self._on(OnDevices(ctx, given, self._call(ctx)))

    def _call(self, ctx: click.Context) -> RemoteCall:
        """Return the verb with all given options, and paths as they are named on the device."""
        from w2v_edge.remote.run import RemoteCall

        assert self.name is not None
        inputs: dict[str, Tree] = {}
        outputs: dict[str, Path] = {}
        options, arguments = [], []
        extras = {_runtime(ctx.params.get("provider", ())), "cli"}
        given = list(self._given(ctx))
        for parameter, words in given:
            if parameter.name in self._refused and words:
                raise click.UsageError(f"{parameter.opts[0]} cannot be combined with --on.")
        for parameter, words in given:
            name = max(parameter.opts, key=len)
            extras |= {self._extras[x] for x in (parameter.name or "",) if x in self._extras}
            for word in words:
                text, tree = word, None
                if parameter.name in self._inputs:
                    tree = self._inputs[parameter.name](word)
                if tree is not None:
                    text = _unique(tree.name, [*inputs, *outputs])
                    inputs[text] = tree
                elif parameter.name in self._outputs:
                    text = _unique(Path(word).name, [*inputs, *outputs])
                    outputs[text] = Path(word)
                if isinstance(parameter, click.Argument):
                    arguments.append(text)
                else:
                    flag = isinstance(parameter, click.Option) and parameter.is_flag
                    options.append(name if flag else f"{name}={text}")
        return RemoteCall([self.name, *options, "--", *arguments], inputs, outputs, sorted(extras))

    def _given(self, ctx: click.Context) -> Iterator[tuple[click.Parameter, Sequence[str]]]:
        """Yield parameters with their values as the user wrote them, or set them in variables.

        Outputs are also given if they have their default: the device must not choose another one.
        """
        parsed, _, _ = self.make_parser(ctx).parse_args(list(ctx.meta[ARGUMENTS]))
        written = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}
        for parameter in self.params:
            name = parameter.name or ""
            value, source = parameter.consume_value(ctx, parsed)
            if name in {*ON, *self._local} or not (source in written or name in self._outputs):
                continue
            if isinstance(parameter, click.Option) and parameter.is_flag:
                yield parameter, ["1"] * bool(ctx.params[name])
            elif isinstance(value, str):
                yield parameter, [value]
            elif isinstance(value, tuple | list):
                yield parameter, [str(x) for x in value]


def remote_verb(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a verb with `--on`; see `RemoteVerb`."""
    return click.command(name, cls=RemoteVerb, **attributes)


class OnDevices:
    """A verb with the devices to run it on.

    Attributes:
        ctx: context of the verb, with its other parameters.
        call: what to run on the devices.
    """

    def __init__(self, ctx: click.Context, given: Mapping[str, Any], call: RemoteCall) -> None:
        from w2v_edge.remote.address import Address
        from w2v_edge.remote.run import Means

        self.ctx, self.call = ctx, call
        try:
            self.addresses = [Address.parse(text) for text in given["on"]]
        except InputError as error:
            raise click.BadParameter(str(error), param_hint="'--on'") from error
        if len(set(self.names)) < len(self.names):
            raise click.UsageError("found one device twice in --on; name each once.")
        self.means: Means = Means(given["ssh"], given["use"], given["keep"])

    @property
    def names(self) -> list[str]:
        """Names of the devices, as they were given."""
        return [address.name for address in self.addresses]

    def command(self, name: str) -> str:
        """Return the command line of a device, for its report."""
        words = ["w2v-edge", self.ctx.info_name or "", *self.ctx.meta[ARGUMENTS]]
        return shlex.join(words) + (f"  # {name}" if len(self.names) > 1 else "")

    def print_output(self) -> None:
        """Run on one device, print what the verb prints there, and pull its outputs."""
        if len(self.addresses) > 1:
            raise click.UsageError(f"--on applies once to {self.ctx.info_name}.")
        for path in self.call.outputs.values():
            if not self.ctx.params.get("force") and (
                path.is_file() or (path.is_dir() and any(path.iterdir()))
            ):
                raise OutputExistsError(
                    f"{path} already exists; choose another output or add --force"
                )
        for error in self.run([self.call]).values():
            raise error

    def run(self, calls: Sequence[RemoteCall], *, quiet: bool = False) -> dict[str, Exception]:
        """Run a call on each device, at the same time.

        Args:
            calls: one for each of the addresses.
            quiet: do not print what the verb prints on stdout.

        Returns:
            The errors of runs that failed, by the name of the device.
        """
        from w2v_edge.remote.run import run_on

        stop = threading.Event()
        opened: list[Connection] = []
        verb = self.ctx.info_name or ""
        with ThreadPoolExecutor(len(calls)) as pool:
            jobs = [
                pool.submit(
                    run_on,
                    address,
                    call,
                    self.means,
                    _Printer(verb, address.name, several=len(calls) > 1, quiet=quiet),
                    stop,
                    opened.append,
                )
                for address, call in zip(self.addresses, calls, strict=True)
            ]
            try:
                _await(jobs)
            except BaseException:
                stop.set()
                try:
                    wait_for(jobs, PATIENCE_SECONDS)
                finally:
                    for connection in opened:
                        connection.kill()
                raise
        ended = zip(self.names, (job.exception() for job in jobs), strict=True)
        return {name: error for name, error in ended if isinstance(error, Exception)}


def _await(jobs: Sequence[Future[None]]) -> None:
    """Wait for jobs in short steps: on some systems a signal does not end a long wait."""
    while wait_for(jobs, 0.5).not_done:
        pass


class _Printer:
    """Prints progress and the verb's stderr on stderr, and its stdout on stdout."""

    def __init__(self, verb: str, name: str, *, several: bool, quiet: bool) -> None:
        self._verb, self._name = verb, name
        self._several, self._quiet = several, quiet
        self._begun = self._printed = time.monotonic()

    def stage(self, text: str) -> None:
        """Print a line on a new stage, unless the run has just begun and may fail at once."""
        elapsed = time.monotonic() - self._begun
        if elapsed > QUIET_SECONDS:
            click.echo(f"{self._verb}: {self._name}: {text} ({elapsed:.1f} s)", err=True)

    def copied(self, name: str, there: int, size: int) -> None:
        """Print how much of a tree is there, now and then."""
        now = time.monotonic()
        if now - self._printed > COPY_SECONDS or there == size:
            self._printed = now
            self.stage(f"{name}: {there / 1e6:.1f} of {size / 1e6:.1f} MB are there")

    def output(self, stream: str, content: bytes) -> None:
        """Print what the verb printed."""
        if stream == "err":
            text = content.decode(errors="replace")
            click.echo(f"{self._name}: {text}" if self._several else text, err=True, nl=False)
        elif not self._quiet:
            click.echo(content, nl=False)


def _runtime(provider: Any) -> str:
    """Return the extra that installs onnxruntime with the providers of a verb.

    Raises:
        InputError: no single wheel has them.
    """
    from w2v_edge.providers.table import TABLE

    # One provider, or one with its options, or several.
    given = (provider,) if isinstance(provider, str) else tuple(provider)
    names = [name for name in given if isinstance(name, str)]
    wheels = {TABLE[name].wheel for name in names if name != "cpu"} or {"onnxruntime"}
    if len(wheels) > 1 or not wheels & set(WHEEL_EXTRAS):
        raise InputError(
            f"no private environment has the provider {' and '.join(names)}; install it on the "
            "device, and name that Python with --use PYTHON"
        )
    return WHEEL_EXTRAS[wheels.pop()]


def _unique(name: str, taken: Sequence[str]) -> str:
    """Return a path that ends in `name` and is not taken."""
    number, path = 1, name
    while path in taken:
        number += 1
        path = f"{number}/{name}"
    return path


def _options() -> list[click.Parameter]:
    """Return the options of all verbs that run on devices."""
    return [
        click.Option(
            ["--on"],
            multiple=True,
            metavar="HOST",
            help="Run on this device: HOST, user@host, ssh://user@host:port[/FOLDER], "
            "adb[:SERIAL], docker:IMAGE[,cpus=N,memory=SIZE], podman:IMAGE, local.",
        ),
        click.Option(
            ["--ssh"],
            metavar="COMMAND",
            default=lambda: os.environ.get("W2V_EDGE_SSH") or "ssh",
            show_default="ssh, or W2V_EDGE_SSH",
            help="With --on: command of ssh, with options such as -i KEY.",
        ),
        click.Option(
            ["--use"],
            metavar="PYTHON",
            show_default="a private environment, removed after the run",
            help="With --on: a Python of the device that has the packages, such as python3.",
        ),
        click.Option(
            ["--keep"],
            is_flag=True,
            help="With --on: keep copied files and the environment there, for the next run.",
        ),
    ]
