"""Which peer and which secret are let in. Pure: names are looked up by others."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable

from paste_ajp.addresses import AllowedServers
from paste_ajp.protocol import ForwardRequest

#: Seconds for which the addresses of an allowed host name are believed.
NAMES_LAST = 60.0


class Admission:
    """Decides who may connect and whose request is served.

    `resolve` gives the IP addresses of a host name, none where it has none; it is
    asked when a peer fits no network, at most once in NAMES_LAST seconds. `clock`
    gives seconds. Peers are judged by the thread that accepts.
    """

    def __init__(
        self,
        allowed: AllowedServers | None,
        secret: bytes | None,
        *,
        resolve: Callable[[str], Iterable[str]],
        clock: Callable[[], float],
    ) -> None:
        self._allowed = allowed
        self._secret = secret
        self._resolve = resolve
        self._clock = clock
        self._named: AllowedServers | None = None
        self._named_at = 0.0

    def admits_peer(self, peer: object) -> bool:
        """May the peer of an accepted socket, as accept() names it, stay?

        UNIX sockets, whose peers have no address, have file permissions instead.
        """
        allowed = self._allowed
        if allowed is None or allowed.everyone or not isinstance(peer, tuple):
            return True
        address = str(peer[0])
        return allowed.matches(address) or self._is_named(address, allowed.names)

    def _is_named(self, address: str, names: tuple[str, ...]) -> bool:
        if not names:
            return False
        now = self._clock()
        if self._named is None or now - self._named_at > NAMES_LAST:
            found = {place for name in names for place in self._resolve(name)}
            self._named = AllowedServers.of_addresses(found)
            self._named_at = now
        return self._named.matches(address)

    def admits_secret(self, request: ForwardRequest) -> bool:
        """Does the request bring the secret, if one is demanded?

        Compared in constant time (CVE-2026-43514). A secret that nobody demands is
        ignored.
        """
        if self._secret is None:
            return True
        given = request.attributes.get("secret")
        return isinstance(given, str) and hmac.compare_digest(
            given.encode("latin-1"), self._secret
        )
