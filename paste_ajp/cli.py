"""The shell's door: ``paste-ajp`` and ``python -m paste_ajp``.

Exit status: 0 when all went well, 1 when an application could not be loaded, an
address not be bound or the output not be written, 2 for wrong usage or settings. An
error is one line on stderr; an application that fails while it is imported shows its
traceback too.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from paste_ajp import options
from paste_ajp.commands.output import (
    OutputError,
    complain,
    flush_stdout,
    forget_stdout,
    say,
)
from paste_ajp.engine.signals import Start, StopAsked, let_in_stops, starting
from paste_ajp.logs import log_to_stderr, server_log
from paste_ajp.options import SettingError
from paste_ajp.protocol import codes
from paste_ajp.serving import (
    BindError,
    ChildrenFailed,
    Server,
    check_trace,
    close_databases,
    demand_secret,
)
from paste_ajp.settings import Settings
from paste_ajp.targets import (
    IniTarget,
    LoadError,
    ModuleTarget,
    UsageError,
    find_target,
)
from paste_ajp.version import VERSION

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

PROG = "paste-ajp"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


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
    #: Whose flags may be spelled in any way, but given once; ``typed`` of what is
    #: parsed has the spellings.
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
        typed: dict[str, str] = {}
        if args is not None and self.rows:
            try:
                args, typed = options.spell_flags(args, self.rows)
            except ValueError as error:
                self.error(str(error))
        found, unknown = super().parse_known_args(args, namespace)
        if self.rows:
            found.typed = typed
        if unknown:
            self.error(self._unknown(unknown))
        return found, unknown

    def _print_message(self, message: str, file: object = None) -> None:
        """Print; argparse says nothing of a help that did not arrive."""
        if file is not None and file is sys.stdout:
            say(message)
            flush_stdout()
        else:
            complain(message.rstrip("\n"))

    def _unknown(self, words: Sequence[str]) -> str:
        flag = next((word for word in words if word.startswith("-")), words[0])
        name = flag.partition("=")[0]
        hint = options.did_you_mean(name, self._option_string_actions)
        return f"no such {'flag' if name.startswith('-') else 'argument'}: {name}{hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names and give back the exit status."""
    try:
        arguments = make_parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = arguments.run
        if not arguments.is_server:
            let_in_stops()
        status = run(arguments)
        flush_stdout()  # a reader who left is noticed here, not at exit
        return status
    except (UsageError, SettingError) as error:
        return _fail(error, EXIT_USAGE)
    except (LoadError, BindError, ChildrenFailed) as error:
        return _fail(error, EXIT_FAILED)
    except StopAsked:
        log_to_stderr()  # it may come before the program's own logging stands
        server_log.info("asked to stop: the start is given up")
        return EXIT_OK
    except OutputError as error:
        complain(f"{PROG}: stdout: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:
        forget_stdout()  # whoever read our output has had enough of it
        return EXIT_FAILED


def _version() -> str:
    """Say which version this is, and whether the hot path is compiled (setup.py)."""
    compiled = "" if codes.__file__.endswith(".py") else " (compiled)"
    return f"{PROG} {VERSION}{compiled}"


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = _Parser(prog=PROG, description="An AJP/1.3 server for WSGI applications.")
    parser.add_argument("--version", action="version", version=_version())
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
    complain(f"{PROG}: {error}")
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
        arguments.typed,
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
        say(f"{target}: settings and application are fine\n")
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
    typed: Mapping[str, str]  # the flags as they were spelled
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
                f"{target.place}: the server section that was there at the start is"
                " gone, or has no use = egg:paste_ajp any more; expected it as it was"
            )
        return self.settings_of(target)

    def settings_of(self, target: IniTarget | ModuleTarget) -> Settings:
        """Give the settings of a file that is read already, and of the flags."""
        with self.placing(target):
            return Settings.parse(merged(target.written_settings, self.flags))

    @contextmanager
    def placing(self, target: IniTarget | ModuleTarget) -> Iterator[None]:
        """Have a SettingError tell where it stands in a file, or which flag it is.

        Of the settings that it is about the first that was given at all decides.
        """
        written = kept(target.written_settings, self.flags)
        try:
            yield
        except SettingError as error:
            about = (error.name, *error.beside)
            given = [name for name in about if name in {**written, **self.flags}]
            is_of_file = bool(given) and given[0] in written
            told = error.spelled({**self.typed, **written})
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
    say(text)
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
