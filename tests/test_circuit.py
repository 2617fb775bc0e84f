"""When a provider that does not answer is left alone, and when it is asked again."""

from stagingest.circuit import Circuit, Sign


def after(circuit: Circuit, *signs: Sign, now_s: float = 0.0) -> Circuit:
    for sign in signs:
        circuit = circuit.after(sign, now_s)
    return circuit


def probes(circuit: Circuit, sign: Sign, until_s: float) -> list[float]:
    """When probes are sent to a provider that answers each with `sign`, looked at every second."""
    sent = []
    for now_s in range(int(until_s)):
        if circuit.may_probe(now_s):
            sent.append(float(now_s))
            circuit = circuit.probed(now_s).after(sign, now_s)
    return sent


def test_three_failures_to_connect_in_a_row_open_it() -> None:
    flaky = after(Circuit(), Sign.UNREACHED, Sign.UNREACHED, Sign.ANSWERED, Sign.UNREACHED, Sign.UNREACHED)
    assert not flaky.open
    assert after(flaky, Sign.UNREACHED).why is Sign.UNREACHED


def test_one_request_that_always_fails_does_not_open_it() -> None:
    assert not after(Circuit(), *[Sign.TROUBLED] * 5, *[Sign.ANSWERED] * 10, *[Sign.TROUBLED] * 5).open


def test_more_than_half_of_the_last_fifty_in_trouble_open_it() -> None:
    mixed = [sign for _ in range(16) for sign in (Sign.TROUBLED, Sign.TROUBLED, Sign.ANSWERED)]
    calm = after(Circuit(), *[Sign.ANSWERED] * 50)
    assert not after(calm, *mixed[:37]).open
    assert after(calm, *mixed[:38]).why is Sign.TROUBLED


def test_eight_in_a_row_in_trouble_open_it() -> None:
    assert not after(Circuit(), *[Sign.TROUBLED] * 7, Sign.ANSWERED, *[Sign.TROUBLED] * 7).open
    assert after(Circuit(), *[Sign.TROUBLED] * 8).why is Sign.TROUBLED


def test_it_is_probed_after_5_10_20_40_and_then_every_60_seconds() -> None:
    opened = after(Circuit(), *[Sign.UNREACHED] * 3)
    assert probes(opened, Sign.UNREACHED, 200) == [5, 15, 35, 75, 135, 195]


def test_one_probe_at_a_time() -> None:
    opened = after(Circuit(), *[Sign.UNREACHED] * 3)
    assert opened.may_probe(5)
    assert not opened.probed(5).may_probe(500)


def test_the_first_answer_closes_it_and_forgets_what_was() -> None:
    opened = after(Circuit(), *[Sign.TROUBLED] * 30)
    assert opened.open
    assert after(opened.probed(5), Sign.ANSWERED, now_s=6) == Circuit()


def test_connections_that_break_and_then_cannot_be_made_are_the_network() -> None:
    broken = after(Circuit(), *[Sign.TROUBLED] * 8)
    assert after(broken.probed(5), Sign.UNREACHED).why is Sign.UNREACHED
