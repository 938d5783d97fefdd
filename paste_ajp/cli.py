"""The shell's door: ``paste-ajp`` and ``python -m paste_ajp``.

Exit status: 0 when all went well, 1 when an application could not be loaded or
an address not be bound, 2 for wrong usage or settings. An error is one line on
stderr; an application that fails while it is imported shows its traceback too.
"""

from __future__ import annotations

import argparse
import configparser
import importlib
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import quote

from paste_ajp import options
from paste_ajp.commands.output import forget_stdout
from paste_ajp.engine.signals import Start, StopAsked, let_in_stops, starting
from paste_ajp.logs import log_to_stderr, server_log
from paste_ajp.options import SettingError, telling
from paste_ajp.serving import (
    BindError,
    ChildrenFailed,
    Server,
    check_trace,
    close_databases,
    demand_secret,
)
from paste_ajp.settings import Settings
from paste_ajp.version import VERSION

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from paste_ajp.inifile import ServerSection

PROG = "paste-ajp"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


class UsageError(Exception):
    """What was asked for makes no sense; the text says why."""


class LoadError(Exception):
    """An application that cannot be had; the text may have several lines."""


class Command(NamedTuple):
    """One sub-command: ``add_arguments`` fills its parser, ``run`` does it.

    One that ``is_server`` handles stop signals, and lets in what was held back.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    is_server: bool = False


def command_in(
    module: str,
    name: str,
    help: str,  # noqa: A002 - as argparse
    *,
    is_server: bool = False,
) -> Command:
    """Make a command of a module that is imported when the command is given.

    What one command needs another does not load: serve would start 15 ms later, with
    1.5 MB more, and keep them.
    """

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        importlib.import_module(module).add_arguments(parser)

    def run(arguments: argparse.Namespace) -> int:
        status: int = importlib.import_module(module).run(arguments)
        return status

    return Command(name, help, add_arguments, run, is_server)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that states an error in one line.

    `fill` adds its arguments, when they are needed: complete() calls it.
    """

    fill: Callable[[argparse.ArgumentParser], None] | None = None
    #: Whose flags may be spelled in any way, but given once.
    rows: Sequence[options.Row] = ()

    def complete(self) -> None:
        """Add the arguments unless that is done."""
        if self.fill is not None:
            self.fill(self)
            self.fill = None

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(  # type: ignore[override]  # it has overloads for two types
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; what is unknown to a sub-command is its own error, not main's."""
        self.complete()
        if args is not None and self.rows:
            try:
                args = options.spell_flags(args, self.rows)
            except ValueError as error:
                self.error(str(error))
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return found, unknown

    def _unknown(self, words: Sequence[str]) -> str:
        flag = next((word for word in words if word.startswith("-")), words[0])
        name = flag.partition("=")[0]
        hint = options.did_you_mean(name, self._option_string_actions)
        return f"no such {'flag' if name.startswith('-') else 'argument'}: {name}{hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names and give back the exit status."""
    arguments = make_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        if not arguments.is_server:
            let_in_stops()
        status = run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # a reader who left is noticed here, not at exit
        return status
    except (UsageError, SettingError) as error:
        return _fail(error, EXIT_USAGE)
    except (LoadError, BindError, ChildrenFailed) as error:
        return _fail(error, EXIT_FAILED)
    except StopAsked:
        log_to_stderr()  # it may come before the program's own logging stands
        server_log.info("asked to stop: the start is given up")
        return EXIT_OK
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:
        forget_stdout()  # whoever read our output has had enough of it
        return EXIT_FAILED


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = _Parser(prog=PROG, description="An AJP/1.3 server for WSGI applications.")
    parser.add_argument("--version", action="version", version=f"{PROG} {VERSION}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            allow_abbrev=False,
        )
        one.fill = command.add_arguments
        one.set_defaults(run=command.run, is_server=command.is_server)
    return parser


def _fail(error: Exception, status: int) -> int:
    print(f"{PROG}: {error}", file=sys.stderr)
    return status


# -- serve


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{PROG} serve [flags] APP [name=value ...]"
    parser.add_argument(
        "application",
        metavar="APP",
        help="an INI file, or FILE#NAME for [app:NAME] in it; module:attribute;"
        " or module:factory()",
    )
    parser.add_argument(
        "variables",
        nargs="*",
        default=[],  # argparse would demand one otherwise
        metavar="name=value",
        help="what %%(name)s means in the INI file",
    )
    parser.add_argument(
        "--server-name",
        metavar="NAME",
        help="take settings from [server:NAME] of the INI file; default: main",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check the settings, load the application, and exit",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log at level DEBUG"
    )
    options.add_flags(parser, Settings.rows())
    if isinstance(parser, _Parser):
        parser.rows = Settings.rows()


def _run_serve(arguments: argparse.Namespace) -> int:
    """Serve an application until a signal ends it."""
    if arguments.check:
        let_in_stops()  # what was not checked to its end is not fine
        return _start_and_serve(arguments, Start())
    with starting() as start:
        return _start_and_serve(arguments, start)


def _start_and_serve(arguments: argparse.Namespace, start: Start) -> int:
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)  # as python -m does for its module
    flags = {
        row.name: vars(arguments)[row.name]
        for row in Settings.rows()
        if row.name in vars(arguments)
    }
    source = CommandLine(
        arguments.application,
        tuple(arguments.variables),
        arguments.server_name,
        flags,
        arguments.verbose,
        here,
    )
    target = source.target()
    source = replace(source, reads_section=target.has_section)
    source.set_up_logging()
    settings = source.settings_of(target)
    target.tell_of_defaults(settings)
    target.choose(settings.app_name)
    server = Server(None, settings, load_application=target.load, source=source)
    if arguments.check:
        # An inherited descriptor is judged by its socket, when it is bound.
        known = [a for a in settings.addresses if a.kind != "fd"]
        with source.placing(target):
            demand_secret(settings, known)
            check_trace(settings.trace)
        target.load()
        print(f"{target}: settings and application are fine")
        return EXIT_OK
    try:
        with source.placing(target), start.undivided():
            server.bind()  # before the application is loaded, which may take long
        server.run()
    finally:
        start.over()
        server.close()  # unless run() has come to that
        source.close()
    return EXIT_OK


@dataclass(frozen=True)
class CommandLine:
    """What ``serve`` was given, for processes that load it each for itself."""

    application_text: str
    variables: tuple[str, ...]
    server_name: str | None
    flags: Mapping[str, object]
    is_verbose: bool
    folder: str
    reads_section: bool = False  # the INI file had one for us at the start

    def target(self) -> IniTarget | ModuleTarget:
        """Find what is to be served, the file read anew."""
        path, separator, name = self.application_text.partition("#")
        if Path.cwd() != Path(self.folder):  # the application may have changed it
            path = str(Path(self.folder) / path)
        return find_target(path + separator + name, self.variables, self.server_name)

    def set_up_logging(self) -> None:
        """Log as the file says, and to stderr where nothing else is said."""
        self.target().set_up_logging()
        log_to_stderr(logging.DEBUG if self.is_verbose else logging.INFO)
        if self.is_verbose:
            logging.getLogger("paste_ajp").setLevel(logging.DEBUG)

    def settings(self) -> Settings:
        """Read the settings anew, the flags above what a file says.

        Raises UsageError where the file has a server section for us no more: nobody
        means defaults then.
        """
        target = self.target()
        if self.reads_section and not target.has_section:
            raise UsageError(
                f"{target.place}: the server section that was there at the"
                " start is gone, or is for another server now; expected one with use ="
                " egg:paste_ajp"
            )
        return self.settings_of(target)

    def settings_of(self, target: IniTarget | ModuleTarget) -> Settings:
        """Give the settings of a file that is read already, and of the flags."""
        with self.placing(target):
            return Settings.parse(merged(target.written_settings, self.flags))

    @contextmanager
    def placing(self, target: IniTarget | ModuleTarget) -> Iterator[None]:
        """Have a SettingError tell where it stands in a file, if not in the flags.

        Of the settings that it is about the first that was given at all decides.
        """
        written = kept(target.written_settings, self.flags)
        try:
            yield
        except SettingError as error:
            about = (error.name, *error.beside)
            given = [name for name in about if name in {**written, **self.flags}]
            is_of_file = bool(given) and given[0] in written
            told = error.spelled(written)
            raise (told.at(target.place) if is_of_file else told) from error.__cause__

    def application(self) -> WSGIApplication:
        """Load the application. Raises LoadError."""
        target = self.target()
        target.choose(self.settings_of(target).app_name)
        return target.load()

    def close(self) -> None:
        """Close what an application leaves open for its program to close."""
        close_databases()


def merged(
    written: Mapping[str, object], flags: Mapping[str, object]
) -> dict[str, object]:
    """Let flags override what a file says.

    ``listen`` and ``host`` with ``port`` say the same thing in two ways, so
    either one, as a flag, overrides the other one too.
    """
    return {name: written[name] for name in kept(written, flags).values()} | dict(flags)


def kept(written: Mapping[str, object], flags: Mapping[str, object]) -> dict[str, str]:
    """Find what flags leave of a file: the settings' names, each with the file's."""
    overridden = set(flags)
    if "listen" in flags:
        overridden |= {"host", "port"}
    elif overridden & {"host", "port"}:
        overridden.add("listen")
    if overridden & {"secret", "secret_file"}:
        overridden |= {"secret", "secret_file"}
    spellings = Settings.spellings(written)
    return {name: own for name, own in spellings.items() if name not in overridden}


# -- What can be served


def find_target(
    text: str, variables: Sequence[str] = (), server_name: str | None = None
) -> IniTarget | ModuleTarget:
    """Tell an INI file from a module. Raises UsageError for neither."""
    path, _, name = text.partition("#")
    if Path(path).is_file() or Path(path).suffix in (".ini", ".cfg", ".conf"):
        return IniTarget(path, name or None, server_name, _as_pairs(variables))
    match = re.fullmatch(r"([\w.]+):([\w.]+)(\(\))?", text)
    if not match:
        raise UsageError(
            f"{text}: expected an INI file, module:attribute or module:factory()"
        )
    if variables or server_name:
        raise UsageError(f"{text}: name=value and --server-name are for INI files")
    return ModuleTarget(match[1], match[2], is_factory=bool(match[3]))


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
        if section is not None:
            code = section.code or "another server"
            reason = f"[{section.name}] is for {code}; its settings are not used"
            advice = "--server-name names another section"
        elif names:
            reason = f"no [server:main], and --server-name is not given for {names[0]}"
            if len(names) > 1:
                reason += f" or {', '.join(names[1:])}"
            advice = "give it, or write [server:main] with use = egg:paste_ajp"
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
        """Load the application. Raises LoadError."""
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
        except (Exception, SystemExit) as error:  # whatever an application raises
            raise LoadError(_traced(str(self), error)) from error
        return application


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
                hint = options.did_you_mean(name, dir(found))
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


# -- settings

_PREFACE = """\
# Settings

<!-- Written by: paste-ajp settings --markdown -->

Each setting can be written in the server section of an INI file, as a keyword
argument of `paste_ajp.serve` and as a flag of `paste-ajp serve`. Case, `_` and
`-` in a name do not matter: `script_name`, `scriptName` and `script-name` are
one. A setting that does not exist, or that is given twice, is refused.

"""


def _add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as the page in docs/")
    form.add_argument("--ini", action="store_true", help="as a section to fill in")


def _run_settings(arguments: argparse.Namespace) -> int:
    """Print the table of settings."""
    rows = Settings.rows()
    if arguments.markdown:
        text = _PREFACE + options.as_markdown(rows)
    elif arguments.ini:
        text = options.as_ini(rows, "server:main", ["use = egg:paste_ajp"])
    else:
        text = options.as_text(rows)
    sys.stdout.write(text)
    return EXIT_OK


#: All commands, in the order of --help. A new one is a line here.
COMMANDS: tuple[Command, ...] = (
    Command(
        "serve",
        "Serve a WSGI application.",
        _add_serve_arguments,
        _run_serve,
        is_server=True,
    ),
    Command(
        "settings",
        "Print every setting and what it does.",
        _add_settings_arguments,
        _run_settings,
    ),
    command_in(
        "paste_ajp.commands.ping", "ping", "Ask an AJP server for a sign of life."
    ),
    command_in(
        "paste_ajp.commands.request",
        "request",
        "Send a request over AJP, as curl would.",
    ),
    command_in(
        "paste_ajp.commands.gateway",
        "gateway",
        "Open an HTTP port in front of an AJP server.",
        is_server=True,
    ),
    command_in(
        "paste_ajp.commands.explain",
        "explain",
        "Make captured AJP packets readable.",
    ),
)
