"""What the server sections of an INI file say, and what PasteDeploy keeps of it.

PasteDeploy takes an option of a section for a global one, and drops it, when
``[DEFAULT]`` has an option of that name, or the command line does (``pserve
x.ini port=9000``). The server then runs on its own default and nobody hears of
it. Here the file is read once more, as PasteDeploy reads it, with both values
in hand: the one that a section states and the one that hides it.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import logging.config
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from paste.deploy.loadwsgi import SERVER, ConfigLoader
from paste.deploy.util import lookup_object

from paste_ajp.options import SettingError

#: Options by which a section names its code. They are no settings.
LOADER_KEYS = frozenset({"use", "paste.server_factory", "paste.server_runner"})


class WrongReference(SettingError):
    """A value whose ``%`` refers to nothing; no part of it is shown."""


@contextmanager
def naming_the_option(path: str | None = None) -> Iterator[None]:
    """Have a value with a wrong ``%`` told by its place, and by no part of it.

    It may be a secret, and configparser's error quotes it. ``path`` is the file that is
    read; without it only what PasteDeploy reads is told so. Raises WrongReference.
    """
    try:
        yield
    except configparser.InterpolationError as error:
        # PasteDeploy says which file it was, which may be one that `path` uses.
        told = re.match(r"Error in file (.+?): ", str(error))
        if told is None and path is None:
            raise
        place = f"{told[1] if told else path} [{error.section}]"
        name = error.option
        if isinstance(error, configparser.InterpolationMissingOptionError):
            problem = f"it refers to %({error.reference})s, and there is no such option"
        elif isinstance(error, configparser.InterpolationDepthError):
            problem = "what it refers to refers to it"
        else:
            problem = "a % in it begins no %(name)s: write %% for each % that is meant"
        raise WrongReference(name, None, problem, place, hides_value=True) from None


@dataclass(frozen=True)
class Hidden:
    """An option that a section states and that PasteDeploy drops.

    ``path`` and ``section`` say where it stands, which may be a file that another one
    uses; ``hidden_by`` where the other option of that name does.
    """

    name: str
    stated: str
    global_value: str
    hidden_by: str
    path: str
    section: str


@dataclass
class ServerSection:
    """A server section together with those that it inherits by ``use``.

    ``delivered`` is what PasteDeploy hands to a server factory, ``hidden`` what
    it drops, ``code`` the last ``use`` or ``paste.server_*`` of the chain.
    """

    name: str
    delivered: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, Hidden] = field(default_factory=dict)
    code: str = ""

    @property
    def is_ours(self) -> bool:
        """True when the section's code is this package, by whichever door."""
        return is_our_code(self.code)

    @property
    def stated(self) -> dict[str, str]:
        """What the section and its parents mean: delivered and hidden."""
        return self.delivered | {
            name: hidden.stated for name, hidden in self.hidden.items()
        }


def is_our_code(code: str) -> bool:
    """Tell whether a ``use`` or ``paste.*_factory`` names this package."""
    return bool(re.match(r"(egg:|call:)?paste[-_.]ajp\b", code, re.IGNORECASE))


def problem_of(code: str) -> str:
    """Say why PasteDeploy finds no server by this ``code``; empty where it does."""
    scheme, _, spec = code.partition(":")
    if scheme.lower() == "egg":
        return _problem_of_egg(*spec.partition("#")[::2])
    try:
        lookup_object(spec if scheme.lower() == "call" else code)
    except (ImportError, AttributeError, ValueError) as error:
        return f"it cannot be loaded: {error}"
    return ""


def _problem_of_egg(distribution: str, name: str) -> str:
    try:
        entries = importlib.metadata.distribution(distribution).entry_points
    except importlib.metadata.PackageNotFoundError:
        return ""  # a checkout that is not installed: nobody can tell
    groups = {group for groups in SERVER.egg_protocols for group in groups}
    servers = sorted({entry.name for entry in entries if entry.group in groups})
    if (name or "main") in servers:
        return ""
    return f"no such entry point for a server; there are {', '.join(servers)}"


class IniFile:
    """An INI file as PasteDeploy sees it under ``global_conf``.

    ``sources`` tells where its values come from, the command line being the default.
    Raises OSError or configparser.Error where it cannot be read, and as its methods do
    WrongReference for a value with a wrong ``%``.
    """

    def __init__(
        self,
        path: str,
        global_conf: Mapping[str, str] | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        loader = ConfigLoader(path)
        with naming_the_option(path):
            self._default_values: dict[str, str] = loader.parser.defaults()
            loader.update_defaults(dict(global_conf or {}), overwrite=False)
            self._loader = loader
            self._globals: dict[str, str] = loader.parser.defaults() | dict(
                global_conf or {}
            )
        self._sources = dict.fromkeys(self._default_values, "[DEFAULT]")
        for name in self.global_additions():
            self._sources[name] = (sources or {}).get(name, "the command line")
        # What each section states itself: here [DEFAULT] is one among them.
        self._own = configparser.RawConfigParser(default_section="\n")
        self._own.optionxform = str  # type: ignore[assignment,method-assign]  # their way
        with Path(path).open() as lines:
            self._own.read_file(lines)

    def has_section(self, name: str) -> bool:
        """Tell whether the file has ``[name]``."""
        return self._own.has_section(name)

    def use_of(self, section: str) -> str:
        """Give what ``[section]`` uses, as it is written; empty for nothing."""
        return self._own.get(section, "use", fallback="")

    def set_up_logging(self) -> None:
        """Do as ``[loggers]`` says, where there is one, as pserve does.

        Raises whatever a handler of the file raises.
        """
        if not self.has_section("loggers"):
            return
        path = str(Path(self.path).resolve())
        places = {"here": str(Path(path).parent), "__file__": path}
        with naming_the_option(path):
            logging.config.fileConfig(
                path, places | self.global_additions(), disable_existing_loggers=False
            )

    def global_additions(self) -> dict[str, str]:
        """Give what came with global_conf and is not from the file itself."""
        return {
            name: value
            for name, value in self._globals.items()
            if self._default_values.get(name) != value
        }

    def server_names(self) -> list[str | None]:
        """List what :meth:`server` takes here; None is a bare ``[server]``."""
        names = (re.fullmatch(r"server(?::(.*))?", s) for s in self._own.sections())
        return [match[1] and match[1].strip() for match in names if match]

    def sections_like(self, kind: str) -> list[str]:
        """List the sections that begin with the word, whatever its case."""
        return [s for s in self._own.sections() if re.match(rf"{kind}\b", s, re.I)]

    def server(self, name: str | None = None) -> ServerSection:
        """Read ``[server:name]``; without a name the main one.

        Raises LookupError, as PasteDeploy does, where there is none.
        """
        with naming_the_option(self.path):
            return self._read(name, self._globals, frozenset())

    def _read(
        self, name: str | None, globals_: Mapping[str, str], seen: frozenset[str]
    ) -> ServerSection:
        section: str = self._loader.find_config_section(SERVER, name=name)
        if section in seen:
            raise LookupError(f"[{section}] in {self.path} uses itself")
        options = self._own[section]
        set_here = {
            option[4:].strip(): self._loader.parser.get(section, option)
            for option in options
            if option.startswith("set ")
        }
        globals_ = {**globals_, **set_here}
        found = self._parent(options.get("use"), globals_, seen | {section})
        found.name = section
        for option in options:
            if option in ("paste.server_factory", "paste.server_runner"):
                found.code = options[option]
            elif option.startswith("get "):
                wanted = self._value(section, option)
                if wanted not in globals_:
                    problem = f"{option} = {wanted}: no such global option"
                    raise LookupError(f"[{section}] in {self.path}: {problem}")
                self._deliver(found, option[4:].strip(), globals_[wanted])
            elif not option.startswith("set ") and option not in LOADER_KEYS:
                self._sort(found, section, option)
        return found

    def _parent(
        self, use: str | None, globals_: Mapping[str, str], seen: frozenset[str]
    ) -> ServerSection:
        """Read what ``use`` names: a section here or elsewhere, or code."""
        if use is None:
            return ServerSection("")
        if not re.match(r"[a-zA-Z]+:", use):
            return self._read(use, globals_, seen)
        if use.lower().startswith("config:"):
            path, _, name = use[len("config:") :].partition("#")
            other = Path(self.path).parent / unquote(path)
            sources = {
                option: self._source_elsewhere(option, value)
                for option, value in globals_.items()
            }
            return IniFile(str(other), globals_, sources).server(name or None)
        return ServerSection("", code=use)

    def _source_elsewhere(self, name: str, value: str) -> str:
        """Say where a global value is from, as another file's reader needs it."""
        if self._globals.get(name) != value:
            return f"a set line of {self.path}"
        source = self._sources[name]
        return f"{source} of {self.path}" if source == "[DEFAULT]" else source

    def _sort(self, found: ServerSection, section: str, option: str) -> None:
        """Put one option of a section to what is delivered or to what is hidden."""
        value = self._value(section, option)
        if option not in self._loader.parser.defaults():
            self._deliver(found, option, value)
        elif option not in ("here", "__file__"):
            found.hidden[option] = Hidden(
                option,
                value,
                self._globals[option],
                self._sources[option],
                self.path,
                section,
            )

    @staticmethod
    def _deliver(found: ServerSection, option: str, value: str) -> None:
        found.hidden.pop(option, None)  # what a parent states is overridden
        found.delivered[option] = value

    def _value(self, section: str, option: str) -> str:
        """Give an option's value, interpolated.

        ``port = %(port)s`` asks for the global one by its own name; to the
        parser, which looks in the section first, that is an endless circle.
        """
        asks_for_itself = self._own[section][option].strip() == f"%({option})s"
        if asks_for_itself and option in self._globals:
            return self._globals[option]
        value: str = self._loader.parser.get(section, option)
        return value
