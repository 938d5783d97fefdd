"""A certificate authority, a server's and a remote's certificate, made anew."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

CLIENT_NAME = "remote@example.com"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM; each ``*_pem`` has the key and its certificates in it."""

    authority: Path
    server_pem: Path
    client_pem: Path

    def context(self, *, with_client: bool = False) -> ssl.SSLContext:
        """What a remote needs to connect, with its own certificate or without."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if with_client:
            context.load_cert_chain(str(self.client_pem))
        return context

    def client_certificate(self) -> str:
        """The remote's certificate alone, as PEM text."""
        text = self.client_pem.read_text("ascii")
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        start = text.index(begin)
        return text[start : text.index(end) + len(end)] + "\n"


def make_certificates(folder: Path) -> Certificates:
    """Write new certificates, for localhost, into ``folder``."""
    authority = trustme.CA()
    made = Certificates(
        authority=folder / "authority.pem",
        server_pem=folder / "server.pem",
        client_pem=folder / "client.pem",
    )
    authority.cert_pem.write_to_path(str(made.authority))
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(str(made.server_pem))
    client = authority.issue_cert(CLIENT_NAME)
    client.private_key_and_cert_chain_pem.write_to_path(str(made.client_pem))
    return made
