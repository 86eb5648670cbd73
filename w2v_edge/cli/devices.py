"""`w2v-edge devices`: the devices that `--on` has reached."""

from __future__ import annotations

from w2v_edge.cli.options import json_option, verb
from w2v_edge.cli.output import console, print_json, print_table


@verb("devices", short_help="List the devices that --on has reached.")
@json_option
def command(as_json: bool) -> None:
    """List the devices that `--on` has reached, with their processor, system and Python.

    \b
    w2v-edge bench ckpt-int8 --on pi@pi4
    w2v-edge devices
    """  # noqa: D301 - the escape is click's
    from w2v_edge.remote.known import known_devices

    found = known_devices()
    if as_json:
        print_json(found)
        return
    if not found:
        console().print("no device yet; w2v-edge bench BUNDLE --on HOST reaches one")
        return
    print_table(
        "devices",
        ("name", "last seen", "processor", ">cores", ">memory", "system", "python"),
        (
            (
                name,
                device.seen,
                f"{device.processor} ({device.machine})",
                device.cores,
                f"{device.memory_mb / 1e3:.1f} GB",
                device.system,
                device.python,
            )
            for name, device in found.items()
        ),
    )
