"""Which children there shall be: the decisions of PreforkServer, without its deeds.

The supervisor is told what happened and when, and acts through Hands. It has no
clock, no process and no signal of its own, so that a test can put hours into
milliseconds.

A child goes through these states:

    LOADING -> READY -> SERVING -> LEAVING

LOADING ends when the child has its application. A READY child waits for its word to
serve: at the start it gets that at once; in a reload all children of the new
generation get it together, when the last of them is ready, and the old ones leave
then. So a new version that does not load changes nothing. A LEAVING child serves no
new connection, and is killed when its time is up.

A child that shall be replaced (it has served enough, it has grown too large) is
`superseded`: it goes on until another serves in its place. One that does not answer, or
that is dead, leaves first and is replaced then.

A stop signal that reaches a child may be on its way to the parent, too: Ctrl-C, and
systemd with KillMode=control-group, send it to all. So what a child does that may come
of one is not judged at once, and nothing is decided meanwhile.

Whatever happens, `_settle` looks what is and what should be, and does the difference.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from paste_ajp.logs import server_log
from paste_ajp.settings import Settings

#: Seconds between two beats of a child.
BEAT_SECONDS: Final = 1.0

#: Seconds a child has to serve for its death to be an accident of its own. Deaths
#: before that, one after another, are taken for a fault that the next has too.
STEADY_SECONDS: Final = 10.0

#: Seconds without such a death after which the earlier ones are forgotten.
FORGIVEN_AFTER: Final = 120.0

#: The longest pause between two starts in a loop of crashes, in seconds.
LONGEST_PAUSE: Final = 60.0

#: Deaths before the first child has ever served, after which the server gives up.
FIRST_TRIES: Final = 3


#: Seconds beyond graceful_timeout after which a leaving child is killed: it has its
#: application to close.
CLOSING_SECONDS: Final = 5.0

#: Seconds that a child gets which is told to stop at once.
STOPPING_SECONDS: Final = 2.0

#: Seconds that a hanging child gets to write its stacks.
STACKS_SECONDS: Final = 1.0

#: Seconds between a stop signal to a child and the same one to the parent, at the most.
#: Longer than a busy system takes, and short for a child that has to be replaced.
ONE_STOP_SECONDS: Final = 0.3

#: Seconds of loading after which the log says where it hangs.
LONG_LOADING: Final = 60.0


class State(enum.Enum):
    """Where a child is in its life."""

    LOADING = "loading"
    READY = "ready"
    SERVING = "serving"
    LEAVING = "leaving"


class Phase(enum.Enum):
    """Where the server as a whole is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    RELOADING = "reloading"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Order(enum.Enum):
    """What a child is told."""

    SERVE = "serve"
    DRAIN = "drain"  # finish what runs, while others take the new connections
    FINISH = "finish"  # finish what runs and what waits: the whole server stops
    STOP = "stop"  # at once


@dataclass(frozen=True, slots=True)
class Beat:
    """What a child says of itself, once in BEAT_SECONDS."""

    connections: int = 0
    requests: int = 0
    memory: int = 0  # resident bytes; 0 where the system does not tell
    longest: float = 0.0  # seconds that the oldest running request has taken
    longest_request: str = ""
    stats: Mapping[str, int] = field(default_factory=dict)


class Hands(Protocol):
    """What the supervisor can do. None of these may block."""

    def start_child(self, number: int, generation: int) -> int:
        """Start a child that is called `number` from here on; give its process id.

        Raises OSError where the system has none to give.
        """

    def order(self, number: int, order: Order) -> None:
        """Tell a child something, if it is there to hear it."""

    def write_stacks(self, number: int) -> None:
        """Have a child's stacks written to the log, soon."""

    def kill(self, number: int) -> None:
        """End a child by force."""


@dataclass(slots=True)
class Child:
    """What is known of one child."""

    number: int
    pid: int
    generation: int
    born: float
    last_beat: float
    state: State = State.LOADING
    served_since: float = 0.0
    beat: Beat = field(default_factory=Beat)
    request_limit: int = 0
    superseded: bool = False
    grown_at: float = 0.0  # when it was first seen above max_memory
    deadline: float = 0.0  # when it is killed, once it is leaving
    long_loading_told: bool = False
    problem: str = ""  # why it could not load, in its own words
    graceful_timeout: float = 0.0  # its own: a reload may bring another

    def __str__(self) -> str:
        return f"child {self.number} (pid {self.pid})"


class Supervisor:
    """Keeps so many children serving as the settings say. For one thread.

    `fatal` says why the server could not start at all, once it has stopped for that.
    """

    def __init__(
        self,
        settings: Settings,
        hands: Hands,
        *,
        random_up_to: Callable[[int], int] = lambda most: random.randint(0, most),
    ) -> None:
        self.settings = settings
        self.target = settings.processes
        self.phase = Phase.STARTING
        self.generation = 1
        self.fatal = ""
        self.children: dict[int, Child] = {}
        #: What children have counted that are gone, and how many were started.
        self.gone_stats: dict[str, int] = {}
        self.started = 0
        self._hands = hands
        self._random_up_to = random_up_to
        self._has_served = False  # any child, ever
        self._early_deaths = 0
        self._last_counted = 0  # the last child that was there at the latest of them
        self._last_death = 0.0
        self._not_before = 0.0  # no child is started sooner
        self._born_grown = 0  # children above max_memory from the start, in a row
        self._growth_not_before = 0.0  # none is replaced for its memory sooner
        self._new_settings: Settings | None = None
        self._reload_again = False
        #: How to judge what children did that may be the stop of all, and when.
        self._unjudged: list[Callable[[], None]] = []
        self._judged_at = 0.0

    # -- what others ask for ------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start the first children."""
        self._settle(now)

    def reload(self, now: float) -> None:
        """Replace all children by new ones that load settings and code anew."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return
        self._judge_unasked_ends()
        if self.phase is Phase.RELOADING:
            server_log.warning(
                "asked to reload anew: what loads at present is given up"
            )
            for child in self._fresh():
                self._dismiss(child, now, Order.STOP)
        elif self.phase is not Phase.SERVING:
            self._reload_again = True
            server_log.info("asked to reload: after what is under way")
            return
        self._reload_again = False
        self.phase = Phase.RELOADING
        self._new_settings = None
        server_log.info("reloading: a new child loads, the old ones go on serving")
        self._start(now, self.generation + 1)
        if not self._fresh():
            self._give_up_reload("no child could be started", now)

    def stop(self, order: Order, now: float) -> None:
        """End all children: DRAIN where a successor has the sockets, FINISH, STOP."""
        if self.phase is Phase.STOPPED:
            return
        self.phase = Phase.STOPPING
        self._unjudged.clear()
        for child in list(self.children.values()):
            if order is Order.STOP or child.state is not State.LEAVING:
                self._dismiss(child, now, order)
        self._settle(now)

    def add(self, now: float) -> None:
        """Have one child more."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return
        if self.target < 1000:
            self.target += 1
            server_log.info("one child more: %d now", self.target)
            self._settle(now)

    def remove(self, now: float) -> None:
        """Have one child less, but one stays."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return
        if self.target > 1:
            self.target -= 1
            server_log.info("one child less: %d now", self.target)
            self._settle(now)
        else:
            server_log.info("one child less is asked for: the last one stays")

    # -- what happens to children ---------------------------------------------------

    def on_ready(self, number: int, settings: Settings, now: float) -> None:
        """A child has its application, and these settings."""
        child = self.children.get(number)
        if child is None or child.state is not State.LOADING:
            return
        child.state = State.READY
        child.last_beat = now
        child.graceful_timeout = settings.graceful_timeout
        if child.generation > self.generation:
            self._new_settings = settings
        else:
            self._set_to_work(child, now)
        self._settle(now)

    def on_failed(self, number: int, problem: str) -> None:
        """A child cannot load its application. It ends next."""
        child = self.children.get(number)
        if child is not None:
            child.problem = problem

    def on_beat(self, number: int, beat: Beat, now: float) -> None:
        """A child says that it lives."""
        child = self.children.get(number)
        if child is None:
            return
        child.last_beat = now
        child.beat = beat
        if child.state is State.SERVING:
            self._judge(child, now)
            self._settle(now)

    def on_leaving(self, number: int, now: float) -> None:
        """A child ends by itself: somebody has sent it a signal, or it is broken."""
        child = self.children.get(number)
        if child is None or child.state is State.LEAVING:
            return
        child.deadline = now + child.graceful_timeout + CLOSING_SECONDS
        if child.state is not State.LOADING:
            child.state = State.LEAVING
            self._judge_soon(partial(self._wonder_at, child), now)

    def on_ended(
        self, number: int, how: str, now: float, *, may_be_stop: bool = False
    ) -> None:
        """A child is dead; `how` says of what, as "was killed by SIGKILL".

        `may_be_stop` tells that a stop signal ends a child so.
        """
        child = self.children.pop(number, None)
        if child is None:
            return
        for name, count in child.beat.stats.items():
            self.gone_stats[name] = self.gone_stats.get(name, 0) + count
        if child.state is State.LEAVING:
            server_log.info("%s has left: it %s", child, how)
        elif self.phase is not Phase.STOPPING:
            mourn = partial(self._mourn, child, how, now)
            if may_be_stop:
                self._judge_soon(mourn, now)
            else:
                mourn()
        self._settle(now)

    # -- time -----------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at the clock. To be called at least once in BEAT_SECONDS."""
        patience = self.settings.heartbeat_timeout
        for child in list(self.children.values()):
            if child.deadline and now >= child.deadline:
                child.deadline = now + STOPPING_SECONDS  # should it survive even that
                server_log.warning("%s has not ended in time: killed", child)
                self._hands.kill(child.number)
            elif child.state in (State.READY, State.SERVING):
                silent = now - child.last_beat
                if patience and silent > patience:
                    server_log.error(
                        "%s hangs: no sign of life for %.1f s, heartbeat_timeout is"
                        " %g s; it is replaced",
                        child,
                        silent,
                        patience,
                    )
                    self._hands.write_stacks(child.number)
                    child.state = State.LEAVING
                    child.deadline = now + STACKS_SECONDS
            elif child.state is State.LOADING:
                self._look_at_loading(child, now)
        if self._unjudged and now >= self._judged_at:
            self._judge_unasked_ends()
        self._settle(now)

    def wait_seconds(self, now: float) -> float:
        """How long the next tick may wait."""
        due = [now + BEAT_SECONDS]
        due += [c.deadline for c in self.children.values() if c.deadline]
        if self._not_before > now:
            due.append(self._not_before)
        if self._unjudged:
            due.append(self._judged_at)
        return max(0.0, min(due) - now)

    # -- decisions --------------------------------------------------------------------

    def _staying(self) -> list[Child]:
        """The children of this generation that are to stay."""
        return [
            child
            for child in self.children.values()
            if child.generation == self.generation
            and child.state is not State.LEAVING
            and not child.superseded
        ]

    def _fresh(self) -> list[Child]:
        """The children of the generation that is to come."""
        return [
            child
            for child in self.children.values()
            if child.generation > self.generation and child.state is not State.LEAVING
        ]

    def _settle(self, now: float) -> None:
        """Do what is left to do between what is and what should be."""
        if self.phase is Phase.STOPPING and not self.children:
            self.phase = Phase.STOPPED
        if self.phase in (Phase.STOPPING, Phase.STOPPED) or self._unjudged:
            return
        staying = self._staying()
        missing = self.target - len(staying)
        if missing > 0 and now >= self._not_before:
            for _ in range(missing):
                if not self._start(now, self.generation):
                    break
        for child in sorted(staying, key=_worth)[: max(0, -missing)]:
            self._dismiss(child, now, Order.DRAIN)
        serving = sum(child.state is State.SERVING for child in self._staying())
        self._let_superseded_go(self.target - serving, now)
        if self.phase is Phase.STARTING and (
            serving >= self.target or (serving and self._early_deaths >= FIRST_TRIES)
        ):
            self.phase = Phase.SERVING
        if self.phase is Phase.RELOADING:
            self._further_reload(now)
        if self.phase is Phase.SERVING and self._reload_again:
            self.reload(now)

    def _let_superseded_go(self, needed: int, now: float) -> None:
        """Let the superseded leave, but for as many as are needed still."""
        superseded = [
            child
            for child in self.children.values()
            if child.superseded and child.state is State.SERVING
        ]
        for child in superseded[max(0, needed) :]:
            self._dismiss(child, now, Order.DRAIN)

    def _further_reload(self, now: float) -> None:
        fresh = self._fresh()
        ready = [child for child in fresh if child.state is State.READY]
        if not ready:
            return
        settings = self._new_settings
        assert settings is not None  # came with the first that was ready
        target = self.target
        if settings.processes != self.settings.processes:
            target = settings.processes
        if len(ready) >= target:
            self._switch(ready, settings, target, now)
            return
        for _ in range(target - len(fresh)):
            if not self._start(now, self.generation + 1):
                return

    def _switch(
        self, ready: list[Child], settings: Settings, target: int, now: float
    ) -> None:
        """Let the new generation serve and the old one leave."""
        old = [c for c in self.children.values() if c.generation <= self.generation]
        self.generation += 1
        self.settings = settings
        self.target = target
        self._new_settings = None
        self._early_deaths = self._born_grown = 0
        self._not_before = self._growth_not_before = 0.0
        for child in ready:
            self._set_to_work(child, now)
        for child in old:
            if child.state is not State.LEAVING:
                self._dismiss(child, now, Order.DRAIN)
        self.phase = Phase.SERVING
        server_log.info("reloaded: %d new children serve, the old ones leave", target)
        self._settle(now)

    def _give_up_reload(self, why: str, now: float) -> None:
        server_log.error("reload failed, the former version goes on serving: %s", why)
        for child in self._fresh():
            self._dismiss(child, now, Order.STOP)
        self._new_settings = None
        self.phase = Phase.SERVING

    def _start(self, now: float, generation: int) -> bool:
        self.started += 1
        number = self.started
        try:
            pid = self._hands.start_child(number, generation)
        except OSError as error:
            self._early_deaths += 1
            self._pause(now)
            server_log.error(
                "no child can be started: %s; tried again in %g s",
                error,
                self._not_before - now,
            )
            return False
        child = Child(
            number,
            pid,
            generation,
            born=now,
            last_beat=now,
            graceful_timeout=self.settings.graceful_timeout,
        )
        self.children[number] = child
        return True

    def _set_to_work(self, child: Child, now: float) -> None:
        settings = self.settings
        child.state = State.SERVING
        child.served_since = now
        self._has_served = True
        if settings.max_requests:
            child.request_limit = settings.max_requests + self._random_up_to(
                settings.max_requests_jitter
            )
        self._hands.order(child.number, Order.SERVE)

    def _dismiss(self, child: Child, now: float, order: Order) -> None:
        """Tell a child to end, and set the time by which it has to."""
        child.state = State.LEAVING
        seconds = STOPPING_SECONDS
        if order is not Order.STOP:
            seconds = child.graceful_timeout + CLOSING_SECONDS
        child.deadline = now + seconds
        self._hands.order(child.number, order)

    def _judge(self, child: Child, now: float) -> None:
        """Look whether a child that lives is still as it should be."""
        settings = self.settings
        beat = child.beat
        limit = settings.request_timeout_kill
        if limit and beat.longest > limit:
            server_log.error(
                "%s is replaced: %s has run for %.1f s, request_timeout_kill is %g s",
                child,
                beat.longest_request or "a request",
                beat.longest,
                limit,
            )
            self._hands.write_stacks(child.number)
            self._dismiss(child, now, Order.DRAIN)
        elif child.superseded:
            return
        elif settings.max_memory and beat.memory > settings.max_memory:
            self._judge_growth(child, now)
        elif child.request_limit and beat.requests >= child.request_limit:
            server_log.info(
                "%s is replaced: it has served %d requests", child, beat.requests
            )
            child.superseded = True

    def _judge_growth(self, child: Child, now: float) -> None:
        """Replace a child above max_memory; ever less often where all are, at once."""
        child.grown_at = child.grown_at or now
        if now < self._growth_not_before:
            return
        if child.grown_at - child.served_since < STEADY_SECONDS:
            self._born_grown += 1
        else:
            self._born_grown = 0
        pause = _pause_after(self._born_grown)
        self._growth_not_before = now + pause
        server_log.warning(
            "%s is replaced: it holds %d MiB, max_memory is %d MiB%s",
            child,
            child.beat.memory >> 20,
            self.settings.max_memory >> 20,
            f" (so did {self._born_grown} in a row soon after their start: the"
            f" application may need more; the next is replaced in {pause:g} s"
            " at the soonest)"
            if pause
            else "",
        )
        child.superseded = True

    def _look_at_loading(self, child: Child, now: float) -> None:
        if now - child.born < LONG_LOADING or child.long_loading_told:
            return
        child.long_loading_told = True
        server_log.warning(
            "%s has been loading its application for %.0f s", child, now - child.born
        )
        self._hands.write_stacks(child.number)

    # -- ends that nobody asked for ---------------------------------------------------

    def _judge_soon(self, judge: Callable[[], None], now: float) -> None:
        """Judge what a child has done unless the whole server is to stop, too."""
        if not self._unjudged:
            self._judged_at = now + ONE_STOP_SECONDS
        self._unjudged.append(judge)

    def _judge_unasked_ends(self) -> None:
        """No stop has followed: so they were the children's own."""
        unjudged, self._unjudged = self._unjudged, []
        for judge in unjudged:
            judge()

    def _wonder_at(self, child: Child) -> None:
        verb = "ends" if child.number in self.children else "has ended"
        server_log.warning("%s %s, and nobody here has asked it to", child, verb)

    def _mourn(self, child: Child, how: str, now: float) -> None:
        """Deal with a death that nobody asked for."""
        loaded = child.state is not State.LOADING
        if child.generation > self.generation:
            self._give_up_reload(child.problem or f"{child} {how} while it loaded", now)
            return
        if now - self._last_death > FORGIVEN_AFTER:
            self._early_deaths = 0
        self._last_death = now
        served = now - child.served_since if loaded else 0.0
        if served >= STEADY_SECONDS:
            self._early_deaths = 0
            self._pause(now)
        elif child.number > self._last_counted or not self._early_deaths:
            # Those that were there when another died may have died of the same.
            self._last_counted = self.started
            self._early_deaths += 1
            self._pause(now)
        problem, _, trace = child.problem.partition("\n")
        if problem:
            what = f"could not load its application: {problem}"
        elif loaded:
            what = f"{how} after it had served for {served:.1f} s"
        else:
            what = f"{how} while it loaded its application"
        again = self._early_deaths
        if (
            self.phase is Phase.STARTING
            and not self._has_served
            and (problem or again >= FIRST_TRIES)
        ):
            # Whoever started the server is told all of it.
            server_log.error("%s %s; the server ends", child, what)
            self._abandon(child.problem or f"{child} {what}", now)
            return
        pause = max(0.0, self._not_before - now)
        server_log.error(
            "%s %s; the next starts %s%s%s",
            child,
            what,
            f"in {pause:.1f} s" if pause > 0 else "at once",
            f" ({again} deaths soon after the start, one after another)"
            if again > 1
            else "",
            f"\n{trace}" if trace else "",
        )

    def _pause(self, now: float) -> None:
        """Set when the next child may start."""
        self._not_before = now + _pause_after(self._early_deaths)

    def _abandon(self, why: str, now: float) -> None:
        """Give up before anything was served: whoever started us shall know."""
        self.fatal = why
        self.stop(Order.STOP, now)


def _pause_after(tries: int) -> float:
    """Seconds to wait after so many tries in a row that came to nothing."""
    return min(LONGEST_PAUSE, 2.0 ** (tries - 2)) if tries > 1 else 0.0


def _worth(child: Child) -> tuple[bool, float]:
    """Which children are given up first: those that do not serve, then the newest."""
    return child.state is State.SERVING, -child.born
