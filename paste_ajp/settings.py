"""Every setting, one row each.

INI keys, flags, keyword arguments, the documentation and the error messages all
follow from the rows, so adding a setting is adding a row. What a row is, and
how a written value becomes one to use, is in options.py.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from paste_ajp.addresses import (
    Address,
    Addresses,
    AllowedServers,
    Host,
    OneAddress,
    Peers,
)
from paste_ajp.options import (
    Account,
    Choice,
    Maybe,
    Mode,
    PathPrefix,
    Row,
    Seconds,
    Secret,
    SettingError,
    Size,
    Switch,
    Text,
    Whole,
    WholeNamePattern,
    convert,
    matched,
    option,
    rows_of,
    spellings_of,
)

_ADDRESS: Final = "Where to listen"
_MOUNT: Final = "Where the application is mounted"
_THREADS: Final = "Threads and processes"
_WIRE: Final = "Packets and front ends"
_TRUST: Final = "Who and what is trusted"
_LIMITS: Final = "Limits"
_TIMES: Final = "Timeouts"
_SIGHT: Final = "Looking inside"

_TERABYTE: Final = 1024**4
_COUNT: Final = 1_000_000

#: Names of other servers, in their spelling, whose meaning or unit is not ours.
FOREIGN: Final[Mapping[str, str]] = {
    "tomcatAuthentication": "no such setting; trust_remote_user is its inverse",
    "tomcatAuthorization": "no such setting; see trust_remote_user",
    "connectionTimeout": "Tomcat's is in milliseconds; set read_timeout, in seconds",
    "keepAliveTimeout": (
        "Tomcat's is in milliseconds; set keep_alive_timeout, in seconds"
    ),
    "connectionUploadTimeout": "no such setting; set read_timeout, in seconds",
    "ajpFlush": "no such setting; what the application yields is flushed always",
    "bindAddress": "no such setting; set host and port, or listen",
    "bind": "no such setting; set host and port, or listen",
    "socket": "no such setting; set listen = unix:/path",
    "unix_socket": "no such setting; set listen = unix:/path",
    "umask": "no such setting; unix_socket_mode gives the permissions themselves",
    "multithreaded": "no such setting; threads = 1 runs one request at a time",
    "multiprocess": "no such setting; see processes",
    "environ": "no such setting; it is an argument of WSGIServer alone",
    "timeout": "no such setting; which of read_timeout, write_timeout, "
    "keep_alive_timeout and application_timeout is meant?",
    "workers": "no such setting; did you mean processes or threads?",
    "use_threadpool": "no such setting; the server has threads always",
    "threadpool_workers": "no such setting; did you mean threads?",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the server was told, converted and checked.

    The constructor takes values as they are used or as they are written
    (``threads="8"``), by their own names alone; :meth:`parse` takes every
    spelling. Both raise SettingError.
    """

    host: str = option(
        "127.0.0.1",
        Host(),
        "The host name or IP address to listen on.",
        group=_ADDRESS,
        aliases=["address"],
    )
    port: int = option(
        8009,
        Whole(0, 65535),
        "The TCP port to listen on; 0 takes a free one.",
        group=_ADDRESS,
    )
    listen: tuple[Address, ...] = option(
        (),
        Addresses(),
        "Several addresses to listen on, in place of host and port.",
        group=_ADDRESS,
    )
    backlog: int = option(
        4096,
        Whole(1, 65535),
        "Connections that may wait to be accepted; the kernel may allow fewer.",
        group=_ADDRESS,
        aliases=["acceptCount"],
    )
    unix_socket_mode: int | None = option(
        None,
        Maybe(Mode()),
        "Permissions of the UNIX sockets in listen; without it the umask decides.",
        group=_ADDRESS,
    )
    unix_socket_owner: str | None = option(
        None,
        Maybe(Account("a user's name or number"), word=""),
        "The user who shall own the UNIX sockets in listen.",
        group=_ADDRESS,
    )
    unix_socket_group: str | None = option(
        None,
        Maybe(Account("a group's name or number"), word=""),
        "The group that shall own the UNIX sockets in listen.",
        group=_ADDRESS,
    )

    script_name: str = option(
        "",
        PathPrefix(),
        "The first part of each URL's path that becomes SCRIPT_NAME.",
        group=_MOUNT,
        flup="scriptName",
    )
    removed_prefix: str = option(
        "",
        PathPrefix(),
        "The part of the path that the front end takes away before it asks us, "
        "to be put back as SCRIPT_NAME.",
        group=_MOUNT,
    )
    script_name_mismatch: Literal["serve", "404"] = option(
        "serve",
        Choice("serve", "404"),
        "What becomes of a path outside script_name: served with an empty "
        "SCRIPT_NAME and a warning, once for each first segment of a path, or "
        "answered 404.",
        group=_MOUNT,
    )
    server_name_fallback: str = option(
        "",
        Text("a host name"),
        "SERVER_NAME of a request that names no host; without it, the address "
        "that we listen on.",
        group=_MOUNT,
    )
    unquote_path: bool = option(
        True,
        Switch(),
        "Percent-decode PATH_INFO and SCRIPT_NAME, as PEP 3333 wants; false for "
        "applications that decode them once more, as flup made them do.",
        group=_MOUNT,
        flup="unquotePath",
    )

    threads: int = option(
        8,
        Whole(1, 1000),
        "Worker threads in each process; so many requests run at a time.",
        group=_THREADS,
        flup="maxThreads",
    )
    min_spare: int = option(
        1,
        Whole(1, 1000),
        "Threads that at least wait for work; they are started when fewer do.",
        group=_THREADS,
        flup="minSpare",
        aliases=["minSpareThreads"],
    )
    max_spare: int = option(
        0,
        Whole(0, 1000),
        "Threads that at most wait for work, the others end; 0 keeps them all.",
        group=_THREADS,
        flup="maxSpare",
    )
    processes: int = option(
        1,
        Whole(1, 1000),
        "Processes that serve, each with its threads; with 1 there is no parent, "
        "unless max_requests, max_memory or request_timeout_kill need one.",
        group=_THREADS,
        flup="maxChildren",
    )
    preload: bool = option(
        False,
        Switch(),
        "Load the application once, before the processes part: less memory, but "
        "reloading keeps the old code; false loads it in each, which is what ZODB "
        "and database pools need.",
        group=_THREADS,
    )
    app_name: str = option(
        "",
        Text("the name of an application in the INI file"),
        "Which application of the INI file the processes load, as --app-name of pserve "
        "says it to the first one; main without it.",
        group=_THREADS,
    )
    heartbeat_timeout: float = option(
        30.0,
        Seconds(),
        "Seconds without a sign of life after which a process is replaced, its "
        "stacks in the log; 0 for never.",
        group=_THREADS,
    )
    max_requests: int = option(
        0,
        Whole(0, 10**9),
        "Requests after which a process is replaced by a new one; 0 for never.",
        group=_THREADS,
        flup="maxRequests",
    )
    max_requests_jitter: int = option(
        0,
        Whole(0, 10**9),
        "Up to so many requests are added to max_requests, at random, so that "
        "the processes are not all replaced at once.",
        group=_THREADS,
    )
    max_memory: int = option(
        0,
        Size(0, 1024 * _TERABYTE),
        "Resident bytes beyond which a process is replaced; 0 for no limit.",
        group=_THREADS,
    )
    request_timeout_kill: float = option(
        0.0,
        Seconds(),
        "Seconds of one request after which its process is replaced by force; 0 "
        "for never.",
        group=_THREADS,
    )

    packet_size: int = option(
        8192,
        Size(8192, 65536),
        "The largest packet that we send, with its header, in bytes; not more "
        "than the front end's.",
        group=_WIRE,
    )
    receive_limit: int = option(
        65536,
        Size(8192, 65536),
        "The largest packet that we accept, in bytes; not less than packet_size.",
        group=_WIRE,
    )
    uri_encoding: Literal["auto", "escaped", "decoded"] = option(
        "auto",
        Choice("auto", "escaped", "decoded"),
        "Whether request paths arrive percent-encoded: decoded from lighttpd, "
        "escaped from all others; auto tells them apart.",
        group=_WIRE,
    )
    body_framing: Literal["auto", "standard", "raw"] = option(
        "auto",
        Choice("auto", "standard", "raw"),
        "How request body chunks are framed: raw by lighttpd, standard by all "
        "others; auto tells them apart.",
        group=_WIRE,
    )
    spool_body: bool = option(
        False,
        Switch(),
        "Receive request bodies first, into memory or a temporary file, so that "
        "there is a CONTENT_LENGTH always (Django) and an input that can seek (Zope).",
        group=_WIRE,
    )

    allowed_servers: AllowedServers | None = option(
        None,
        Maybe(Peers(), takes_empty=False),
        "Who may connect; without it, this machine alone where only it can reach "
        "the address, else everybody. UNIX sockets have permissions instead.",
        group=_TRUST,
        flup="allowedServers",
    )
    secret: str | None = option(
        None,
        Secret(),
        "The secret that each request must bring; the front end has a setting of "
        "the same name.",
        group=_TRUST,
        aliases=["requiredSecret"],
        secret=True,
    )
    secret_file: str | None = option(
        None,
        Maybe(Text("the path of a file"), word="", takes_empty=False),
        "A file whose first line is the secret. A relative path counts from the "
        "current folder; in an INI file %(here)s stands for the file's own.",
        group=_TRUST,
    )
    secret_required: bool | None = option(
        None,
        Maybe(Switch(), word="auto"),
        "Refuse to start without a secret; auto does so when an address can be "
        "reached from other machines.",
        group=_TRUST,
    )
    trust_remote_user: bool = option(
        True,
        Switch(),
        "Pass on the user whom the front end has authenticated, as REMOTE_USER "
        "and AUTH_TYPE.",
        group=_TRUST,
    )
    allowed_request_attributes: re.Pattern[str] | None = option(
        None,
        Maybe(WholeNamePattern()),
        "Request attributes that enter environ besides the well-known ones.",
        group=_TRUST,
        aliases=["allowedRequestAttributesPattern"],
    )
    strict: bool = option(
        False,
        Switch(),
        "Refuse what is otherwise tolerated: unknown request attributes (403), "
        "dot segments, backslashes and control characters in paths (400), odd body "
        "chunks.",
        group=_TRUST,
    )

    max_request_body: int = option(
        0,
        Size(0, 1024 * _TERABYTE),
        "The largest request body in bytes, a larger one is answered 413; 0 for "
        "no limit.",
        group=_LIMITS,
    )
    max_request_headers: int = option(
        200,
        Whole(1, 10_000),
        "The most headers of a request, more are answered 431.",
        group=_LIMITS,
    )
    max_header_bytes: int = option(
        65536,
        Size(256, 65536),
        "The most bytes of a request's header names and values together, more "
        "are answered 431.",
        group=_LIMITS,
    )
    max_connections: int = option(
        16384,
        Whole(0, _COUNT),
        "Connections of a process at a time; where more wait in the backlog, idle "
        "ones are closed. 0 for as many as the limit of descriptors allows, which "
        "leaves some to the application.",
        group=_LIMITS,
    )

    max_unsent: int = option(
        64 * 1024**2,
        Size(0, 1024 * _TERABYTE),
        "Bytes of responses that a process keeps, at the most, while their front ends "
        "do not take them: lists and files whose application call is over need no "
        "thread for that. Beyond it, and with 0 always, a thread waits.",
        group=_LIMITS,
    )

    graceful_timeout: float = option(
        30.0,
        Seconds(),
        "Seconds that running requests get to end when the server stops.",
        group=_TIMES,
    )
    read_timeout: float = option(
        30.0,
        Seconds(),
        "Seconds to wait for the rest of a packet or for a body chunk that is "
        "due; 0 for ever.",
        group=_TIMES,
    )
    write_timeout: float = option(
        60.0,
        Seconds(),
        "Seconds to wait for a front end that takes no more data; 0 for ever.",
        group=_TIMES,
    )
    keep_alive_timeout: float = option(
        0.0,
        Seconds(),
        "Seconds after which an idle connection is closed, to be longer than the "
        "front end's own limit; 0 for never.",
        group=_TIMES,
    )
    queue_timeout: float = option(
        30.0,
        Seconds(),
        "Seconds that a request may wait for a thread before it is answered 503; "
        "0 for ever.",
        group=_TIMES,
    )
    application_timeout: float = option(
        0.0,
        Seconds(),
        "Seconds of one request after which it is reported with the stack of its "
        "thread; 0 for never.",
        group=_TIMES,
    )
    application_timeout_action: Literal["report", "answer"] = option(
        "report",
        Choice("report", "answer"),
        "What follows application_timeout: the report alone, or also an answer "
        "504 where none has begun.",
        group=_TIMES,
    )

    debug: bool = option(
        False,
        Switch(),
        "Show tracebacks to browsers; never where strangers can come.",
        group=_SIGHT,
    )
    access_log: bool = option(
        False,
        Switch(),
        "Log each request to paste_ajp.access in the combined format; what is too"
        " malformed to be one stands in the log of paste_ajp.protocol alone.",
        group=_SIGHT,
    )
    trace: str | None = option(
        None,
        Maybe(Text("the path of a file"), word=""),
        "A file to write each packet to, decoded; secrets and cookies are masked."
        " SIGUSR1 switches that off and on, also without this setting.",
        group=_SIGHT,
    )
    http: Address | None = option(
        None,
        Maybe(OneAddress()),
        "An address that serves HTTP by way of the AJP port, for development.",
        group=_SIGHT,
    )

    def __post_init__(self) -> None:
        """Convert each value, then check what two rows forbid together."""
        for row in self.rows():
            value = convert(row.name, row.convert, getattr(self, row.name))
            object.__setattr__(self, row.name, value)
        if self.min_spare > self.threads:
            raise SettingError(
                "min_spare",
                self.min_spare,
                f"more than {{threads}} = {self.threads}",
                beside=["threads"],
            )
        if self.max_spare and self.min_spare > self.max_spare:
            raise SettingError(
                "min_spare",
                self.min_spare,
                f"more than {{max_spare}} = {self.max_spare}",
                beside=["max_spare"],
            )
        if self.receive_limit < self.packet_size:
            raise SettingError(
                "receive_limit",
                self.receive_limit,
                f"less than {{packet_size}} = {self.packet_size}",
                beside=["packet_size"],
            )
        if self.secret is not None and self.secret_file is not None:
            raise SettingError(
                "secret_file",
                self.secret_file,
                "given with {secret}; one is enough",
                beside=["secret"],
            )
        if self.script_name and self.removed_prefix:
            raise SettingError(
                "removed_prefix",
                self.removed_prefix,
                "given with {script_name}; the front end either takes the prefix"
                " away or leaves it",
                beside=["script_name"],
            )

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Settings:
        """Read settings as a person wrote them, names in any spelling.

        Raises SettingError, whose text says what to write in place of it.
        """
        with matched(cls.rows(), given, FOREIGN) as named:
            cls._check_listen(named)
            return cls(**named)  # type: ignore[arg-type]  # __post_init__ converts

    @staticmethod
    def _check_listen(named: Mapping[str, object]) -> None:
        """Refuse ``host`` or ``port`` beside ``listen``; their defaults are no case."""
        for name in ("host", "port"):
            if named.get("listen") and name in named:
                raise SettingError(
                    "listen",
                    named["listen"],
                    f"given with {{{name}}}; name every address in {{listen}} alone",
                    beside=[name, "listen"],
                )

    @classmethod
    def spellings(cls, given: Mapping[str, object]) -> dict[str, str]:
        """Find which settings ``given`` has: each one's name with the one there.

        Raises SettingError for a name that is no setting's.
        """
        return spellings_of(cls.rows(), given, FOREIGN)

    @classmethod
    def rows(cls) -> tuple[Row, ...]:
        """Give the table itself, to make flags and documents from."""
        return _rows()

    def replace(self, **changes: object) -> Settings:
        """Make a copy in which some settings differ, names in any spelling."""
        with matched(self.rows(), changes, FOREIGN) as named:
            return dataclasses.replace(self, **named)  # type: ignore[arg-type]  # as above

    @property
    def needs_parent(self) -> bool:
        """True where a process must watch over those that serve."""
        return bool(
            self.processes > 1
            or self.max_requests
            or self.max_memory
            or self.request_timeout_kill
        )

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What to listen on: ``listen``, or else ``host`` and ``port``."""
        return self.listen or (Address("tcp", host=self.host, port=self.port),)

    def load_secret(self) -> bytes | None:
        """Give the secret in the bytes that a front end sends; None for no secret.

        Reads ``secret_file`` anew each time. Raises SettingError when the file
        cannot be read, is a pipe or the like, or has no secret in it.
        """
        if self.secret is not None:
            return self.secret.encode()
        if self.secret_file is None:
            return None
        path = Path(self.secret_file)
        try:
            if path.exists() and not path.is_file():
                # A FIFO is waited for, and a terminal; it can be read but once, too.
                raise SettingError(
                    "secret_file", self.secret_file, "expected a regular file"
                )
            content = path.read_bytes()
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise SettingError("secret_file", self.secret_file, problem) from error
        secret = content.partition(b"\n")[0].strip()
        if not secret:
            raise SettingError(
                "secret_file", self.secret_file, "expected the secret in its first line"
            )
        return secret

    def demand_secret(self, addresses: Iterable[Address]) -> None:
        """Refuse to serve at `addresses`, some open to others, without a secret.

        Whoever reaches an AJP port can claim to be any user (Ghostcat, CVE-2020-1938).
        Raises SettingError.
        """
        if self.secret_required is False or self.load_secret() is not None:
            return
        outside = [address for address in addresses if not address.is_local]
        if not self.secret_required and not outside:
            return
        where = ", ".join(map(str, outside)) or "any address"
        raise SettingError(
            "secret_required",
            "auto" if self.secret_required is None else self.secret_required,
            f"{where} needs a secret: set secret here and the same in the front end"
            " (httpd: ProxyPass ... secret=..., mod_jk: worker.NAME.secret), or listen"
            " on 127.0.0.1 or unix:/path, or set secret_required = false",
            beside=("host", "listen") if outside else (),
        )


@functools.cache
def _rows() -> tuple[Row, ...]:
    return rows_of(Settings)
