"""The code tables, against numbers written down a second time."""

from __future__ import annotations

from paste_ajp.protocol import codes


def test_method_codes():
    some = {
        "OPTIONS": 1,
        "GET": 2,
        "HEAD": 3,
        "POST": 4,
        "PUT": 5,
        "DELETE": 6,
        "TRACE": 7,
        "PROPFIND": 8,
        "UNLOCK": 14,
        "ACL": 15,
        "SEARCH": 21,
        "BASELINE-CONTROL": 26,
        "MKACTIVITY": 27,
    }
    assert {name: codes.CODE_BY_METHOD[name] for name in some} == some
    assert len(codes.METHODS) == 27


def test_request_header_codes():
    assert codes.REQUEST_HEADER_BY_CODE[0xA001] == "accept"
    assert codes.REQUEST_HEADER_BY_CODE[0xA008] == "content-length"
    assert codes.REQUEST_HEADER_BY_CODE[0xA00B] == "host"
    assert codes.CODE_BY_REQUEST_HEADER["user-agent"] == 0xA00E
    assert len(codes.REQUEST_HEADERS) == 14


def test_response_header_codes():
    assert codes.RESPONSE_HEADER_BY_CODE[0xA001] == "Content-Type"
    assert codes.RESPONSE_HEADER_BY_CODE[0xA004] == "Date"
    assert codes.CODE_BY_RESPONSE_HEADER["set-cookie"] == 0xA007
    assert codes.CODE_BY_RESPONSE_HEADER["www-authenticate"] == 0xA00B
    assert len(codes.RESPONSE_HEADERS) == 11


def test_attribute_codes():
    assert codes.CODE_BY_ATTRIBUTE["query_string"] == 5
    assert codes.CODE_BY_ATTRIBUTE["secret"] == 12
    assert codes.CODE_BY_ATTRIBUTE["stored_method"] == 13
    assert codes.REQUEST_ATTRIBUTE not in codes.ATTRIBUTE_BY_CODE
    assert sorted(codes.ATTRIBUTE_BY_CODE) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]
