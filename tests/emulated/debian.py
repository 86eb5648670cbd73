"""Debian packages of amd64 and arm64, unpacked into folders; nothing is installed, no root needed.

apt works on lists and states of its own, in the folder `apt`. The exit code of
`python -m tests.emulated.debian FOLDER` tells whether this machine can be given QEMU in this way.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
RELEASE = "bookworm"


def update(folder: Path, release: str = RELEASE) -> None:
    """Read the lists of packages of a release of Debian into `folder/apt`."""
    apt = folder / "apt"
    if platform.machine() != "x86_64":
        raise SystemExit(f"found a {platform.machine()} processor; emulated tests need x86_64")
    (apt / "state/lists/partial").mkdir(parents=True, exist_ok=True)
    source = f"deb [signed-by={KEYRING}] {_mirror()} {release} main\n"
    (apt / "sources.list").write_text(source)
    # An empty status: every dependency is missing, and comes along.
    (apt / "status").touch()
    _run([*_apt(folder, "none"), "update"])


def unpack(folder: Path, name: str, *packages: str, dependencies: bool = True) -> None:
    """Unpack packages, and all that they depend on, into `folder/name`.

    Args:
        folder: folder of `update`.
        name: folder to make.
        packages: names, each with its architecture, such as `libc6:arm64`.
        dependencies: whether to unpack their dependencies too.
    """
    archives = folder / "apt/archives" / name
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    command = ["--yes", "--download-only", "install"] if dependencies else ["download"]
    _run([*_apt(folder, name), *command, *packages], cwd=archives)
    for package in archives.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(folder / name)])


def depends(folder: Path, package: str) -> list[str]:
    """Return the names of a package's direct dependencies, without their architecture."""
    command = ["apt-cache", *_apt(folder, "none")[1:], "depends", package]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [x.split()[-1] for x in lines if x.strip().startswith("Depends:")]


def _mirror() -> str:
    """Return the mirror of Debian that this machine's apt reads."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    except OSError:
        found = []
    mirrors = [uri for uri in found if uri.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise SystemExit("no mirror of Debian among apt's sources; emulated tests need Debian")
    return mirrors[0]


def _apt(folder: Path, name: str) -> list[str]:
    apt = folder / "apt"
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Cache::archives": apt / "archives" / name,
        "APT::Architecture": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
    }
    architectures = [f"--option=APT::Architectures::={x}" for x in ("arm64", "amd64")]
    pairs = [f"--option={key}={value}" for key, value in settings.items()]
    return ["apt-get", "--quiet=2", *pairs, *architectures]


def _run(command: list[str], *, cwd: Path | None = None) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, check=True, cwd=cwd, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    try:
        update(Path(sys.argv[1]).resolve())
    except subprocess.CalledProcessError as failed:
        sys.exit(f"apt cannot read Debian's packages: {failed}")
