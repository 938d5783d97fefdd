import pytest

from paste_ajp.client import Client
from paste_ajp.client.deadline import Deadline


def test_a_deadline_shortens_timeouts_until_it_has_passed():
    now = [100.0]
    deadline = Deadline(5, clock=lambda: now[0])
    assert (deadline.limit(None), deadline.limit(3)) == (5, 3)
    now[0] = 104.0
    assert (deadline.limit(3), deadline.has_passed) == (1, False)
    now[0] = 105.0
    assert deadline.has_passed
    assert 0 < deadline.limit(3) < 0.001


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2968133990005299, "0.297"), (5.0, "5"), (0.5, "0.5")]
)
def test_a_deadline_is_told_in_milliseconds_at_most(seconds, shown):
    assert Deadline(seconds).problem == f"not done within {shown} s"


def test_no_deadline_never_passes():
    deadline = Deadline(None)
    assert (deadline.limit(None), deadline.limit(3)) == (None, 3)
    assert not deadline.has_passed


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
def test_a_client_refuses_times_that_nothing_can_wait_for(name, value):
    with pytest.raises(ValueError) as caught:
        Client("ajp://h", **{name: value})
    assert str(caught.value) == (
        f"{name} = {value}: expected a number of seconds, or None"
    )
