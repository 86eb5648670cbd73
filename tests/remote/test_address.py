"""Addresses of devices, and the commands that reach them."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from w2v_edge.remote.address import Address


@pytest.mark.parametrize(
    ("text", "begins", "folder"),
    [
        ("pi", "ssh -v pi", None),
        ("ada@pi.lan", "ssh -v ada@pi.lan", None),
        ("ssh://ada@pi:2222/mnt/sd", "ssh -v -p 2222 ada@pi", "/mnt/sd"),
        ("ssh://pi", "ssh -v pi", None),
        ("adb", "adb shell", None),
        ("adb:R58M", "adb -s R58M shell", None),
        (
            "docker:py:3,cpus=2,memory=512m",
            "docker run --rm -i --network none --cpus=2 --memory=512m --entrypoint sh py:3 -c",
            None,
        ),
        ("podman:image", "podman run --rm -i --network none --entrypoint sh image -c", None),
    ],
)
def test_commands(text: str, begins: str, folder: str | None) -> None:
    """Each kind of address has a command; a folder is that of the address, or fits the system."""
    address = Address.parse(text)
    words = address.command("true", "ssh -v")
    assert words[:-1] == shlex.split(begins)
    assert address.folder == folder


@pytest.mark.parametrize("use", [None, sys.executable])
def test_the_start_script_reads_its_source_and_no_more(use: str | None) -> None:
    """What follows the source on standard input is for the agent."""
    source = b"import sys; print(sys.stdin.read(), sys.version_info >= (3, 11))"
    address = Address.parse("local")
    command = address.command(address.start_script(len(source), use))
    done = subprocess.run(command, input=source + b"rest", capture_output=True, check=True)
    assert done.stdout == b"rest True\n"
