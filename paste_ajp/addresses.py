"""Addresses to listen on and peers to let in, as text and as values; pure.

Nothing here looks a name up: a configuration can be checked on a machine that
has no network, and a name that changes its address is the engine's affair.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from paste_ajp.options import UnfitError

_IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """One address to listen on; ``str()`` gives back its text.

    ``host`` and ``port`` belong to kind ``tcp`` (host ``""``: every address of
    the machine, port 0: a free one), ``path`` to ``unix``, ``fd`` to ``fd``. Kind
    ``systemd`` stands for all sockets that systemd has opened for this process.
    """

    kind: Literal["tcp", "unix", "fd", "systemd"]
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "fd":
            return f"fd://{self.fd}"
        if self.kind == "systemd":
            return "systemd"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True where only this machine can connect, as far as the text tells.

        An inherited descriptor tells nothing: ask its socket.
        """
        if self.kind == "tcp":
            return is_loopback(self.host)
        return self.kind == "unix"


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is ``localhost`` or a loopback IP address."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return _plain(ipaddress.ip_address(host)).is_loopback
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """Read ``host:port``, ``[v6]:port``, ``*:port``, ``unix:/path``, ``fd://N`` or
    ``systemd``.

    Raises UnfitError, which says what is wrong with it.
    """
    text = text.strip()
    if text.lower().startswith("unix:"):
        path = re.sub(r"^//(?=/)", "", text[len("unix:") :])
        if not path:
            raise UnfitError("no path after unix:")
        return Address("unix", path=path)
    if text.lower() == "systemd":
        return Address("systemd")
    if match := re.fullmatch(r"fd://([0-9]{1,9})", text.lower()):
        return Address("fd", fd=int(match[1]))
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:/]*)):([0-9]{1,5})", text)
    if not match:
        if "://" in text:
            raise UnfitError(f"{text}: an address is no URL")
        if text.count(":") > 1 and "[" not in text:
            raise UnfitError(
                f"{text}: an IPv6 address stands in brackets, as [::1]:8009"
            )
        raise UnfitError(f"{text or 'nothing'}: no port, or not an address")
    port = int(match[3])
    if port > 65535:
        raise UnfitError(f"{text}: no port is above 65535")
    if match[1] is not None:
        _require_ipv6(match[1])
        return Address("tcp", host=match[1], port=port)
    return Address("tcp", host=_tcp_host(match[2]), port=port)


def _require_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise UnfitError(f"{host}: not an IPv6 address") from None


def _tcp_host(host: str) -> str:
    """Check a name or an address for TCP; ``*`` becomes ``""``."""
    if host in ("", "*"):
        return ""
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", host):
        raise UnfitError(f"{host}: not a host name or an IP address")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise UnfitError(f"{host}: not an IPv4 address") from None
    return host


class Host:
    """Converts to a host to bind: a name, an address, or ``""`` for all."""

    expects = "a host name, an IP address, or * for every address"

    def __call__(self, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(type(value))
        host = value.strip()
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if host.count(":") == 1:
            raise UnfitError("the port has a setting of its own")
        if ":" in host:
            _require_ipv6(host)
            return host
        return _tcp_host(host)


class OneAddress:
    """Converts to one :class:`Address` of kind tcp."""

    expects = "host:port, [IPv6 address]:port or *:port"

    def __call__(self, value: object) -> Address:
        if isinstance(value, Address):
            return value
        if not isinstance(value, str):
            raise TypeError(type(value))
        address = parse_address(value)
        if address.kind != "tcp":
            raise ValueError(value)
        return address


class Addresses:
    """Converts a text or several texts to a tuple of :class:`Address`.

    A text is split at blanks, commas and line ends; a path with a blank in it
    can only come in a sequence, whose items are not split.
    """

    expects = (
        "addresses as host:port, [IPv6 address]:port, *:port, unix:/path, fd://N or"
        " systemd"
    )

    def __call__(self, value: object) -> tuple[Address, ...]:
        if isinstance(value, Address):
            return (value,)
        found = tuple(
            item if isinstance(item, Address) else parse_address(_as_str(item))
            for item in _items(value)
        )
        for address in found:
            # Port 0 asks for any free port, so two of them are no repetition.
            if found.count(address) > 1 and (address.kind != "tcp" or address.port):
                raise UnfitError(f"{address} comes twice")
        return found


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return [item for item in re.split(r"[\s,]+", value) if item]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return list(value)
    raise TypeError(type(value))


def _as_str(item: object) -> str:
    if not isinstance(item, str):
        raise TypeError(type(item))
    return item


@dataclass(frozen=True, slots=True)
class AllowedServers:
    """Who may connect: networks, and names that somebody else looks up."""

    networks: tuple[_IPNetwork, ...] = ()
    names: tuple[str, ...] = ()
    everyone: bool = False

    def __str__(self) -> str:
        if self.everyone:
            return "*"
        networks = (
            str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)
            for net in self.networks
        )
        return ", ".join((*networks, *self.names))

    @property
    def is_unlimited(self) -> bool:
        """True where all of IPv4 or of IPv6 is let in, if not both."""
        return self.everyone or any(net.prefixlen == 0 for net in self.networks)

    @classmethod
    def of_addresses(cls, addresses: Iterable[str]) -> AllowedServers:
        """Make one of plain IP addresses, as a name server gives them."""
        return cls(tuple(_network(address) for address in addresses))

    def matches(self, peer: str) -> bool:
        """Tell whether the IP address ``peer`` is in one of the networks.

        An IPv4 address that an IPv6 socket reports (``::ffff:10.0.0.1``) is
        compared as IPv4. False for what is no address, and whatever the names
        may stand for.
        """
        if self.everyone:
            return True
        try:
            address = _plain(ipaddress.ip_address(peer.partition("%")[0]))
        except ValueError:
            return False
        return any(
            address.version == net.version and address in net for net in self.networks
        )


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


#: What stands before an IPv4 address in ``::ffff:10.0.0.1``.
_MAPPED_BITS = 96

#: ``localhost``, which needs no look-up.
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Peers:
    """Converts a text or several texts to :class:`AllowedServers`."""

    expects = "IP addresses, networks as 10.0.0.0/8, host names, or * for all"

    def __call__(self, value: object) -> AllowedServers:
        if isinstance(value, AllowedServers):
            return value
        items = [_as_str(item).strip() for item in _items(value)]
        if "*" in items:
            if len(items) > 1:
                raise UnfitError(
                    "* lets everybody in, so nothing else can stand beside it"
                )
            return AllowedServers(everyone=True)
        networks: list[_IPNetwork] = []
        names: list[str] = []
        for item in items:
            if item.lower() == "localhost":
                networks += LOOPBACK
            elif re.fullmatch(r"[0-9.]+(/[0-9.]+)?", item) or ":" in item:
                networks.append(_network(item))
            else:
                names.append(_peer_name(item))
        if not items:
            raise UnfitError("it names nobody")
        return AllowedServers(tuple(networks), tuple(names))


def _network(text: str) -> _IPNetwork:
    """Read a network; one of IPv4 in the clothes of IPv6 becomes what it is.

    A peer that an IPv6 socket reports so is compared as IPv4, see matches().
    """
    try:
        written = ipaddress.ip_interface(re.sub(r"[\[\]]", "", text))
    except ValueError:
        raise UnfitError(f"{text}: not an IP address or network") from None
    network = written.network
    mapped = getattr(written.ip, "ipv4_mapped", None)
    if mapped is None:
        return network
    if network.prefixlen < _MAPPED_BITS:
        raise UnfitError(f"{text}: write a network of IPv4 as 10.0.0.0/8")
    bits = network.prefixlen - _MAPPED_BITS
    return ipaddress.ip_network(f"{mapped}/{bits}", strict=False)


def _peer_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", text):
        raise UnfitError(f"{text}: not an address, network or host name")
    return text.lower()
