"""The supervisor's decisions, with a clock and children of the test's own."""

from __future__ import annotations

import logging

import pytest

from paste_ajp.engine.supervision import (
    FIRST_TRIES,
    LONGEST_PAUSE,
    ONE_STOP_SECONDS,
    STEADY_SECONDS,
    Beat,
    Order,
    Phase,
    State,
    Supervisor,
)
from paste_ajp.settings import Settings


class World:
    """A supervisor, the children that it has started, and the time."""

    def __init__(self, **settings):
        self.now = 1000.0
        self.told = []  # what the supervisor did, (child, deed)
        self.no_processes = False
        self.settings = Settings(**{"processes": 2, **settings})
        self.supervisor = Supervisor(
            self.settings, self, random_up_to=lambda most: most // 2
        )

    # -- Hands

    def start_child(self, number, generation):
        if self.no_processes:
            raise OSError(11, "Resource temporarily unavailable")
        self.told.append((number, f"start {generation}"))
        return 10_000 + number

    def order(self, number, order):
        self.told.append((number, order.value))

    def write_stacks(self, number):
        self.told.append((number, "stacks"))

    def kill(self, number):
        self.told.append((number, "kill"))

    # -- what a test does

    def begin(self):
        self.supervisor.begin(self.now)
        return self

    def serving(self):
        """All children ready, and what was told until then forgotten."""
        self.begin()
        for number in list(self.supervisor.children):
            self.ready(number)
        self.news()
        return self

    def ready(self, *numbers, **settings):
        found = self.settings.replace(**settings) if settings else self.settings
        for number in numbers:
            self.supervisor.on_ready(number, found, self.now)

    def ended(self, *numbers, how="was killed by SIGKILL", may_be_stop=False):
        for number in numbers:
            self.supervisor.on_ended(number, how, self.now, may_be_stop=may_be_stop)

    def stopped(self, *numbers):
        """Dead of a stop signal, before it was handled."""
        self.ended(*numbers, how="was killed by SIGTERM", may_be_stop=True)

    def fail(self, number, problem="ImportError: no module named app"):
        self.supervisor.on_failed(number, problem)
        self.ended(number, how="ended with status 1")

    def beat(self, number, **facts):
        self.supervisor.on_beat(number, Beat(**facts), self.now)

    def pass_time(self, seconds, beating=()):
        """Let time go by, in steps as the loop takes them."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            for number in beating:
                self.beat(number)
            self.supervisor.tick(self.now)

    def news(self):
        """What the supervisor did since the last time."""
        told, self.told = self.told, []
        return told

    def states(self):
        return {n: c.state for n, c in self.supervisor.children.items()}


def test_as_many_children_start_as_processes_are_set():
    world = World(processes=3).begin()
    assert world.news() == [(1, "start 1"), (2, "start 1"), (3, "start 1")]


def test_child_serves_as_soon_as_it_is_ready():
    world = World().begin()
    world.news()
    world.ready(2)
    assert world.news() == [(2, "serve")]
    assert world.supervisor.phase is Phase.STARTING


def test_server_serves_when_all_children_do():
    world = World().begin()
    world.ready(1, 2)
    assert world.supervisor.phase is Phase.SERVING


# -- deaths


def test_child_that_dies_after_long_service_is_replaced_at_once():
    world = World().serving()
    world.pass_time(STEADY_SECONDS, beating=(1, 2))
    world.ended(1)
    assert world.news() == [(3, "start 1")]


def test_first_early_death_is_followed_by_a_start_at_once():
    world = World().serving()
    world.ended(1)
    assert world.news() == [(3, "start 1")]


def test_pauses_double_while_children_die_early(caplog):
    world = World(processes=1).serving()
    pauses = []
    for number in range(1, 12):
        world.ready(number)
        world.news()
        world.ended(number)
        died = world.now
        while not world.news():
            world.now += world.supervisor.wait_seconds(world.now)
            world.supervisor.tick(world.now)
        pauses.append(world.now - died)
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert pauses[-1] == LONGEST_PAUSE
    assert "11 deaths soon after the start, one after another" in caplog.text


def test_children_that_die_together_are_replaced_at_once():
    world = World(processes=8).serving()
    world.pass_time(4, beating=range(1, 9))
    for number in range(1, 9):
        world.ended(number)
        world.now += 0.01
    assert world.news() == [(number, "start 1") for number in range(9, 17)]


def test_children_that_die_together_again_and_again_are_a_loop_of_crashes():
    world = World(processes=3).serving()
    pauses = []
    first = 1
    for _ in range(5):
        world.ready(first, first + 1, first + 2)
        world.news()
        died = world.now
        world.ended(first, first + 1, first + 2)
        while not (news := world.news()):
            world.now += world.supervisor.wait_seconds(world.now)
            world.supervisor.tick(world.now)
        pauses.append(world.now - died)
        first = news[0][0]
    assert pauses == [0, 1, 2, 4, 8]


def test_service_of_some_seconds_ends_a_loop_of_crashes():
    world = World(processes=1).serving()
    world.ended(1)
    world.ready(2)
    world.ended(2)
    world.pass_time(1)
    world.ready(3)
    world.pass_time(STEADY_SECONDS, beating=(3,))
    world.news()
    world.ended(3)
    assert world.news() == [(4, "start 1")]


def test_early_deaths_are_forgotten_after_a_while():
    world = World().serving()
    world.ended(1)
    world.ready(3)
    world.pass_time(200, beating=(2, 3))
    world.news()
    world.supervisor.add(world.now)
    world.ready(4)
    world.news()
    world.ended(4)
    assert world.news() == [(5, "start 1")]


def test_log_says_of_what_a_child_died(caplog):
    world = World().serving()
    world.pass_time(2)
    world.ended(1, how="was killed by SIGSEGV")
    assert (
        "child 1 (pid 10001) was killed by SIGSEGV after it had served for 2.0 s;"
        " the next starts at once"
    ) in caplog.text


def test_system_without_processes_is_asked_again_later(caplog):
    world = World().serving()
    world.no_processes = True
    world.ended(1)
    assert "Resource temporarily unavailable" in caplog.text
    world.no_processes = False
    world.pass_time(2, beating=(2,))
    assert world.news() == [(3 + 1, "start 1")]


# -- a start that fails


def test_application_that_does_not_load_ends_the_server():
    world = World().begin()
    world.fail(1, "ImportError: no module named app")
    assert world.supervisor.phase is Phase.STOPPING
    assert (2, "stop") in world.news()
    world.ended(2)
    assert world.supervisor.phase is Phase.STOPPED
    assert world.supervisor.fatal == "ImportError: no module named app"


def test_server_that_ends_does_not_say_when_the_next_child_starts(caplog):
    world = World(processes=1).begin()
    world.fail(1, "ImportError: no module named app\nTraceback ...")
    assert caplog.messages == [
        (
            "child 1 (pid 10001) could not load its application: ImportError: no module"
            " named app; the server ends"
        )
    ]
    assert world.supervisor.fatal == "ImportError: no module named app\nTraceback ..."


def test_traceback_of_a_load_that_fails_comes_last(caplog):
    world = World().serving()
    world.ended(1)
    caplog.clear()
    world.fail(3, "ImportError: no module named app\nTraceback ...")
    assert caplog.messages == [
        (
            "child 3 (pid 10003) could not load its application: ImportError: no module"
            " named app; the next starts in 1.0 s (2 deaths soon after the start, one"
            " after another)\nTraceback ..."
        )
    ]


def test_children_are_neither_added_nor_removed_while_the_server_stops(caplog):
    caplog.set_level(logging.INFO)
    world = World().serving()
    world.supervisor.stop(Order.FINISH, world.now)
    caplog.clear()
    world.supervisor.add(world.now)
    world.supervisor.remove(world.now)
    assert caplog.messages == []


def test_crashes_while_loading_end_the_server_after_some_tries():
    world = World(processes=1).begin()
    for number in range(1, FIRST_TRIES + 1):
        assert world.supervisor.phase is Phase.STARTING
        world.ended(number, how="was killed by SIGSEGV")
        world.pass_time(5)
    assert world.supervisor.phase is Phase.STOPPED
    assert "was killed by SIGSEGV while it loaded" in world.supervisor.fatal


def test_load_that_fails_when_one_has_served_is_tried_again():
    """The first may be killed before the last has loaded."""
    world = World().begin()
    world.ready(1)
    world.ended(1)
    world.fail(2)
    assert world.supervisor.phase is Phase.STARTING
    assert world.supervisor.fatal == ""
    world.pass_time(3)
    assert world.news()[-1] == (4, "start 1")


def test_load_that_fails_later_is_tried_again():
    world = World().serving()
    world.ended(1)
    world.fail(3)
    assert world.supervisor.phase is Phase.SERVING
    world.pass_time(3, beating=(2,))
    assert world.news()[-1] == (4, "start 1")


# -- hanging


def test_silent_child_writes_its_stacks_and_is_killed(caplog):
    world = World(heartbeat_timeout=5).serving()
    world.pass_time(6, beating=(2,))
    assert world.news() == [(1, "stacks"), (3, "start 1")]
    assert "child 1 (pid 10001) hangs: no sign of life for 6.0 s" in caplog.text
    world.pass_time(1, beating=(2,))
    assert world.news() == [(1, "kill")]


def test_silent_child_is_left_alone_without_heartbeat_timeout():
    world = World(heartbeat_timeout=0).serving()
    world.pass_time(1000)
    assert world.news() == []


def test_child_that_loads_for_long_is_reported_once(caplog):
    world = World(heartbeat_timeout=5).begin()
    world.ready(1)
    world.news()
    world.pass_time(200, beating=(1,))
    assert world.news() == [(2, "stacks")]
    assert "child 2 (pid 10002) has been loading its application for 60 s" in (
        caplog.text
    )


def test_request_without_end_costs_its_child(caplog):
    world = World(request_timeout_kill=10, graceful_timeout=3).serving()
    world.beat(1, longest=9.9, longest_request="GET /slow")
    assert world.news() == []
    world.beat(1, longest=10.5, longest_request="GET /slow")
    assert world.news() == [(1, "stacks"), (1, "drain"), (3, "start 1")]
    assert "GET /slow has run for 10.5 s, request_timeout_kill is 10 s" in caplog.text
    world.ready(3)
    world.pass_time(9, beating=(2, 3))
    assert (1, "kill") in world.news()


# -- children that have served enough


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"max_requests": 100}, {"requests": 100}),
        ({"max_requests": 100, "max_requests_jitter": 50}, {"requests": 125}),
        ({"max_memory": "1M"}, {"memory": 1048577}),
    ],
    ids=["requests", "requests and jitter", "memory"],
)
def test_child_serves_until_its_replacement_does(settings, facts):
    world = World(**settings).serving()
    world.beat(1, **facts)
    assert world.news() == [(3, "start 1")]
    world.beat(1, **facts)
    assert world.news() == []
    world.ready(3)
    assert world.news() == [(3, "serve"), (1, "drain")]


def test_child_within_its_limits_stays():
    world = World(max_requests=100, max_requests_jitter=50, max_memory="1M").serving()
    world.beat(1, requests=124, memory=1048576)
    assert world.news() == []


def test_superseded_child_stays_while_its_replacement_fails():
    world = World(max_requests=100).serving()
    world.beat(1, requests=100)
    world.fail(3)
    assert world.states()[1] is State.SERVING


def test_children_that_are_too_large_from_the_start_are_replaced_ever_less(caplog):
    world = World(processes=1, max_memory="1M").serving()
    replaced = []
    number = 1
    while world.now < 1190:
        world.now += 1
        world.beat(number, memory=2 << 20)
        if world.news():
            replaced.append(world.now - 1000)
            number += 1
            world.ready(number)
            world.ended(number - 1)
            world.news()
    assert replaced == [1, 2, 3, 5, 9, 17, 33, 65, 125, 185]
    assert "the application may need more" in caplog.text


def test_children_that_grow_are_replaced_without_a_pause():
    world = World(processes=1, max_memory="1M").serving()
    for number in range(1, 5):
        world.pass_time(STEADY_SECONDS, beating=(number,))
        world.beat(number, memory=2 << 20)
        assert world.news() == [(number + 1, "start 1")]
        world.ready(number + 1)
        world.ended(number)
        world.news()


def test_two_superseded_children_leave_one_by_one():
    world = World(max_requests=100).serving()
    world.beat(1, requests=100)
    world.beat(2, requests=100)
    world.news()
    world.ready(3)
    first = world.news()
    world.ready(4)
    assert first == [(3, "serve"), (2, "drain")]
    assert world.news() == [(4, "serve"), (1, "drain")]


# -- reload


def test_reload_loads_one_child_first_then_the_others():
    world = World(processes=3).serving()
    world.supervisor.reload(world.now)
    assert world.news() == [(4, "start 2")]
    assert world.supervisor.phase is Phase.RELOADING
    world.ready(4)
    assert world.news() == [(5, "start 2"), (6, "start 2")]


def test_new_children_take_over_together():
    world = World().serving()
    world.supervisor.reload(world.now)
    world.ready(3)
    world.news()
    world.ready(4)
    assert world.news() == [(3, "serve"), (4, "serve"), (1, "drain"), (2, "drain")]
    assert world.supervisor.phase is Phase.SERVING


def test_broken_new_version_leaves_the_old_one_serving(caplog):
    world = World().serving()
    world.supervisor.reload(world.now)
    world.news()
    world.fail(3, "SyntaxError: app.py, line 3")
    assert world.news() == []
    assert world.states() == {1: State.SERVING, 2: State.SERVING}
    assert world.supervisor.phase is Phase.SERVING
    assert (
        "reload failed, the former version goes on serving: SyntaxError: app.py, line 3"
        in caplog.text
    )


def test_new_version_that_fails_in_its_second_child_is_given_up():
    world = World().serving()
    world.supervisor.reload(world.now)
    world.ready(3)
    world.news()
    world.ended(4, how="was killed by SIGKILL")
    assert world.news() == [(3, "stop")]
    assert world.states()[1] is world.states()[2] is State.SERVING


def test_reload_brings_new_settings():
    world = World().serving()
    world.supervisor.reload(world.now)
    world.ready(3, processes=3, threads=5)
    world.ready(4, 5, processes=3, threads=5)
    assert world.supervisor.settings.threads == 5
    assert world.supervisor.target == 3
    world.pass_time(1)
    assert world.states() == {
        1: State.LEAVING,
        2: State.LEAVING,
        3: State.SERVING,
        4: State.SERVING,
        5: State.SERVING,
    }


def test_old_children_keep_their_own_time_to_finish():
    world = World(graceful_timeout=60).serving()
    world.supervisor.reload(world.now)
    world.ready(3, graceful_timeout=2)
    world.ready(4, graceful_timeout=2)
    world.news()
    world.pass_time(60, beating=(3, 4))
    assert world.news() == []
    world.pass_time(5, beating=(3, 4))
    assert world.news() == [(1, "kill"), (2, "kill")]


def test_reload_keeps_a_number_that_was_changed_by_signals():
    world = World().serving()
    world.supervisor.add(world.now)
    world.ready(3)
    world.supervisor.reload(world.now)
    world.ready(4)
    world.ready(5, 6)
    assert world.supervisor.target == 3
    assert world.supervisor.phase is Phase.SERVING


@pytest.mark.parametrize("hangs", ["first", "second"])
def test_second_reload_gives_up_what_still_loads(hangs):
    world = World().serving()
    world.supervisor.reload(world.now)
    loading = [3]
    if hangs == "second":
        world.ready(3)
        loading = [3, 4]
    world.news()
    world.supervisor.reload(world.now)
    first = loading[-1] + 1
    stops = [(number, "stop") for number in loading]
    assert world.news() == [*stops, (first, "start 2")]
    world.ended(*loading)
    world.ready(first)
    world.ready(first + 1)
    assert world.supervisor.phase is Phase.SERVING
    assert world.states()[first] is world.states()[first + 1] is State.SERVING
    assert world.states()[1] is world.states()[2] is State.LEAVING


def test_reload_while_the_server_starts_waits_for_that():
    world = World().begin()
    world.supervisor.reload(world.now)
    world.news()
    world.ready(1, 2)
    assert world.news() == [(1, "serve"), (2, "serve"), (3, "start 2")]


def test_old_child_that_dies_during_a_reload_is_replaced():
    world = World().serving()
    world.supervisor.reload(world.now)
    world.news()
    world.ended(1)
    assert world.news() == [(4, "start 1")]


def test_reload_without_a_process_to_have_is_given_up(caplog):
    world = World().serving()
    world.no_processes = True
    world.supervisor.reload(world.now)
    assert world.supervisor.phase is Phase.SERVING
    assert "reload failed" in caplog.text


# -- more and less


def test_one_child_more():
    world = World().serving()
    world.supervisor.add(world.now)
    assert world.news() == [(3, "start 1")]


def test_one_child_less_is_the_newest():
    world = World().serving()
    world.now += 1
    world.supervisor.add(world.now)
    world.ready(3)
    world.news()
    world.supervisor.remove(world.now)
    assert world.news() == [(3, "drain")]


def test_last_child_stays(caplog):
    caplog.set_level(logging.INFO)
    world = World(processes=1).serving()
    world.supervisor.remove(world.now)
    assert world.news() == []
    assert "the last one stays" in caplog.text


# -- stop


def test_graceful_stop_lets_children_finish():
    world = World().serving()
    world.supervisor.stop(Order.FINISH, world.now)
    assert world.news() == [(1, "finish"), (2, "finish")]
    world.ended(1, 2, how="ended with status 0")
    assert world.supervisor.phase is Phase.STOPPED
    assert world.supervisor.fatal == ""


def test_second_stop_is_at_once():
    world = World().serving()
    world.supervisor.stop(Order.FINISH, world.now)
    world.news()
    world.supervisor.stop(Order.STOP, world.now)
    assert world.news() == [(1, Order.STOP.value), (2, Order.STOP.value)]
    world.pass_time(2)
    assert world.news() == [(1, "kill"), (2, "kill")]


def test_child_that_does_not_finish_is_killed_in_the_end():
    world = World(graceful_timeout=10).serving()
    world.supervisor.stop(Order.FINISH, world.now)
    world.news()
    world.pass_time(14)
    assert world.news() == []
    world.pass_time(1)
    assert world.news() == [(1, "kill"), (2, "kill")]


def test_no_child_is_started_while_stopping():
    world = World().serving()
    world.supervisor.stop(Order.FINISH, world.now)
    world.news()
    world.ended(1)
    world.pass_time(5)
    assert world.news() == []


def test_stop_before_the_first_start_leaves_nothing():
    world = World()
    world.supervisor.stop(Order.FINISH, world.now)
    world.begin()
    assert world.news() == []
    assert world.supervisor.phase is Phase.STOPPED


def test_stop_ends_a_reload():
    world = World().serving()
    world.supervisor.reload(world.now)
    world.news()
    world.supervisor.stop(Order.FINISH, world.now)
    assert world.news() == [(1, "finish"), (2, "finish"), (3, "finish")]


def test_reload_is_no_matter_for_a_server_that_stops():
    world = World().serving()
    world.supervisor.stop(Order.FINISH, world.now)
    world.news()
    world.supervisor.reload(world.now)
    assert world.news() == []


# -- children that go by themselves, and what they leave


def test_child_that_leaves_by_itself_is_replaced_when_no_stop_follows(caplog):
    world = World().serving()
    world.supervisor.on_leaving(1, world.now)
    assert world.news() == []
    assert world.supervisor.wait_seconds(world.now) == pytest.approx(ONE_STOP_SECONDS)
    world.pass_time(ONE_STOP_SECONDS)
    assert world.news() == [(3, "start 1")]
    assert "child 1 (pid 10001) ends, and nobody here has asked it to" in caplog.text


def test_child_that_has_left_is_not_said_to_end(caplog):
    caplog.set_level(logging.INFO)
    world = World().serving()
    caplog.clear()
    world.supervisor.on_leaving(1, world.now)
    world.ended(1, how="ended with status 0")
    world.pass_time(ONE_STOP_SECONDS)
    assert caplog.messages == [
        "child 1 (pid 10001) has left: it ended with status 0",
        "child 1 (pid 10001) has ended, and nobody here has asked it to",
    ]


def test_child_that_loads_and_is_stopped_is_replaced_when_no_stop_follows(caplog):
    world = World().begin()
    world.ready(1)
    world.news()
    world.stopped(2)
    assert world.news() == []
    world.pass_time(ONE_STOP_SECONDS)
    assert world.news() == [(3, "start 1")]
    assert (
        "child 2 (pid 10002) was killed by SIGTERM while it loaded its application;"
        " the next starts at once" in caplog.text
    )


def test_stop_that_reaches_children_first_is_one_stop(caplog):
    world = World(processes=3).begin()
    world.ready(1, 2)
    world.news()
    world.supervisor.on_leaving(1, world.now)
    world.stopped(2, 3)
    world.supervisor.tick(world.now)
    world.supervisor.stop(Order.FINISH, world.now)
    world.pass_time(ONE_STOP_SECONDS)
    world.ended(1, how="ended with status 0")
    assert world.news() == []
    assert world.supervisor.phase is Phase.STOPPED
    assert caplog.messages == []


def test_stop_of_a_child_is_judged_soon_whatever_others_do():
    world = World(processes=3).serving()
    world.supervisor.on_leaving(1, world.now)
    world.now += 0.9 * ONE_STOP_SECONDS
    world.supervisor.on_leaving(2, world.now)
    world.pass_time(0.1 * ONE_STOP_SECONDS)
    assert world.news() == [(4, "start 1"), (5, "start 1")]


def test_stop_of_a_child_that_reloads_is_judged_before_the_next_reload(caplog):
    world = World().serving()
    world.supervisor.reload(world.now)
    world.stopped(3)
    world.supervisor.reload(world.now)
    assert "the former version goes on serving: child 3 (pid 10003)" in caplog.text
    assert world.news() == [(3, "start 2"), (4, "start 2")]
    world.pass_time(ONE_STOP_SECONDS)
    assert world.supervisor.phase is Phase.RELOADING


def test_counters_of_dead_children_are_kept():
    world = World().serving()
    world.beat(1, stats={"requests": 5})
    world.ended(1)
    world.beat(2, stats={"requests": 7})
    world.ended(2)
    assert world.supervisor.gone_stats == {"requests": 12}


def test_news_of_unknown_children_is_no_matter():
    world = World().serving()
    world.ready(77)
    world.ended(77)
    world.beat(77)
    world.fail(77)
    world.supervisor.on_leaving(77, world.now)
    assert world.news() == []
