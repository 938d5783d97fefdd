"""Which peer and which request are let in. Pure: names are looked up by others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paste_ajp.addresses import AllowedServers
from paste_ajp.protocol import ForwardRequest

#: Seconds after which the addresses of allowed host names are asked for again.
NAMES_LAST = 60.0

#: What to do about a secret that does not fit.
SAME_SECRET = "secret must be the same here and in the front end"


class Admission:
    """Decides who may connect and whose request is served.

    `resolve` gives the IP addresses of a host name, none where it has none. It may
    take long, so only look_up() calls it, which needs a thread of its own. `clock`
    gives seconds.
    """

    def __init__(
        self,
        allowed: AllowedServers | None,
        secret: bytes | None,
        *,
        max_body: int = 0,
        max_header_bytes: int = 0,
        resolve: Callable[[str], Iterable[str]],
        clock: Callable[[], float],
    ) -> None:
        self._allowed = allowed
        self._secret = secret
        self._is_same: Callable[[bytes, bytes], bool] | None = None
        if secret is not None:
            from hmac import compare_digest

            self._is_same = compare_digest
        self._max_body = max_body  # 0 for no limit, as below
        self._max_header_bytes = max_header_bytes
        self._resolve = resolve
        self._clock = clock
        #: Name -> its addresses, of the last look-up that found any.
        self._found: dict[str, frozenset[str]] = {}
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
        return allowed.matches(address) or (
            self._named is not None and self._named.matches(address)
        )

    def must_look_up(self, peer: object) -> bool:
        """Must look_up() come first, before admits_peer() can turn this peer away?"""
        return self.may_look_up(peer) and not self.admits_peer(peer)

    def may_look_up(self, peer: object) -> bool:
        """Does the answer to admits_peer() depend on names that may have moved?"""
        allowed = self._allowed
        if allowed is None or not allowed.names or not isinstance(peer, tuple):
            return False
        is_old = self._named is None or self._clock() - self._named_at > NAMES_LAST
        return is_old and not allowed.matches(str(peer[0]))

    def look_up(self) -> None:
        """Ask for the addresses of all allowed names. Blocks; one thread at a time.

        A name without an answer keeps its addresses: a name server that is away for
        a moment shall not take the front ends away.
        """
        for name in self._allowed.names if self._allowed is not None else ():
            places = frozenset(self._resolve(name))
            if places:
                self._found[name] = places
        self._named = AllowedServers.of_addresses(
            {place for places in self._found.values() for place in places}
        )
        self._named_at = self._clock()

    @property
    def judges_requests(self) -> bool:
        """May refusal() refuse anything at all?"""
        return bool(
            self._secret is not None or self._max_body or self._max_header_bytes
        )

    def refusal(self, request: ForwardRequest) -> tuple[int, str] | None:
        """Return status and reason for refusing a request, None to serve it.

        In the order of the AJP notes 9.4: header bytes, secret, body. The secret is
        compared in constant time (CVE-2026-43514), and taken out of the request: no
        debugger that looks at it later shall find it there.
        """
        if self._max_header_bytes:
            size = sum(len(name) + len(value) for name, value in request.headers)
            if size > self._max_header_bytes:
                most = self._max_header_bytes
                return 431, f"its headers have {size} bytes, max_header_bytes = {most}"
        if self._secret is not None and self._is_same is not None:
            given = request.attributes.pop("secret", None)
            if not isinstance(given, str):
                return 403, f"its secret is missing; {SAME_SECRET}"
            if not self._is_same(given.encode("latin-1"), self._secret):
                return 403, f"its secret is wrong; {SAME_SECRET}"
        length = request.content_length
        most = self._max_body
        if most and length is not None and length > most:
            return 413, f"its body has {length} bytes, max_request_body = {most}"
        return None
