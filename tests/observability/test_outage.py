"""When the log says that something fails, and that it works again."""

from dues.observability.outage import CALM_S, Outage


def test_what_comes_and_goes_is_told_once_and_its_end_once():
    now = 0.0
    outage = Outage(lambda: now)
    assert not outage.worked()
    told = []
    for _ in range(100):
        now += 0.5
        told += [outage.failed(), outage.worked()]
    assert told == [True] + [False] * 199
    now += CALM_S
    assert [outage.worked(), outage.worked()] == [True, False]
    assert outage.failed()
