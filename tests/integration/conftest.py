"""Certificates for all, and the logs of what runs, beside each failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.certificates import Certificates, make_certificates
from tests.integration.programs import private_folder, running


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    with private_folder("certificates") as folder:
        yield make_certificates(folder)


@pytest.hookimpl
def pytest_runtest_setup(item: pytest.Item) -> None:
    for program in running:
        program.forget_log()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # pluggy's generator
    report = yield
    if report.failed:
        for program in running:
            text = program.new_log
            if text:
                report.sections.append((f"log of {program.name}", text))
    return report
