"""What the tests share, and the logs of what runs, beside each failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.certificates import Certificates, make_certificates
from tests.integration.frontends import FrontEnd, Httpd, HttpdJk, Lighttpd
from tests.integration.programs import last_words, private_folder, running
from tests.integration.server import Server, serving_process


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    with private_folder("certificates") as folder:
        yield make_certificates(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Our server with the test site, without any setting of its own."""
    with serving_process() as server:
        yield server


@pytest.fixture(scope="session", params=["httpd", "mod_jk", "lighttpd"])
def front_end(
    request: pytest.FixtureRequest, server: Server, certificates: Certificates
) -> Iterator[FrontEnd]:
    """Each front end in turn, before that server, also with HTTPS."""
    made: FrontEnd
    if request.param == "httpd":
        made = Httpd(ajp_port=server.port, certificates=certificates)
    elif request.param == "mod_jk":
        made = HttpdJk(
            ajp_port=server.port,
            certificates=certificates,
            # its default encodes %2F twice
            options="+ForwardURICompatUnparsed",
        )
    else:
        made = Lighttpd(ajp_port=server.port, certificates=certificates)
    with made:
        yield made


@pytest.fixture(scope="session")
def httpd(server: Server) -> Iterator[Httpd]:
    """httpd with mod_proxy_ajp alone, where one front end is enough."""
    with Httpd(ajp_port=server.port) as made:
        yield made


@pytest.hookimpl
def pytest_runtest_setup(item: pytest.Item) -> None:
    last_words.clear()
    for program in running:
        program.forget_log()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # pluggy's generator
    report = yield
    if report.failed:
        logs = last_words + [(program.name, program.new_log) for program in running]
        report.sections += [(f"log of {name}", text) for name, text in logs if text]
    return report
