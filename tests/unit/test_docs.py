"""What the documentation names is there: pages, headings, commands, flags, settings."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from paste_ajp import cli
from paste_ajp.options import match_names
from paste_ajp.settings import FOREIGN, Settings
from tests.examples import CONFIGURATIONS, PAGES, ROOT, blocks

README = ROOT / "README.md"
INI_FILES = [(ROOT / "development.ini").read_text("utf-8")]

_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_SETTING = re.compile(r"(\w+) = [^=]*")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    found = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in found)
    return {heading.replace(" ", "-") for heading in kept}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_readme_lists_every_page() -> None:
    links = {link.partition("#")[0] for link in _LINK.findall(README.read_text())}
    pages = {name_of(page) for page in PAGES} - {"README.md"}
    assert sorted(pages - links) == []


# -- commands ------------------------------------------------------------------


def command_lines(page: Path) -> list[str]:
    """Every ``paste-ajp ...`` of the page: in text, in blocks, at a prompt."""
    text = page.read_text("utf-8")
    lines = [re.sub(r"^\s*(?:\$ )?", "", line) for line in text.splitlines()]
    found = [line for line in lines if line.startswith("paste-ajp ")]
    return found + [code for code in _CODE.findall(text) if code[:10] == "paste-ajp "]


def parser_of(command: str) -> argparse.ArgumentParser | None:
    for action in cli.make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser = action.choices.get(command)
            if parser is not None:
                parser.complete()
            return parser
    raise AssertionError("the parser has no commands")


def unknown_words(line: str) -> list[str]:
    """The command or the flags of a command line that do not exist."""
    words = shlex.split(line.partition("#")[0].partition("|")[0])[1:]
    if not words or words[0].startswith("-"):
        return []
    parser = parser_of(words[0])
    if parser is None:
        return [words[0]]
    known = parser._option_string_actions
    flags = [word.partition("=")[0] for word in words[1:] if word.startswith("-")]
    return [flag for flag in flags if flag not in known]


@every_page
def test_commands_and_flags_exist(page: Path) -> None:
    wrong = {line: unknown_words(line) for line in command_lines(page)}
    assert {line: words for line, words in wrong.items() if words} == {}


def test_commands_are_found_and_judged() -> None:
    assert len(command_lines(README)) >= 2
    assert unknown_words("paste-ajp serve app.ini --prot=1 --port 2") == ["--prot"]
    assert unknown_words("paste-ajp sreve app.ini") == ["sreve"]


@every_page
def test_flags_in_text_exist(page: Path) -> None:
    # pserve's and tracd's
    known = {"--server-name", "--protocol", "--reload", "--hostname"}
    for command in cli.COMMANDS:
        parser = parser_of(command.name)
        assert parser is not None
        known |= set(parser._option_string_actions)
    known.add("--version")
    codes = [code for code in _CODE.findall(prose(page)) if code.startswith("--")]
    named = {re.split(r"[ =]", code)[0] for code in codes}
    assert sorted(named - known) == []


# -- settings ------------------------------------------------------------------


def unknown_settings(ini: str) -> list[str]:
    """Names in our server sections, or outside of any section, that are not ours."""
    section = "server:main"
    given = {}
    for line in ini.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif section.startswith("server:") and "=" in line and line[0] not in "#; ":
            given[line.partition("=")[0].strip()] = "x"
    wrong = []
    for name in given.keys() - {"use", "paste.server_factory", "paste.server_runner"}:
        try:
            match_names(Settings.rows(), {name: "x"}, FOREIGN)
        except ValueError:
            wrong.append(name)
    return wrong


@every_page
def test_settings_in_ini_blocks_exist(page: Path) -> None:
    files = [block.text for block in blocks(page) if block.language == "ini"]
    assert [unknown_settings(file) for file in files if unknown_settings(file)] == []


def test_wrong_setting_in_a_block_is_found() -> None:
    assert unknown_settings("[server:main]\nthread = 4\nport = 1\n") == ["thread"]
    assert unknown_settings("[app:main]\nthread = 4\n") == []


def is_setting(name: str) -> bool:
    return not unknown_settings(f"{name} = x")


@every_page
def test_settings_in_text_exist(page: Path) -> None:
    codes = (_SETTING.fullmatch(code) for code in _CODE.findall(prose(page)))
    # `use = ...` is PasteDeploy's, names with a dot or a hyphen are a front end's
    names = {found[1] for found in codes if found} - {"use"}
    assert sorted(name for name in names if not is_setting(name)) == []


# -- examples ------------------------------------------------------------------


def test_every_configuration_of_a_front_end_is_checked() -> None:
    unchecked = [
        (name_of(page), block.text)
        for page in PAGES
        for block in blocks(page)
        if block.language in CONFIGURATIONS and block.name is None
    ]
    assert unchecked == []
