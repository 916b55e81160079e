"""Lets a Python process talk to this machine only: put this folder on PYTHONPATH, or call :func:`block`.

Jupyter's kernels talk to their client over the loopback interface, so that stays open.
"""

import ipaddress
import socket

_connect, _connect_ex, _getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


class NetworkBlocked(OSError):
    """Something tried to reach another machine."""


def _is_local(host) -> bool:
    if host is None or isinstance(host, bytes):
        host = (host or b"").decode()
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified or _is_own(str(address))


def _is_own(address) -> bool:
    """Tell whether an address is one of this machine's: only to those can a socket be bound."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _check(address) -> None:
    if isinstance(address, tuple) and not _is_local(address[0]):
        raise NetworkBlocked(f"offline: a connection to {address[0]}:{address[1]} was tried")


def _guarded_connect(self, address):
    _check(address)
    return _connect(self, address)


def _guarded_connect_ex(self, address):
    _check(address)
    return _connect_ex(self, address)


def _guarded_getaddrinfo(host, port, *args, **kwargs):
    _check((host, port))
    return _getaddrinfo(host, port, *args, **kwargs)


def block() -> None:
    """Refuse every connection and name look-up beyond this machine, until :func:`allow`."""
    socket.socket.connect, socket.socket.connect_ex = _guarded_connect, _guarded_connect_ex
    socket.getaddrinfo = _guarded_getaddrinfo


def allow() -> None:
    """Undo :func:`block`."""
    socket.socket.connect, socket.socket.connect_ex = _connect, _connect_ex
    socket.getaddrinfo = _getaddrinfo


if __name__ == "sitecustomize":
    block()
