"""A link that breaks or is slow: `link.py LIMIT DELAY LOG COMMAND...` stands for the command.

Standard input goes to the command, until LIMIT bytes, with DELAY seconds after each block; LOG gets
the number of bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

BLOCK = 2**16


def main() -> int:
    """Run the command."""
    limit, delay, log, *command = sys.argv[1:]
    left, passed = int(limit), 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        while left and (block := os.read(0, min(BLOCK, left))):
            try:
                child.stdin.write(block)
            except BrokenPipeError:
                break
            left, passed = left - len(block), passed + len(block)
            time.sleep(float(delay))
        child.stdin.close()
        # The desk notices it when it writes more.
        os.close(0)
    Path(log).write_text(str(passed))
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
