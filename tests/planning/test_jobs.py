"""What the user asked, as jobs."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from stagingest.errors import UsageError
from stagingest.model.calendar import day
from stagingest.model.chunk import SymbolWindow
from stagingest.model.windows import Window
from stagingest.planning import symbols as planning_symbols
from stagingest.planning.jobs import question
from stagingest.planning.request import KnownState, ResolvedQuery, query
from stagingest.providers.catalog import endpoint

NOON = datetime(2024, 6, 4, 16, tzinfo=UTC)
STOCKS = endpoint("alpaca/stock-bars")


def ask(dataset: str = "stock-bars", root: Path = Path("nowhere"), rows: tuple = (), **wanted) -> ResolvedQuery:  # type: ignore[no-untyped-def,type-arg]
    wanted.setdefault("symbols", ("AAPL",) if dataset == "stock-bars" else ())
    return question(query(dataset, wanted), KnownState(root, rows), NOON)


def window(found: ResolvedQuery) -> Window:
    return found.jobs[0].asked[0].window


def test_without_dates_everything_final_since_the_providers_first_day_is_asked() -> None:
    assert window(ask()) == Window(STOCKS.floor, date(2024, 6, 4))


def test_both_named_days_are_inside_the_window() -> None:
    assert window(ask(start="2024-01-02", end="2024-01-05")) == Window(date(2024, 1, 2), date(2024, 1, 6))


def test_a_future_end_becomes_today_and_says_so() -> None:
    found = ask(end="2030-01-01")
    assert window(found).end == date(2024, 6, 5)
    assert "in the future" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "near"), [("2024-02-30", "2024-02-29"), ("2024-13-01", "2024-12-01"), ("yesterday", "2024-01-31")]
)
def test_a_day_that_is_none_names_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"--start '{text}' is no day. .*{near}"):
        day("--start", text)


def test_delayed_sip_is_sip_and_says_so() -> None:
    found = ask(feed="delayed_sip")
    assert found.jobs[0].series["feed"] == "sip"
    assert "16 minutes" in found.notes[0]


def test_contracts_are_asked_until_they_expire_and_not_when_they_did_before() -> None:
    symbols = ("SPY240405C00500000", "SPY240621C00500000", "SPY231215C00500000", "O:SPY240405P00500000")
    found = ask("option-bars", symbols=symbols, start="2024-02-01", end="2024-05-31")
    assert found.jobs[0].asked == (
        SymbolWindow(("SPY240405C00500000", "SPY240405P00500000"), Window(date(2024, 2, 1), date(2024, 5, 1))),
        SymbolWindow(("SPY240621C00500000",), Window(date(2024, 2, 1), date(2024, 6, 1))),
    )


def test_contracts_that_expire_in_one_month_share_a_window_and_begin_so_many_years_before() -> None:
    symbols = ("SPY240405C00500000", "SPY240412C00500000", "SPY260116C00500000")
    found = ask("option-bars", symbols=symbols, start="2015-01-01", end="2024-05-31", lookback_years=2)
    assert found.jobs[0].asked == (
        SymbolWindow(("SPY240405C00500000", "SPY240412C00500000"), Window(date(2022, 4, 1), date(2024, 5, 1))),
        SymbolWindow(("SPY260116C00500000",), Window(date(2024, 1, 1), date(2024, 6, 1))),
    )


ROWS = tuple(("SPY", date(2024, 6, 21), f"SPY240621{kind}00{strike}000") for kind in "CP" for strike in (400, 500, 600))


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({"strike_gte": "500"}, {"C500", "C600", "P500", "P600"}),
        ({"strike_lte": "500", "option_type": "put"}, {"P400", "P500"}),
        ({"moneyness": "0.9..1.1"}, {"C500", "P500"}),
        ({"moneyness": "0.9..1.3", "strike_gte": "550"}, {"C600", "P600"}),
    ],
)
def test_contracts_are_chosen_by_strike_type_and_moneyness(bounds: dict[str, str], kept: set[str]) -> None:
    wanted = query("option-bars", {"underlyings": ("SPY",), "start": "2024-05-01", **bounds})
    found = question(wanted, KnownState(Path("nowhere"), ROWS, closes={"SPY": 500.0}), NOON)
    assert {symbol[9] + symbol[12:15] for symbol in found.jobs[0].symbols} == kept


def test_moneyness_cuts_each_chain_at_strikes_of_its_own() -> None:
    wanted = query("option-snapshots", {"underlyings": ("SPY", "QQQ", "IWM"), "moneyness": "0.8..1.2"})
    found = question(wanted, KnownState(Path("nowhere"), closes={"SPY": 500.0, "QQQ": 123.456}), NOON)
    cut = {job.symbols: (job.series["strike_gte"], job.series["strike_lte"]) for job in found.jobs}
    assert cut == {("SPY",): ("400", "600"), ("QQQ",): ("98.764", "148.148"), ("IWM",): ("", "")}


@pytest.mark.parametrize("text", ["0.8", "1.2..0.8", "0.8-1.2", "a..b"])
def test_a_moneyness_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no range"):
        query("option-bars", {"underlyings": ("SPY",), "moneyness": text})


def test_contracts_of_a_target_are_known() -> None:
    rows = (("SPY", date(2024, 6, 21), "SPY240621C00500000"), ("QQQ", date(2024, 6, 21), "QQQ240621C00500000"))
    found = ask("option-bars", rows=rows, underlyings=("spy",), start="2024-05-01")
    assert found.jobs[0].symbols == ("SPY240621C00500000",)


def test_unknown_contracts_become_a_discovery() -> None:
    found = ask("option-bars", underlyings=("SPY",))
    assert found.jobs == ()
    assert {job.series["status"] for job in found.discovery} == {"active", "inactive"}


def test_a_listing_asks_both_statuses_by_whole_years() -> None:
    found = ask("option-contracts", underlyings=("SPY", "AAPL"), expiry_gte="2023-05-01", expiry_lte="2025-03-01")
    series = {(job.series["status"], job.series["expiry_gte"], job.series["expiry_lte"]) for job in found.jobs}
    assert series == {
        ("active", "2024-01-01", "2024-12-31"),
        ("active", "2025-01-01", "2025-12-31"),
        ("inactive", "2023-01-01", "2023-12-31"),
        ("inactive", "2024-01-01", "2024-12-31"),
    }
    assert found.jobs[0].asked == (SymbolWindow(("AAPL", "SPY"), Window(date(2024, 6, 4), date(2024, 6, 5))),)


def test_underlyings_are_not_for_stock_bars() -> None:
    with pytest.raises(UsageError, match="--underlyings is not for alpaca/stock-bars"):
        ask(underlyings=("SPY",))


def test_names_are_spelled_as_the_provider_does_and_changes_are_told() -> None:
    found = planning_symbols.resolve(["brk/b", "BRK-B", " aapl", "ABR-PD", "AAPL", "CSP1", "TAOP:NASDAQ"], STOCKS)
    assert found.kept == ("AAPL", "ABR-PD", "BRK.B")
    assert found.changed == (("brk/b", "BRK.B"), ("BRK-B", "BRK.B"))
    assert found.rejected == ("CSP1", "TAOP:NASDAQ")


@pytest.mark.parametrize("name", ["BTC/USD", "eth-usdt", "EUR/USD", "X:BTCUSD", "C:EURUSD", "BTC/EUR"])
def test_a_pair_of_currencies_is_refused_by_name_and_not_respelled(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} looks like a pair of currencies"):
        ask(symbols=("AAPL", name))


def test_bounds_that_leave_no_contract_are_said_to(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No contract of SPY is known within --strike-gte\. List them anew"):
        ask("option-bars", rows=ROWS, underlyings=("SPY",), start="2024-05-01", strike_gte="5000")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("AAPL\n# a note\nMSFT\n\n", ["AAPL", "MSFT"]),
        ("Symbol,Name\nAAPL,Apple\n", ["AAPL"]),
        ("name,TICKER\nApple,AAPL\nMicrosoft,MSFT\n", ["AAPL", "MSFT"]),
        ("\ufeffsymbol\nAAPL\n", ["AAPL"]),
        ("AAPL,100\nMSFT,200\n", ["AAPL", "MSFT"]),
        ("AAPL, MSFT,GOOG\n", ["AAPL", "MSFT", "GOOG"]),
    ],
)
def test_a_symbols_file_may_be_a_list_or_a_table(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "names.csv").write_text(text, encoding="utf-8")
    assert planning_symbols.from_file(str(tmp_path / "names.csv")) == names


def test_a_column_is_named_after_the_file(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("a,b\nAAPL,MSFT\n")
    assert planning_symbols.from_file(f"{tmp_path / 'names.csv'}:b") == ["MSFT"]
    with pytest.raises(UsageError, match="has no column 'c'"):
        planning_symbols.from_file(f"{tmp_path / 'names.csv'}:c")


def test_an_empty_symbols_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("")
    with pytest.raises(UsageError, match=r"names\.csv is empty"):
        planning_symbols.from_file(str(tmp_path / "names.csv"))
