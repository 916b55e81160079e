"""After installation nothing of the default path needs a network: the guard works, here and in child processes."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("example.org", 80)])
def test_other_machines_are_out_of_reach(address):
    with pytest.raises(OSError, match="offline"):
        socket.create_connection(address, timeout=1)


def test_names_are_not_looked_up():
    with pytest.raises(OSError, match="offline"):
        urllib.request.urlopen("http://example.org", timeout=1)


def test_this_machine_stays_reachable_for_kernels():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_child_processes_are_blocked_too():
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "NetworkBlocked" in done.stderr


def test_the_library_imports_without_a_network_and_without_torchvision_trouble():
    code = "import fdp_core, open_clip, torchvision; from fdp_core import backbones, datasets, model"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
