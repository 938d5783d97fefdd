"""How a row of the settings table becomes a key, a flag, a text and an error.

A row is a dataclass field made by :func:`option`. Its converter takes what a
person wrote (an INI value, a flag, a keyword argument) and gives back what the
program uses; ``expects`` says in one phrase what it takes, and that phrase is
the error message, the ``--help`` text and the documentation. A converter also
takes its own result, so a value may pass through it any number of times.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


class SettingError(ValueError):
    """A setting that cannot be used: its ``name``, its ``value``, the ``problem``.

    ``name`` is the one in the table of settings, and what was written where that has
    no such setting. The text shows what was written, as :meth:`spelled` is told.
    ``beside`` are other settings that the problem is about, by their names in the
    table; ``{name}`` stands for them in the problem. The value of a secret is kept
    neither in the text nor in the attribute; with ``hides_value`` no value is.
    ``place`` is the file and section that have it, where that is known.
    """

    def __init__(
        self,
        name: str,
        value: object,
        problem: str,
        place: str = "",
        *,
        beside: Sequence[str] = (),
        spellings: Mapping[str, str] | None = None,
        hides_value: bool = False,
    ) -> None:
        spellings = spellings or {}
        self._template = problem
        for other in beside:
            problem = problem.replace(f"{{{other}}}", _label(other, spellings))
        label = _label(name, spellings)
        hides_value = hides_value or is_secret_name(label)
        text = label if hides_value else f"{label} = {value!r}"
        super().__init__(": ".join(filter(None, (place, text, problem))))
        self.name = name
        self.value = None if hides_value else value
        self.problem = problem
        self.beside = tuple(beside)
        self._place = place
        self._spellings = spellings
        self._hides_value = hides_value

    def at(self, place: str) -> SettingError:
        """Make the same error with a place."""
        return self._told(place, self._spellings)

    def spelled(self, spellings: Mapping[str, str]) -> SettingError:
        """Make the same error with the names that were written for the table's."""
        return self._told(self._place, {**self._spellings, **spellings})

    def _told(self, place: str, spellings: Mapping[str, str]) -> SettingError:
        return SettingError(
            self.name,
            self.value,
            self._template,
            place,
            beside=self.beside,
            spellings=spellings,
            hides_value=self._hides_value,
        )


def _label(name: str, spellings: Mapping[str, str]) -> str:
    """Name a setting as it was written, and as the table does where that is another."""
    written = spellings.get(name, name)
    return written if fold(written) == fold(name) else f"{written} ({name})"


@contextmanager
def telling(
    *, place: str = "", spellings: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Have a SettingError tell its place and what was written, where that is known."""
    try:
        yield
    except SettingError as error:
        told = error.spelled(spellings or {})
        raise (told.at(place) if place else told) from error.__cause__


def is_secret_name(name: str) -> bool:
    """Tell whether the value of a setting so named must not be shown."""
    folded = fold(name)
    return folded not in _PUBLIC_DESPITE_NAME and any(
        word in folded for word in ("secret", "passw", "token")
    )


#: These speak about a secret and hold none.
_PUBLIC_DESPITE_NAME = frozenset({"secretfile", "secretrequired"})


class UnfitError(ValueError):
    """What a converter raises to add a reason to its ``expects``."""


class Converter(Protocol):
    """Takes a written value, gives back the one to use, or raises ValueError."""

    @property
    def expects(self) -> str:
        """What is taken, in one phrase that can follow "expected"."""

    def __call__(self, value: object) -> Any:  # each converter narrows it
        """Convert ``value``."""


# -- The table's rows


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the doors and the documentation see it."""

    name: str
    default: object
    convert: Converter
    purpose: str
    group: str
    aliases: tuple[str, ...] = ()

    @property
    def is_switch(self) -> bool:
        """True for on-or-off settings, whose flag needs no value."""
        return isinstance(self.convert, Switch)

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        return "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """Each of the command line's flags: a switch has one to switch it off."""
        return (self.flag, f"--no-{self.flag[2:]}") if self.is_switch else (self.flag,)

    @property
    def default_text(self) -> str:
        """The default as one would write it; empty for none."""
        return as_written(self.default)


def option(
    default: object,
    convert: Converter,
    purpose: str,
    *,
    group: str,
    flup: str = "",
    aliases: Iterable[str] = (),
    secret: bool = False,
) -> Any:  # as dataclasses.field: the annotation beside it gives the type
    """Make a dataclass field with all that a :class:`Row` needs.

    ``flup`` and ``aliases`` are names that other servers gave to the same thing
    in the same unit. A ``secret`` stays out of ``repr``.
    """
    names = ((flup,) if flup else ()) + tuple(aliases)
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={
            "convert": convert,
            "purpose": purpose,
            "group": group,
            "aliases": names,
        },
    )


def rows_of(table: type) -> tuple[Row, ...]:
    """Read the rows of a dataclass whose fields :func:`option` made."""
    return tuple(
        Row(field.name, field.default, **field.metadata)
        for field in dataclasses.fields(table)
    )


def fold(name: str) -> str:
    """Reduce a name to what is compared: no case, no ``_``, ``-`` or blank."""
    return re.sub(r"[-_\s]", "", name).lower()


def by_folded_name(rows: Iterable[Row]) -> dict[str, Row]:
    """Find rows by each of their names, as :func:`fold` gives it."""
    return {fold(name): row for row in rows for name in (row.name, *row.aliases)}


def match_names(
    rows: Sequence[Row],
    given: Mapping[str, object],
    foreign: Mapping[str, str],
) -> dict[str, object]:
    """Bring the names of ``given`` to those of ``rows``; see :func:`spellings_of`."""
    with matched(rows, given, foreign) as named:
        return named


@contextmanager
def matched(
    rows: Sequence[Row],
    given: Mapping[str, object],
    foreign: Mapping[str, str],
) -> Iterator[dict[str, object]]:
    """Give what :func:`match_names` does; a SettingError within tells what was written.

    Raises SettingError as :func:`spellings_of` does.
    """
    spellings = spellings_of(rows, given, foreign)
    with telling(spellings=spellings):
        yield {name: given[written] for name, written in spellings.items()}


def spellings_of(
    rows: Sequence[Row],
    given: Mapping[str, object],
    foreign: Mapping[str, str],
) -> dict[str, str]:
    """Find what ``given`` has: the names of ``rows``, each with the one there.

    ``foreign`` answers names of other servers that mean something else here,
    by a sentence: in exactly that spelling always, in another one where no row
    has the name. Raises SettingError for a name that is unknown or that comes
    twice in two spellings; the value of an unknown one may be a secret, its name
    being misspelt, and is not shown.
    """
    known = by_folded_name(rows)
    foreign_folded = {fold(name): answer for name, answer in foreign.items()}
    found: dict[str, str] = {}
    for name, value in given.items():
        if name in foreign:
            raise SettingError(name, value, foreign[name])
        folded = fold(name)
        row = known.get(folded)
        if row is None:
            if folded in foreign_folded:
                raise SettingError(name, value, foreign_folded[folded])
            raise SettingError(name, None, _unknown(folded, known), hides_value=True)
        if row.name in found:
            problem = f"given twice, as {found[row.name]} and as {name}"
            raise SettingError(row.name, value, problem, spellings={row.name: name})
        found[row.name] = name
    return found


def _unknown(folded: str, known: Mapping[str, Row]) -> str:
    near = _nearest(folded, known)
    hint = f"; did you mean {known[near].name}?" if near else ""
    return f"no such setting{hint}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is unknown, ``""`` where none is like it."""
    near = _nearest(name, known)
    return f"; did you mean {near}?" if near else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    return "".join(difflib.get_close_matches(name, known, n=1))


def convert(name: str, converter: Converter, value: object) -> Any:
    """Convert one value; what does not fit becomes a SettingError by name."""
    try:
        return converter(value)
    except UnfitError as error:
        reason = f"expected {converter.expects} ({error})"
    except (ValueError, TypeError):
        reason = f"expected {converter.expects}"
    # Raised out here, and from nothing: the first error's text holds the value.
    raise SettingError(name, value, reason)


# -- Converters


def _text(value: object) -> str:
    if isinstance(value, bytes):
        raise TypeError("bytes")
    return str(value).strip()


class Text:
    """Converts to a str without outer blanks; ``expects`` is for the reader."""

    def __init__(self, expects: str) -> None:
        self.expects = expects

    def __call__(self, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(type(value))
        return value.strip()


class Whole:
    """Converts to an int from ``least`` to ``most``, both included."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    @property
    def expects(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def __call__(self, value: object) -> int:
        text = _text(value)
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(text)
        number = int(text)
        if not self.least <= number <= self.most:
            raise ValueError(number)
        return number


_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class Size:
    """Converts ``65536``, ``64K`` or ``512M`` to a number of bytes."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    @property
    def expects(self) -> str:
        span = f"from {self.least} to {self.most}"
        return f"a number of bytes {span}, K, M and G being allowed"

    def __call__(self, value: object) -> int:
        match = re.fullmatch(r"([0-9]{1,18}) ?([kmgt]?)(?:i?b)?", _text(value).lower())
        if not match:
            raise ValueError(value)
        number = int(match[1]) * _SIZE_UNITS[match[2]]
        if not self.least <= number <= self.most:
            raise ValueError(number)
        return number


_SECONDS_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Seconds:
    """Converts ``30``, ``0.5``, ``500ms``, ``2m`` or ``1h`` to seconds."""

    def __init__(self, most: float = 86400.0) -> None:
        self.most = most

    @property
    def expects(self) -> str:
        return f"seconds from 0 to {self.most:.0f}, or a time as 500ms, 2m, 1h"

    def __call__(self, value: object) -> float:
        match = re.fullmatch(
            r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(ms|[smhd]?)", _text(value).lower()
        )
        if not match:
            raise ValueError(value)
        seconds = float(match[1]) * _SECONDS_UNITS[match[2]]
        if not (math.isfinite(seconds) and seconds <= self.most):
            raise ValueError(seconds)
        return seconds


_TRUE = frozenset({"true", "yes", "on", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "f", "0"})


class Switch:
    """Converts PasteDeploy's words for true and false to a bool."""

    expects = "true or false (yes, no, on, off, 1, 0)"

    def __call__(self, value: object) -> bool:
        word = _text(value).lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(value)


class Choice:
    """Converts to one of a few words, whatever their case."""

    def __init__(self, *words: str) -> None:
        self.words = words

    @property
    def expects(self) -> str:
        return " or ".join(self.words)

    def __call__(self, value: object) -> str:
        word = _text(value).lower()
        if word not in self.words:
            raise ValueError(word)
        return word


class Maybe:
    """Converts ``word`` and an empty value to None, all else by ``convert``.

    Where any text is a value, no word can stand for none: ``word`` is empty. Where
    None lets everybody in, ``takes_empty`` is false: an empty value comes from a
    variable that nobody set.
    """

    def __init__(
        self, convert: Converter, word: str = "none", takes_empty: bool = True
    ) -> None:
        self.convert = convert
        self.word = word
        self.takes_empty = takes_empty

    @property
    def expects(self) -> str:
        word = self.word or ("nothing" if self.takes_empty else "")
        return f"{self.convert.expects}, or {word}" if word else self.convert.expects

    def __call__(self, value: object) -> Any:
        if value is None:
            return None
        if isinstance(value, str):
            text = value.strip().lower()
            if not text and not self.takes_empty:
                raise UnfitError("it is empty")
            if text in ("", self.word):
                return None
        return self.convert(value)


class Secret:
    """Converts to a text that is not empty, or None where none is given.

    An empty one is refused: it comes from a variable that nobody set.
    """

    expects = "a printable text"

    def __call__(self, value: object) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise TypeError(type(value))
        secret = value.strip()
        if not secret:
            raise UnfitError("it is empty")
        if not secret.isprintable():
            raise UnfitError("it has a control character")
        return secret


class PathPrefix:
    """Converts to a URL path without its last slash; the root becomes ``""``."""

    expects = "a URL path that begins with /, percent-decoded, or nothing"

    def __call__(self, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(type(value))
        path = value.strip().rstrip("/")
        if path and not path.startswith("/"):
            raise UnfitError("it does not begin with /")
        if re.search(r"[\x00-\x1f\x7f?#]", path):
            raise UnfitError("it has a character that no path has")
        return path


class WholeNamePattern:
    """Converts to a compiled regular expression, to be used by ``fullmatch``."""

    expects = "a regular expression for the whole name"

    def __call__(self, value: object) -> re.Pattern[str]:
        if isinstance(value, re.Pattern):
            value = value.pattern
        if not isinstance(value, str):
            raise TypeError(type(value))
        try:
            return re.compile(value.strip())
        except re.error as error:
            raise UnfitError(str(error)) from None


class Mode:
    """Converts octal digits (``660``, ``0o660``) to permission bits.

    An int is taken as the bits themselves, as ``os.chmod`` takes them.
    """

    expects = "permission bits in octal, as 660"

    def __call__(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            bits = value
        else:
            bits = int(re.sub(r"^0o", "", _text(value).lower()), 8)
        if not 0 <= bits <= 0o777:
            raise ValueError(bits)
        return bits


#: The largest user or group; one more stands for "leave it as it is".
_MOST_ACCOUNT = 2**32 - 2


class Account:
    """Converts to the name or number, as a str, of a user or a group.

    Whether this machine knows the name is asked where it is needed.
    """

    def __init__(self, expects: str) -> None:
        self.expects = expects

    def __call__(self, value: object) -> str:
        name = _text(value)
        if not name.isprintable() or not name:
            raise ValueError(name)
        if re.fullmatch("-?[0-9]+", name) and not (
            len(name) <= len(str(_MOST_ACCOUNT)) and 0 <= int(name) <= _MOST_ACCOUNT
        ):
            raise UnfitError(f"numbers are from 0 to {_MOST_ACCOUNT}")
        return name


# -- Texts


def as_written(value: object) -> str:
    """Write a converted value so that its converter reads it back."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, re.Pattern):
        return str(value.pattern)
    if isinstance(value, tuple):
        return ", ".join(as_written(item) for item in value)
    return str(value)


def add_flags(parser: argparse.ArgumentParser, rows: Iterable[Row]) -> None:
    """Give ``parser`` a flag for each row, none of which has a default.

    ``vars(parser.parse_args())`` then holds the flags that were given, as text
    and by the rows' names, and nothing else of theirs.
    """
    groups: dict[str, Any] = {}  # argparse keeps the type of a group to itself
    for row in rows:
        if row.group not in groups:
            groups[row.group] = parser.add_argument_group(row.group)
        text = _flag_help(row).replace("%", "%%")
        if row.is_switch:
            groups[row.group].add_argument(
                row.flag,
                action=argparse.BooleanOptionalAction,
                dest=row.name,
                default=argparse.SUPPRESS,
                help=text,
            )
        else:
            groups[row.group].add_argument(
                row.flag,
                dest=row.name,
                metavar="VALUE",
                default=argparse.SUPPRESS,
                help=text,
            )


def spell_flags(
    words: Sequence[str], rows: Iterable[Row]
) -> tuple[list[str], dict[str, str]]:
    """Bring flags in any spelling, aliases included, to that of :func:`add_flags`.

    Also gives the names of the rows that have one, each with the flag as it was typed.
    Raises ValueError, which names both, where one setting is given twice.
    """
    known: dict[str, tuple[Row, str]] = {}
    for row in rows:
        for name in (row.name, *row.aliases):
            known[fold(name)] = row, row.flag
            if row.is_switch:
                known["no" + fold(name)] = row, row.flags[1]
    spelled = list(words)
    given: dict[str, str] = {}
    for place, word in enumerate(words):
        if word == "--":
            break
        flag, separator, value = word.partition("=")
        if not flag.startswith("--") or fold(flag) not in known:
            continue
        row, own = known[fold(flag)]
        if row.name in given:
            first = given[row.name]
            raise ValueError(f"{row.flag} given twice, as {first} and as {flag}")
        given[row.name] = flag
        spelled[place] = own + separator + value
    return spelled, given


def _flag_help(row: Row) -> str:
    if row.is_switch:
        return f"{row.purpose} Default: {row.default_text}."
    default = f"; default: {row.default_text}" if row.default_text else ""
    return f"{row.purpose} Takes {row.convert.expects}{default}."


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Put the rows under their groups, both in the table's order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def as_text(rows: Iterable[Row]) -> str:
    """Render the table for a terminal."""
    lines: list[str] = []
    for group, members in grouped(rows).items():
        lines += [group, "-" * len(group), ""]
        for row in members:
            lines.append(f"{row.name} = {row.default_text}".rstrip())
            lines += _wrapped(row.purpose, "    ")
            lines += _wrapped(f"Takes {row.convert.expects}.", "    ")
            if row.aliases:
                lines += _wrapped(f"Also called {', '.join(row.aliases)}.", "    ")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def as_ini(rows: Iterable[Row], section: str, first: Sequence[str] = ()) -> str:
    """Render the table as an INI section: each setting commented, at its default.

    ``first`` are lines to stand at the top of the section.
    """
    lines = [f"[{section}]", *first, ""]
    for group, members in grouped(rows).items():
        lines += [f"## {group}", ""]
        for row in members:
            lines += _wrapped(row.purpose, "# ")
            lines += _wrapped(f"Takes {row.convert.expects}.", "# ")
            lines += [f"#{row.name} = {row.default_text}".rstrip(), ""]
    return "\n".join(lines).rstrip() + "\n"


def as_markdown(rows: Iterable[Row]) -> str:
    """Render the table as the sections of a Markdown page."""
    lines: list[str] = []
    for group, members in grouped(rows).items():
        lines += [f"## {group}", ""]
        for row in members:
            default = f"`{row.default_text}`" if row.default_text else "none"
            lines += [f"### {row.name}", "", *_wrapped(row.purpose), ""]
            lines += _wrapped(f"- Takes {row.convert.expects}.", "", "  ")
            flags = ", ".join(f"`{flag}`" for flag in row.flags)
            lines += [f"- Default: {default}", f"- On the command line: {flags}"]
            if row.aliases:
                names = ", ".join(f"`{name}`" for name in row.aliases)
                lines += [f"- Also called {names}"]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        width=80,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
