"""Prints what reading a bars page costs beside `orjson.loads` of the same page, in alternation within one run.

    python scripts/bench_pages.py [ROUNDS]

CPU milliseconds a page, median of ROUNDS (31); `x` is the ratio to `orjson.loads`. `read` is the whole of
`bars.read`: the route it chose, the checks of symbols and window, the table. The last lines are million bars a second
of one thread and of two threads of one process, for each route.
"""

import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta

import orjson
import pyarrow as pa

from stagingest.model import calendar
from stagingest.model.chunk import Chunk
from stagingest.model.windows import Window
from stagingest.providers.alpaca import bars, fast_bars
from stagingest.providers.alpaca.endpoints import AlpacaOptionBars, AlpacaStockBars
from stagingest.providers.endpoint import Endpoint

pa.set_cpu_count(1)
pa.set_io_thread_count(1)


def stamps(timeframe: str, count: int) -> list[datetime]:
    found: list[datetime] = []
    for day in calendar.between(date(2014, 1, 2), date(2026, 1, 1)):
        if timeframe == "1Day":
            found.append(calendar.instant(day))
        else:
            opens = calendar.hours(day)[0]
            found += [opens + timedelta(minutes=minute) for minute in range(390)]
        if len(found) >= count:
            break
    return found[:count]


def bar(luck: random.Random, price: float, stamp: datetime, volume: int) -> str:
    high, low = price * (1 + abs(luck.gauss(0, 0.004))), price * (1 - abs(luck.gauss(0, 0.004)))
    close = luck.uniform(low, high)
    return (
        f'{{"c":{close:.2f},"h":{high:.2f},"l":{low:.4f},"n":{luck.randint(1, 1 + volume // 90)},"o":{price:.2f},'
        f'"t":"{stamp:%Y-%m-%dT%H:%M:%SZ}","v":{luck.randint(1, volume)},"vw":{(high + low + close) / 3:.6f}}}'
    )


def page(symbols: tuple[str, ...], timeframe: str, each: int, volume: int) -> bytes:
    luck = random.Random(len(symbols))
    parts = []
    for symbol in symbols:
        price = luck.uniform(8, 600)
        lines = [bar(luck, price * luck.uniform(0.9, 1.1), stamp, volume) for stamp in stamps(timeframe, each)]
        parts.append(f'"{symbol}":[{",".join(lines)}]')
    return ('{"bars":{' + ",".join(parts) + '},"next_page_token":null}').encode()


def tickers(count: int) -> tuple[str, ...]:
    return tuple(chr(65 + n // 676) + chr(65 + n // 26 % 26) + chr(65 + n % 26) for n in range(count))


def shapes() -> list[tuple[str, Endpoint, str, tuple[str, ...], int, int]]:
    contracts = tuple(f"AAPL260619C{strike * 1000:08d}" for strike in range(100, 200))
    return [
        ("daily, 4 symbols", AlpacaStockBars(), "1Day", tickers(4), 2_500, 9_000_000),
        ("1-min, 1 symbol", AlpacaStockBars(), "1Min", tickers(1), 10_000, 90_000),
        ("daily, 40 symbols", AlpacaStockBars(), "1Day", tickers(40), 250, 9_000_000),
        ("options, 100 symbols", AlpacaOptionBars(), "1Day", contracts, 48, 900),
    ]


def cpu_ms(routes: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in routes}
    luck = random.Random(rounds)
    for _ in range(rounds):
        # Whoever follows the reader by name finds colder caches: nobody does so always.
        for name in luck.sample(list(routes), len(routes)):
            began = time.thread_time()
            routes[name]()
            spent[name].append((time.thread_time() - began) * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


def pages_per_s(route: Callable[[], object], threads: int, pages: int = 40) -> float:
    limiter = threading.Barrier(threads + 1)

    def lane() -> None:
        limiter.wait()
        for _ in range(pages):
            route()

    lanes = [threading.Thread(target=lane) for _ in range(threads)]
    for each in lanes:
        each.start()
    limiter.wait()
    began = time.perf_counter()
    for each in lanes:
        each.join()
    return threads * pages / (time.perf_counter() - began)


def main(rounds: int) -> None:
    print(f"{'CPU ms a page':22}{'bars':>7}{'orjson':>9}{'by name':>9}{'x':>6}{'proved':>9}{'x':>6}{'read':>9}{'x':>6}")
    lanes = []
    for title, endpoint, timeframe, symbols, each, volume in shapes():
        body = page(symbols, timeframe, each, volume)
        chunk = Chunk(endpoint.canonical({"timeframe": timeframe}), symbols, Window(date(2014, 1, 1), date(2026, 1, 1)))
        request = endpoint.first(chunk)
        routes: dict[str, Callable[[], object]] = {
            "orjson": lambda body=body: orjson.loads(body),
            "named": lambda body=body: bars.named(body).table("symbol"),
            "proved": lambda body=body, minutes=timeframe == "1Min": fast_bars.read(body, minutes=minutes).table(
                "symbol"
            ),
            "read": lambda body=body, e=endpoint, c=chunk, r=request: e.read(c, r, body),
        }
        ms = cpu_ms(routes, rounds)
        rows = len(symbols) * each
        line = f"{title:22}{rows:7}{ms['orjson']:9.2f}"
        print(line + "".join(f"{ms[name]:9.2f}{ms[name] / ms['orjson']:6.2f}" for name in ("named", "proved", "read")))
        lanes.append((title, rows, routes))
    print(f"\n{'Mbars/s':22}{'':12}{'1 thread':>10}{'2 threads':>11}{'x':>6}")
    for title, rows, routes in lanes:
        for name in ("named", "proved"):
            pairs = [[pages_per_s(routes[name], threads) for threads in (1, 2)] for _ in range(5)]
            one, two = (statistics.median(column) * rows / 1e6 for column in zip(*pairs, strict=True))
            print(f"{title:22}{name:12}{one:10.2f}{two:11.2f}{two / one:6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 31)
