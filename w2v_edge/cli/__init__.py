"""The command line, `w2v-edge`: one file a verb; heavy imports are made in the commands' bodies."""

from __future__ import annotations

import sys

from w2v_edge.extras import install_command


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        from w2v_edge.providers.installation import installed_wheels

        # Another build of onnxruntime takes the place of the extra `cpu`.
        wheels = installed_wheels()
        extras = ("cli",) if wheels and "onnxruntime" not in wheels else ("cpu", "cli")
        print(  # noqa: T201
            f"error: the command line needs {error.name!r}, which is not installed; "
            f"run: {install_command(*extras)}",
            file=sys.stderr,
        )
        sys.exit(1)
    from w2v_edge.cli.group import leave_on_sigterm, print_any_character, run

    leave_on_sigterm()
    print_any_character()
    sys.exit(run(sys.argv[1:]))
