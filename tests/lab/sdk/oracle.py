"""What alpaca-py and massive themselves get from a server: `oracle.py BASE_URL < question.json > rows.json`.

Runs in an environment that has both. A question names any of

    {"stock_bars": {"symbols": [...], "timeframe": [1, "Day"], "start": ..., "end": ...,
                    "adjustment": "raw", "feed": "sip"},
     "option_bars": {"symbols": [...], "timeframe": [1, "Hour"], "start": ..., "end": ...},
     "option_contracts": {"underlying_symbols": [...], "expiration_date_gte": ..., "expiration_date_lte": ...},
     "option_chain": {"underlying_symbol": ..., "feed": "opra", "type": "call", "strike_price_gte": ...},
     "option_snapshots": {"symbols": [...]},
     "massive_chain": {"underlying": ..., "params": {"strike_price.gte": ...}},
     "massive_bars": {"tickers": [...], "span": [1, "day"], "start": ms, "end": ms, "adjusted": false},
     "massive_contracts": {"underlying": ..., "params": {"expiration_date.gte": ...}}}

with RFC 3339 instants and dates; the answer holds, under the same names, bars and snapshots by symbol and contracts as
they came.
"""

import json
import sys
from dataclasses import asdict
from datetime import datetime

import massive
from alpaca.data.enums import Adjustment, DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.historical.option import OptionHistoricalDataClient
from alpaca.data.requests import OptionBarsRequest, OptionChainRequest, OptionSnapshotRequest, StockBarsRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import AssetStatus
from alpaca.trading.requests import GetOptionContractsRequest

KEYS = ("KEY", "SECRET")
MOST_OPTIONS = 100


def timeframe(parts):
    amount, unit = parts
    return TimeFrame(amount, TimeFrameUnit(unit))


def window(question):
    return {name: datetime.fromisoformat(question[name]) for name in ("start", "end")}


def stock_bars(url, question):
    client = StockHistoricalDataClient(*KEYS, url_override=url, raw_data=True)
    return client.get_stock_bars(
        StockBarsRequest(
            symbol_or_symbols=question["symbols"],
            timeframe=timeframe(question["timeframe"]),
            feed=DataFeed(question.get("feed", "sip")),
            adjustment=Adjustment(question.get("adjustment", "raw")),
            **window(question),
        )
    )


def option_bars(url, question):
    client = OptionHistoricalDataClient(*KEYS, url_override=url, raw_data=True)
    symbols, found = question["symbols"], {}
    for at in range(0, len(symbols), MOST_OPTIONS):
        request = OptionBarsRequest(
            symbol_or_symbols=symbols[at : at + MOST_OPTIONS],
            timeframe=timeframe(question["timeframe"]),
            **window(question),
        )
        found |= client.get_option_bars(request)
    return found


def option_contracts(url, question):
    client = TradingClient(*KEYS, paper=True, url_override=url, raw_data=True)
    found = []
    for status in AssetStatus.ACTIVE, AssetStatus.INACTIVE:
        token = None
        while True:
            request = GetOptionContractsRequest(**question, status=status, limit=10_000, page_token=token)
            page = client.get_option_contracts(request)
            found += page["option_contracts"]
            token = page.get("next_page_token")
            if not token:
                break
    return found


def option_chain(url, question):
    client = OptionHistoricalDataClient(*KEYS, url_override=url, raw_data=True)
    return client.get_option_chain(OptionChainRequest(**question))


def option_snapshots(url, question):
    client = OptionHistoricalDataClient(*KEYS, url_override=url, raw_data=True)
    symbols, found = question["symbols"], {}
    for at in range(0, len(symbols), MOST_OPTIONS):
        found |= client.get_option_snapshot(OptionSnapshotRequest(symbol_or_symbols=symbols[at : at + MOST_OPTIONS]))
    return found


def massive_chain(url, question):
    client = massive.RESTClient("KEY", base=url)
    found = client.list_snapshot_options_chain(question["underlying"], params={"limit": 250, **question["params"]})
    return [asdict(one) for one in found]


def massive_bars(url, question):
    client, (multiplier, span) = massive.RESTClient("KEY", base=url), question["span"]
    bounds = question["start"], question["end"]
    return {
        name: [
            asdict(one)
            for one in client.list_aggs(
                name, multiplier, span, *bounds, adjusted=question["adjusted"], sort="asc", limit=50_000
            )
        ]
        for name in question["tickers"]
    }


def massive_contracts(url, question):
    client = massive.RESTClient("KEY", base=url)
    return {
        status: [
            asdict(one)
            for one in client.list_options_contracts(
                question["underlying"], expired=status == "inactive", limit=1000, params=question["params"]
            )
        ]
        for status in ("active", "inactive")
    }


ENDPOINTS = {"option_chain": option_chain, "option_snapshots": option_snapshots, "massive_chain": massive_chain}
ENDPOINTS |= {"massive_bars": massive_bars, "massive_contracts": massive_contracts}
ENDPOINTS |= {"stock_bars": stock_bars, "option_bars": option_bars, "option_contracts": option_contracts}

if __name__ == "__main__":
    question = json.load(sys.stdin)
    json.dump({name: ENDPOINTS[name](sys.argv[1], part) for name, part in question.items()}, sys.stdout)
