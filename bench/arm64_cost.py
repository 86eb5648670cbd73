"""Instructions that the graphs of `tiny` take on ARM64, int8 against float32.

    python -m tests.emulated.prepare .emulated && python -m tests.emulated.bundles .emulated/bundles
    python -m bench.arm64_cost .emulated

An emulated machine of one core runs Debian's kernel and Python from memory. QEMU's option `-icount`
makes its clock advance by 1 ns for each instruction, so that a timer counts instructions: the same
on every host, and free of disturbances. Caches, pipelines and memory do not count: it is a cost for
comparisons, not a time. Needs x86, Debian's apt, and no root.
"""

from __future__ import annotations

import argparse
import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.emulated import debian

PROCESSORS = {"armv8.0": "cortex-a72", "dotprod": "cortex-a76", "i8mm": "max,pauth=off,sve=off"}
RUNS = 4
"""Runs that `INIT` counts: two bundles with two graphs each."""

LIMIT_S = 1500
OUTPUT = Path(__file__).parent / "results/arm64-cost-tiny.json"
LEFT_OUT = {"doc", "__pycache__", "locale", "man", "i18n", "perl5", "gconv"}

INIT = """#!/usr/bin/python3.11
import ctypes, json, os, sys, time, traceback
libc = ctypes.CDLL(None)
for path, kind in ((b"/proc", b"proc"), (b"/sys", b"sysfs"), (b"/tmp", b"tmpfs")):
    libc.mount(kind, path, kind, 0, None)
sys.path.insert(0, "/site")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
try:
    import numpy as np
    import w2v_edge
    clip = np.load("/clip.npy")[None]
    for name in ("tiny-fp32", "tiny-int8"):
        model = w2v_edge.load(f"/bundles/{name}", threads=1)
        for graph in ("encoder", "tokenizer"):
            inputs = {"waveform": clip, "lengths": np.array([clip.shape[1]])}
            model.run(graph, **inputs)
            begun = time.perf_counter_ns()
            model.run(graph, **inputs)
            counted = time.perf_counter_ns() - begun
            print("COUNTED", json.dumps([name, graph, counted]), flush=True)
except Exception:
    # The first process may not end: print the error for `count`, then switch the machine off.
    traceback.print_exc()
libc.reboot(0x4321FEDC)
"""


def main() -> None:
    """Count on every processor, print a table, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.arm64_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder of tests.emulated.prepare")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, help="file for the results")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if not (folder / "machine/usr/bin/qemu-system-aarch64").exists():
        (kernel,) = debian.depends(folder, "linux-image-cloud-arm64:arm64")
        debian.unpack(folder, "kernel", f"{kernel.split(':')[0]}:arm64", dependencies=False)
        debian.unpack(folder, "machine", "qemu-system-arm:amd64")
    write_memory(folder, folder / "initrd.cpio")
    counted = {name: count(folder, cpu) for name, cpu in PROCESSORS.items()}
    for name, rows in counted.items():
        for graph in ("encoder", "tokenizer"):
            exact, rounded = rows[f"tiny-fp32 {graph}"], rows[f"tiny-int8 {graph}"]
            print(f"{name} {graph}: {exact / 1e6:.1f} M, int8 {rounded / exact:.3f} of it")
    result = {
        "what": "instructions of one run over 1 s of audio, threads=1, after one warm-up",
        "processors": PROCESSORS,
        "emulator": version(folder),
        "instructions": counted,
    }
    given.output.write_text(json.dumps(result, indent=1) + "\n")


def count(folder: Path, cpu: str) -> dict[str, int]:
    """Return the instructions of each bundle's graph on an emulated processor."""
    (kernel,) = (folder / "kernel/boot").glob("vmlinuz-*")
    # fmt: off
    machine = [
        "-L", str(folder / "machine/usr/share/qemu"), "-M", "virt", "-cpu", cpu, "-m", "2048",
        "-icount", "shift=0,sleep=off", "-kernel", str(kernel),
        "-initrd", str(folder / "initrd.cpio"), "-append", "console=ttyAMA0 quiet",
        "-nographic", "-no-reboot", "-nic", "none",
    ]
    # fmt: on
    command = [*emulator(folder), *machine]
    done = subprocess.run(  # noqa: S603
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    lines = [x.partition("COUNTED ")[2] for x in done.stdout.splitlines() if "COUNTED " in x]
    rows = [json.loads(line) for line in lines]
    if len(rows) != RUNS:
        raise SystemExit(f"{cpu}: {len(rows)} of {RUNS} runs were counted:\n{done.stdout}")
    return {f"{name} {graph}": counted for name, graph, counted in rows}


def emulator(folder: Path) -> list[str]:
    """Return the command of the emulator, with Debian's own libraries."""
    root = folder / "machine"
    libraries = ":".join(str(root / x / "x86_64-linux-gnu") for x in ("usr/lib", "lib"))
    loader = str(root / "lib64/ld-linux-x86-64.so.2")
    return [loader, "--library-path", libraries, str(root / "usr/bin/qemu-system-aarch64")]


def version(folder: Path) -> str:
    """Return the emulator's name and version."""
    text = subprocess.check_output(  # noqa: S603
        [*emulator(folder), "--version"], text=True
    )
    return text.splitlines()[0]


def write_memory(folder: Path, path: Path) -> None:
    """Write the machine's files as a cpio archive, from which Linux fills its first root."""
    trees = {name: folder / "root" / name for name in ("usr", "lib", "etc")}
    trees |= {
        "site": folder / "site",
        "bundles/tiny-fp32": folder / "bundles/tiny-fp32",
        "bundles/tiny-int8": folder / "site/w2v_edge/data/tiny/tiny-int8",
    }
    with path.open("wb") as stream:
        for name in ("dev", "proc", "sys", "tmp", "bundles"):
            _add(stream, name, stat.S_IFDIR | 0o755)
        for name, device in (("console", (5, 1)), ("null", (1, 3)), ("urandom", (1, 9))):
            _add(stream, f"dev/{name}", stat.S_IFCHR | 0o666, device=device)
        for name, tree in trees.items():
            for entry, inner in _walk(tree, name):
                _add_file(stream, entry, inner)
        _add(stream, "clip.npy", stat.S_IFREG | 0o644, (folder / "bundles/clip.npy").read_bytes())
        _add(stream, "init", stat.S_IFREG | 0o755, INIT.encode())
        _add(stream, "TRAILER!!!", 0)


def _walk(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    yield path, name
    for entry in sorted(path.iterdir()):
        inner = f"{name}/{entry.name}"
        if entry.name in LEFT_OUT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, inner)
        else:
            yield entry, inner


def _add_file(stream: BinaryIO, path: Path, name: str) -> None:
    if path.is_symlink():
        _add(stream, name, stat.S_IFLNK | 0o777, str(path.readlink()).encode())
    elif path.is_dir():
        _add(stream, name, stat.S_IFDIR | 0o755)
    else:
        _add(stream, name, path.stat().st_mode, path.read_bytes())


def _add(
    stream: BinaryIO, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
) -> None:
    """Add an entry in the format `newc`: 13 numbers of 8 digits, the name, and the content."""
    inode = stream.tell()
    numbers = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % x for x in numbers) + name.encode() + b"\0"
    stream.writelines(part + b"\0" * (-len(part) % 4) for part in (head, data))


if __name__ == "__main__":
    main()
