"""docs/security.md names tests that exist, and leaves no attack out."""

import hmac
import re
from pathlib import Path

import pytest

from paste_ajp.engine.admission import Admission
from paste_ajp.protocol import build_forward_request
from paste_ajp.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))

#: What is known of AJP at other servers and front ends.
KNOWN = re.findall(
    r"CVE-\d+-\d+",
    """
    CVE-2020-1938 CVE-2020-1745 CVE-2011-3190 CVE-2005-3164 CVE-2008-5519 CVE-2013-4286
    CVE-2005-2090 CVE-2014-0095 CVE-2014-0099 CVE-2022-26377 CVE-2022-36760
    CVE-2009-0033 CVE-2022-2053 CVE-2023-5379 CVE-2011-3348 CVE-2010-0408 CVE-2012-4557
    CVE-2022-1319 CVE-2026-43514 CVE-2026-28780 CVE-2026-33857 CVE-2026-34032
    CVE-2026-34059 CVE-2026-33523 CVE-2006-7197 CVE-2012-3502 CVE-2007-0450
    CVE-2007-1860 CVE-2018-1323 CVE-2018-11759 CVE-2014-8111 CVE-2023-41081
    CVE-2018-1048 CVE-2024-6162 CVE-2007-0774 CVE-2024-46544
    """,
)


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_test_that_the_page_names_exists(file, name):
    source = (ROOT / file).read_text("utf-8")
    assert re.search(rf"^def {name}\(", source, re.MULTILINE)


def test_page_names_tests_at_all():
    assert len(TESTS) > 20


@pytest.mark.parametrize("attack", KNOWN)
def test_known_attack_is_on_the_page(attack):
    assert re.search(rf"\b{attack}\b", PAGE)


def test_settings_on_the_page_exist():
    names = {row.name for row in Settings.rows()}
    assigned = set(re.findall(r"`(\w+) = \w+`", PAGE))
    assert assigned
    assert assigned <= names


def test_secret_is_compared_in_constant_time(monkeypatch):
    """By the one function that promises it, and with nothing before it."""
    compared = []

    really = hmac.compare_digest

    def compare_digest(one, other):
        compared.append((one, other))
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    judge = Admission(None, b"s3cret", resolve=lambda name: [], clock=lambda: 0.0)
    for given in ("", "s", "s3cret", "s3cret-and-more"):
        request = build_forward_request(attributes={"secret": given})
        assert (judge.refusal(request) is None) == (given == "s3cret")
        assert "secret" not in request.attributes
    assert [one for one, _ in compared] == [b"", b"s", b"s3cret", b"s3cret-and-more"]
    assert {other for _, other in compared} == {b"s3cret"}
