"""What ``serve`` can serve: an application in an INI file, or one in a module.

A target knows what its source says: the application, the settings of a server section
that is for us, and logging. The flags are no business of it: cli.py joins the two.
"""

from __future__ import annotations

import configparser
import importlib
import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from paste_ajp.logs import server_log
from paste_ajp.options import SettingError, did_you_mean, telling
from paste_ajp.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from paste_ajp.inifile import ServerSection


class UsageError(Exception):
    """What was asked for makes no sense; the text says why."""


class LoadError(Exception):
    """An application that cannot be had; the text may have several lines."""


def find_target(
    text: str, variables: Sequence[str] = (), server_name: str | None = None
) -> IniTarget | ModuleTarget:
    """Tell an INI file from a module. Raises UsageError for neither."""
    path, _, name = text.partition("#")
    is_file = Path(path).is_file() and Path(path).suffix != ".py"
    if is_file or Path(path).suffix in (".ini", ".cfg", ".conf"):
        return IniTarget(path, name or None, server_name, _as_pairs(variables))
    match = re.fullmatch(r"([\w.]+):([\w.]+)(\(\))?", text)
    if not match or match[1].endswith(".py"):
        raise UsageError(
            f"{text or 'nothing'}: expected an INI file, module:attribute or"
            f" module:factory(){_meant(text)}"
        )
    if variables or server_name:
        raise UsageError(f"{text}: name=value and --server-name are for INI files")
    return ModuleTarget(match[1], match[2], is_factory=bool(match[3]))


def _meant(text: str) -> str:
    """Return a hint for a module that is written as a file or with a dot."""
    module, colon, attribute = text.partition(":")
    path = Path(module)
    if path.suffix == ".py":
        is_below = not path.is_absolute() and ".." not in path.parts
        module = ".".join(path.with_suffix("").parts) if is_below else path.stem
    elif not colon and re.fullmatch(r"[\w.]+\.\w+(\(\))?", text):
        module, _, attribute = text.rpartition(".")
    else:
        return ""
    return f"; did you mean {module}:{attribute or 'NAME'}?"


def _as_pairs(variables: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for variable in variables:
        name, separator, value = variable.partition("=")
        if not (separator and name):
            raise UsageError(f"{variable}: expected name=value")
        pairs[name] = value
    return pairs


class IniTarget:
    """An application in an INI file, which may have a server section for us."""

    def __init__(
        self,
        path: str,
        app_name: str | None,
        server_name: str | None,
        variables: Mapping[str, str],
    ) -> None:
        self._path = path
        self._app_name = app_name
        self._server_name = server_name
        self._variables = dict(variables)
        self._absolute = str(Path(path).resolve())
        from paste_ajp import inifile

        try:
            self._file = inifile.IniFile(self._absolute, self._variables)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, configparser.Error) as error:
            raise UsageError(f"{path}: {_one_line(error)}") from error

    def __str__(self) -> str:
        return f"{self._path}#{self._app_name}" if self._app_name else self._path

    def set_up_logging(self) -> None:
        """Do as ``[loggers]`` of the file says, where there is one."""
        from paste_ajp.inifile import WrongReference

        try:
            self._file.set_up_logging()
        except WrongReference:
            raise
        except Exception as error:  # handlers are code of anybody's
            problem = f"{type(error).__name__}: {_one_line(error)}"
            if isinstance(error, KeyError):  # fileConfig asks for it as it is
                problem = f"there is no {error} for it, neither section nor option"
            raise UsageError(f"{self._path}: [loggers]: {problem}") from error

    @property
    def place(self) -> str:
        """The file, and the section in it if there is one."""
        return f"{self._path} [{self._section.name}]" if self._section else self._path

    @property
    def has_section(self) -> bool:
        """Whether the server section is meant for us."""
        return self._section is not None and self._section.is_ours

    @cached_property
    def written_settings(self) -> dict[str, object]:
        """What the server section says, when it is meant for us.

        Raises UsageError when it cannot be read, or was asked for and is missing, or
        names a server that we do not have, and SettingError, which names the section,
        for a wrong setting.
        """
        section = self._section
        if section is None or not section.is_ours:
            return {}
        from paste_ajp import deploy, inifile

        problem = inifile.problem_of(section.code)
        if problem:
            raise UsageError(f"{self.place}: {section.code}: {problem}")
        translate = deploy.in_thread_terms
        if "fork" in section.code:
            translate = deploy.in_fork_terms
        with telling(place=self.place):
            written: dict[str, object] = translate(section.stated)
            Settings.parse(written)
        return written

    @cached_property
    def _section(self) -> ServerSection | None:
        """The server section; None where there is no main one and none is asked for."""
        names = self._file.server_names()
        if self._server_name is None and not {None, "main"} & set(names):
            return None
        try:
            return self._file.server(self._server_name)
        except (LookupError, OSError, configparser.Error) as error:
            raise UsageError(f"{self._path}: {_one_line(error)}") from error

    def tell_of_defaults(self, settings: Settings) -> None:
        """Log that the file has no settings for us, where that is so.

        Not where they are read: children do that too, each for itself.
        """
        if self.has_section:
            return
        section = self._section
        names = [f"[server:{name}]" for name in self._file.server_names()]
        level = logging.WARNING
        if section is not None and not section.code:
            reason = f"[{section.name}] has no use = ..., so its settings are not used"
            advice = "write use = egg:paste_ajp in it"
        elif section is not None:
            reason = (
                f"[{section.name}] is for {section.code}; its settings are not used"
            )
            advice = "--server-name names another section"
        elif names:
            reason = f"no [server:main], and --server-name is not given for {names[0]}"
            if len(names) > 1:
                reason += f" or {', '.join(names[1:])}"
            advice = "give it, or write [server:main] with use = egg:paste_ajp"
        elif near := self._file.sections_like("server"):
            reason = f"no [server:main], and [{near[0]}] is no server section"
            advice = "write [server:main], in just these letters"
        else:
            level = logging.INFO
            reason = "no [server:main]"
            advice = "for other settings write one, with use = egg:paste_ajp"
        server_log.log(
            level,
            "%s: %s: flags and defaults hold, on %s (%s)",
            self._path,
            reason,
            ", ".join(map(str, settings.addresses)),
            advice,
        )

    def choose(self, app_name: str) -> None:
        """Load the application of that name, unless the command line names one."""
        self._app_name = self._app_name or app_name or None

    def load(self) -> WSGIApplication:
        """Load the application.

        Raises LoadError, and SettingError where it is our gateway and has a wrong one.
        """
        from paste.deploy import loadapp

        uri = f"config:{quote(self._absolute)}"
        from paste_ajp.inifile import WrongReference, naming_the_option

        try:
            with naming_the_option():
                application: WSGIApplication = loadapp(
                    uri, name=self._app_name, global_conf=self._variables
                )
        except WrongReference:
            raise
        except SettingError as error:
            raise error.at(self._application_place) from error.__cause__
        except (Exception, SystemExit) as error:  # whatever an application raises
            raise LoadError(_traced(str(self), error)) from error
        return application

    @property
    def _application_place(self) -> str:
        """The file, and the section that is loaded if that is our gateway itself."""
        from paste_ajp.inifile import is_our_code

        section = f"app:{self._app_name or 'main'}"
        is_ours = is_our_code(self._file.use_of(section))
        return f"{self._path} [{section}]" if is_ours else str(self)


@dataclass(frozen=True)
class ModuleTarget:
    """An application in a module, or what a function in it gives back."""

    module: str
    attribute: str
    is_factory: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}{'()' if self.is_factory else ''}"

    def set_up_logging(self) -> None:
        """Leave logging to the default."""

    def tell_of_defaults(self, settings: Settings) -> None:
        """Log nothing: nobody looks for settings in a module."""

    def choose(self, app_name: str) -> None:
        """Refuse the name of an application: this one has no others beside it."""
        if app_name:
            raise UsageError(f"{self}: --app-name is for INI files")

    @property
    def written_settings(self) -> dict[str, object]:
        """No settings: a module has none."""
        return {}

    @property
    def place(self) -> str:
        """No place for them, either."""
        return ""

    @property
    def has_section(self) -> bool:
        """No section."""
        return False

    def load(self) -> WSGIApplication:
        """Import the application. Raises LoadError."""
        found: object = self._import()
        path = self.module
        for name in self.attribute.split("."):
            if not hasattr(found, name):
                hint = did_you_mean(name, dir(found))
                raise LoadError(f"cannot load {self}: {path} has no {name}{hint}")
            found = getattr(found, name)
            path = f"{path}.{name}"
        if self.is_factory:
            if not callable(found):
                raise LoadError(f"cannot load {self}: {path} cannot be called")
            try:
                found = found()
            except (Exception, SystemExit) as error:  # whatever a factory raises
                raise LoadError(_traced(str(self), error)) from error
        if not callable(found):
            raise LoadError(
                f"cannot load {self}: a {type(found).__name__} is no WSGI application"
            )
        return found

    def _import(self) -> object:
        try:
            return importlib.import_module(self.module)
        except (Exception, SystemExit) as error:  # whatever a module raises
            if isinstance(error, ModuleNotFoundError) and self._is_missing(error.name):
                raise LoadError(
                    f"cannot load {self}: no module named {error.name}"
                ) from error
            raise LoadError(_traced(str(self), error)) from error

    def _is_missing(self, name: str | None) -> bool:
        """Tell the module that was asked for from one that it imports in vain."""
        return name is not None and f"{self.module}.".startswith(f"{name}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _traced(target: str, error: BaseException) -> str:
    """Say that ``target`` failed, with the frames that are the application's."""
    said = f"cannot load {target}: {type(error).__name__}: {_one_line(error)}"
    traced = traceback.TracebackException.from_exception(error)
    is_told = isinstance(error, SyntaxError)  # it has its place in its text
    link: traceback.TracebackException | None = traced
    while link is not None:
        link.stack = traceback.StackSummary.from_list(
            [frame for frame in link.stack if not _is_machinery(frame.filename)]
        )
        is_told = is_told or bool(link.stack)
        link = link.__cause__ or link.__context__
    return f"{said}\n{''.join(traced.format()).rstrip()}" if is_told else said


def _is_machinery(filename: str) -> bool:
    parts = Path(filename).parts
    return (
        filename.startswith("<frozen importlib")
        or filename in (__file__, importlib.__file__)
        or parts[-3:-1] in (("paste", "deploy"), ("importlib", "metadata"))
    )
