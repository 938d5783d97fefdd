"""PasteDeploy's door: ``use = egg:paste_ajp`` in a server section.

PasteDeploy knows two kinds of server. A *factory* is called while the file is
loaded and gives back what will serve; a *runner* is called with the application
and serves at once. pserve and its like load the server before the application,
so the factory checks the settings and binds the addresses at once: a mistake is
heard of before a slow application is loaded. Both raise SettingError and
BindError as they are; pserve would turn a SystemExit into exit status 0.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, overload
from urllib.parse import quote

from paste.deploy import loadapp

from paste_ajp.inifile import (
    LOADER_KEYS,
    Hidden,
    IniFile,
    ServerSection,
    naming_the_option,
)
from paste_ajp.logs import server_log
from paste_ajp.options import (
    SettingError,
    by_folded_name,
    convert,
    fold,
    is_secret_name,
    telling,
)
from paste_ajp.serving import Server, close_databases
from paste_ajp.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: flup had no limit of threads (``sys.maxsize``); ours is this.
MOST_THREADS: Final = 1000


#: What the section is called that is loaded unless another is asked for.
_MAIN: Final = frozenset({"server", "server:main"})


class Runner:
    """A bound server that waits for its application; what factories give back."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self, application: WSGIApplication) -> None:
        """Serve ``application`` and return when the server was stopped."""
        self.server.application = application
        self.server.run()


def server_factory(global_conf: Mapping[str, str] | None, /, **given: str) -> Runner:
    """Check the settings, bind the addresses, and give back what will serve.

    Raises SettingError and BindError, whose texts say what to change.
    """
    return _factory(global_conf or {}, given)


@overload
def server_runner(
    application: Mapping[str, str], global_conf: None = None, /, **given: str
) -> Runner: ...


@overload
def server_runner(
    application: WSGIApplication, global_conf: Mapping[str, str] | None, /, **given: str
) -> None: ...


def server_runner(
    application: WSGIApplication | Mapping[str, str],
    global_conf: Mapping[str, str] | None = None,
    /,
    **given: str,
) -> Runner | None:
    """Serve ``application`` and return when the server was stopped.

    ``use = call:paste_ajp.deploy:server_runner`` makes PasteDeploy call this as
    if it were a factory, with global_conf alone; then it is one.
    """
    if isinstance(application, Mapping):
        return server_factory(application, **given)
    server_factory(global_conf, **given)(application)
    return None


def fork_server_factory(
    global_conf: Mapping[str, str] | None, /, **given: str
) -> Runner:
    """Do as :func:`server_factory`, with flup's ``ajp_fork`` in mind.

    Several processes of one thread each, for applications that know no threads.
    flup's minSpare and maxSpare counted processes there; here their number is
    fixed: maxChildren (processes), else maxSpare, else 5.
    """
    return _factory(global_conf or {}, given, in_fork_terms)


@overload
def fork_server_runner(
    application: Mapping[str, str], global_conf: None = None, /, **given: str
) -> Runner: ...


@overload
def fork_server_runner(
    application: WSGIApplication, global_conf: Mapping[str, str] | None, /, **given: str
) -> None: ...


def fork_server_runner(
    application: WSGIApplication | Mapping[str, str],
    global_conf: Mapping[str, str] | None = None,
    /,
    **given: str,
) -> Runner | None:
    """Do as :func:`server_runner`, with flup's ``ajp_fork`` in mind."""
    if isinstance(application, Mapping):
        return fork_server_factory(application, **given)
    fork_server_factory(global_conf, **given)(application)
    return None


def in_fork_terms(given: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the options of flup's ``ajp_fork`` to settings.

    Raises SettingError for one that does not fit, by the name that it had.
    """
    settings: dict[str, Any] = {}
    max_spare = ""
    for name, value in given.items():
        if fold(name) == "maxspare":
            max_spare = name
        elif fold(name) == "timeout":  # how long a child waited for its front end
            for meant in ("read_timeout", "keep_alive_timeout"):
                if value and not any(fold(other) == fold(meant) for other in given):
                    settings[meant] = _converted(meant, name, value)
        elif fold(name) != "minspare":
            settings[name] = value
    names = {fold(name) for name in settings}
    if not names & {"threads", "maxthreads"}:
        settings["threads"] = 1
    if not names & {"processes", "maxchildren"}:
        settings["processes"] = (
            _converted("processes", max_spare, given[max_spare]) if max_spare else 5
        )
    return settings


def _converted(meant: str, written: str, value: object) -> Any:  # as the setting's own
    """Convert the value of a setting that was written by flup's name for another."""
    row = by_folded_name(Settings.rows())[fold(meant)]
    with telling(spellings={meant: written}):
        return convert(meant, row.convert, value)


def in_thread_terms(given: Mapping[str, Any]) -> dict[str, Any]:
    """Let flup's minSpare and maxSpare stand without maxThreads, as they did.

    flup knew no limit of threads: without one there are as many as the spare ones
    demand. A maxSpare below minSpare meant minSpare.
    """
    settings = dict(given)
    names = {fold(name): name for name in settings}
    spare = {
        folded: int(str(settings[names[folded]]))
        for folded in ("minspare", "minsparethreads", "maxspare")
        # What is no number is the settings' own business.
        if folded in names
        and re.fullmatch(r"\s*[0-9]{1,4}\s*", str(given[names[folded]]))
    }
    least = spare.get("minspare", spare.get("minsparethreads", 0))
    most = spare.get("maxspare", 0)
    if 0 < most < least:
        settings[names["maxspare"]] = most = least
    if not names.keys() & {"threads", "maxthreads"}:
        default = Settings().threads
        if max(least, most) > default:
            settings["threads"] = min(max(least, most), MOST_THREADS)
    return settings


def _factory(
    global_conf: Mapping[str, str],
    given: Mapping[str, str],
    translate: Callable[[Mapping[str, Any]], dict[str, Any]] = in_thread_terms,
) -> Runner:
    given = {name: text for name, text in given.items() if name not in LOADER_KEYS}
    ini = _ini_file(global_conf)
    if ini is not None:
        given = with_hidden_settings(ini, given)
    section = None if ini is None else _section_of(ini, given)
    place = "" if ini is None else _place(ini.path, section.name if section else None)
    with telling(place=place):
        written = translate(given)
        settings = Settings.parse(written)
    source = None
    if ini is not None:
        source = IniSource(
            ini.path,
            ini.global_additions(),
            settings.app_name or None,
            None if section is None else section.name,
            dict(given),
            translate,
        )
    server = Server(
        None,
        settings,
        load_application=source.application if source is not None else None,
        source=source,
    )
    with telling(place=place, spellings=Settings.spellings(written)):
        server.bind()
    return Runner(server)


def _place(path: str, section: str | None) -> str:
    return path if section is None else f"{path} [{section}]"


@dataclass(frozen=True)
class IniSource:
    """An INI file, for processes that load it each for itself.

    ``section`` is the server section as the file calls it, None where ``given`` is all
    that is known of it; ``translate`` makes settings of what it says.
    """

    path: str
    global_conf: Mapping[str, str]
    app_name: str | None
    section: str | None
    given: Mapping[str, str]
    translate: Callable[[Mapping[str, Any]], dict[str, Any]]

    def set_up_logging(self) -> None:
        """Log as the file says, as the program did that has loaded us."""
        IniFile(self.path, self.global_conf).set_up_logging()

    def settings(self) -> Settings:
        """Read the settings anew. Raises SettingError."""
        stated: Mapping[str, str] = self.given
        if self.section is not None:
            name = self.section.partition(":")[2].strip() or None
            stated = IniFile(self.path, self.global_conf).server(name).stated
        with telling(place=_place(self.path, self.section)):
            return Settings.parse(self.translate(stated))

    def application(self) -> WSGIApplication:
        """Load the application."""
        with naming_the_option():
            application: WSGIApplication = loadapp(
                f"config:{quote(self.path)}",
                name=self.app_name,
                global_conf=dict(self.global_conf),
            )
        return application

    def close(self) -> None:
        """Close what an application leaves open for its program to close."""
        close_databases()


def _ini_file(global_conf: Mapping[str, str]) -> IniFile | None:
    """Open the file that is being loaded, when it is an INI file."""
    path = global_conf.get("__file__")
    if not path:
        return None
    try:
        return IniFile(path, global_conf)
    except (OSError, UnicodeDecodeError, configparser.Error, SettingError):
        return None  # a loader of another kind has read it in its own way


# -- Settings that PasteDeploy drops


def with_hidden_settings(ini: IniFile, given: Mapping[str, str]) -> dict[str, str]:
    """Add to ``given`` what the section says and PasteDeploy has dropped.

    The section's own value is what counts, and a warning says so. PasteDeploy
    does not tell which section it has read, so it is told by what it delivers;
    where two could be meant that hide different values, the main one is, with a
    warning, and without a main one SettingError is raised.
    """
    sections = [s for s in _readable_servers(ini) if s.delivered == dict(given)]
    sections = [section for section in sections if section.is_ours] or sections
    if not any(section.hidden for section in sections):
        return dict(given)
    main = [section for section in sections if section.name in _MAIN]
    first = (main or sections)[0]
    for other in sections:
        if other.stated != first.stated:
            unclear = _ambiguous(ini, first, other)
            if not main:
                raise unclear
            server_log.warning("%s", unclear)
    for hidden in first.hidden.values():
        if hidden.stated != hidden.global_value:
            _warn(hidden)
    return first.stated


def _section_of(ini: IniFile, given: Mapping[str, str]) -> ServerSection | None:
    """Find the section that says just this."""
    for section in _readable_servers(ini):
        if section.stated == dict(given):
            return section
    return None


def _readable_servers(ini: IniFile) -> list[ServerSection]:
    sections = []
    for name in ini.server_names():
        try:
            sections.append(ini.server(name))
        except (LookupError, OSError, configparser.Error, SettingError) as error:
            # Not the one that is being loaded: PasteDeploy has read that.
            server_log.debug("%s: [server:%s]: %s", ini.path, name, error)
    return sections


def _warn(hidden: Hidden) -> None:
    name = hidden.name
    secret = is_secret_name(name)
    server_log.warning(
        "%s: [%s] sets %s = %s, and %s sets %s%s, for which PasteDeploy drops the"
        " former. Using [%s]. Rename the latter, or if it shall decide, write"
        " %s = %%(%s)s in [%s].",
        hidden.path,
        hidden.section,
        name,
        "..." if secret else hidden.stated,
        hidden.hidden_by,
        name,
        " too" if secret else f" = {hidden.global_value}",
        hidden.section,
        name,
        name,
        hidden.section,
    )


def _ambiguous(
    ini: IniFile, first: ServerSection, other: ServerSection
) -> SettingError:
    """Say which setting two sections state differently, both hidden."""
    name = next(
        name
        for name in first.hidden | other.hidden
        if first.stated.get(name) != other.stated.get(name)
    )
    by = (first.hidden | other.hidden)[name].hidden_by
    taken = f"[{first.name}] is used; " if first.name in _MAIN else ""
    return SettingError(
        name,
        first.stated.get(name),
        f"[{first.name}] and [{other.name}] set it differently, and PasteDeploy does"
        f" not tell which of them it loads, as {by} sets it too; {taken}to have each"
        f" section's own, call the one of {by} otherwise, say my_{name}, and refer to"
        f" it as %(my_{name})s where it is wanted",
        ini.path,
    )
