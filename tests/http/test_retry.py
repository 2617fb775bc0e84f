"""When a provider that does not answer is left alone, and when it is asked again."""

from stagingest.http.retry import CircuitBreaker, Health


def after(breaker: CircuitBreaker, *signs: Health, now_s: float = 0.0) -> CircuitBreaker:
    for sign in signs:
        breaker = breaker.after(sign, now_s)
    return breaker


def probes(breaker: CircuitBreaker, sign: Health, until_s: float) -> list[float]:
    """When probes are sent to a provider that answers each with `sign`, looked at every second."""
    sent = []
    for now_s in range(int(until_s)):
        if breaker.may_probe(now_s):
            sent.append(float(now_s))
            breaker = breaker.probed(now_s).after(sign, now_s)
    return sent


def test_three_failures_to_connect_in_a_row_open_it() -> None:
    flaky = after(
        CircuitBreaker(), Health.UNREACHED, Health.UNREACHED, Health.ANSWERED, Health.UNREACHED, Health.UNREACHED
    )
    assert not flaky.open
    assert after(flaky, Health.UNREACHED).why is Health.UNREACHED


def test_one_request_that_always_fails_does_not_open_it() -> None:
    assert not after(CircuitBreaker(), *[Health.TROUBLED] * 5, *[Health.ANSWERED] * 10, *[Health.TROUBLED] * 5).open


def test_more_than_half_of_the_last_fifty_in_trouble_open_it() -> None:
    mixed = [sign for _ in range(16) for sign in (Health.TROUBLED, Health.TROUBLED, Health.ANSWERED)]
    calm = after(CircuitBreaker(), *[Health.ANSWERED] * 50)
    assert not after(calm, *mixed[:37]).open
    assert after(calm, *mixed[:38]).why is Health.TROUBLED


def test_eight_in_a_row_in_trouble_open_it() -> None:
    assert not after(CircuitBreaker(), *[Health.TROUBLED] * 7, Health.ANSWERED, *[Health.TROUBLED] * 7).open
    assert after(CircuitBreaker(), *[Health.TROUBLED] * 8).why is Health.TROUBLED


def test_it_is_probed_after_5_10_20_40_and_then_every_60_seconds() -> None:
    opened = after(CircuitBreaker(), *[Health.UNREACHED] * 3)
    assert probes(opened, Health.UNREACHED, 200) == [5, 15, 35, 75, 135, 195]


def test_one_probe_at_a_time() -> None:
    opened = after(CircuitBreaker(), *[Health.UNREACHED] * 3)
    assert opened.may_probe(5)
    assert not opened.probed(5).may_probe(500)


def test_the_first_answer_closes_it_and_forgets_what_was() -> None:
    opened = after(CircuitBreaker(), *[Health.TROUBLED] * 30)
    assert opened.open
    assert after(opened.probed(5), Health.ANSWERED, now_s=6) == CircuitBreaker()


def test_connections_that_break_and_then_cannot_be_made_are_the_network() -> None:
    broken = after(CircuitBreaker(), *[Health.TROUBLED] * 8)
    assert after(broken.probed(5), Health.UNREACHED).why is Health.UNREACHED
