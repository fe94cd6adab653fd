"""Commands on two ranks, all by one launch of torchrun: a process that imports torch costs more than a tiny run."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def on_two_ranks(commands: Sequence[tuple[str, Sequence[str]]], timeout_s: float = 240) -> None:
    """Runs commands one after the other, each the name of a command module with its arguments, as torchrun does."""
    environment = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}  # tests/envs is not envs
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, __file__, json.dumps([(*command, _free_port()) for command in commands])]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | environment, **quiet) as launcher:
        try:
            _, told = launcher.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            launcher.terminate()  # it ends the ranks too; killed, it would leave them behind
            raise
    assert launcher.returncode == 0, told


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """What each rank does."""
    for module, arguments, port in json.loads(sys.argv[1]):
        # torchrun's own store remembers the group of the command before; each command has a store of its own.
        os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": str(port)}
        if code := importlib.import_module(module).main(arguments):
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
