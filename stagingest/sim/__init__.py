"""An imitation of the providers on loopback: `with Server(market_from(100)) as server: server.url`.

Imports: errors model.calendar
"""

from stagingest.sim.market.bars import Timeframe
from stagingest.sim.market.generated import Generated, names
from stagingest.sim.market.market import Market, market_from
from stagingest.sim.market.replay import Replay
from stagingest.sim.policy import EMPTY_SHAPES, FAULT_KINDS, LAST_TOKENS, Fault, Policy
from stagingest.sim.server import Logged, Server

__all__ = [
    "EMPTY_SHAPES",
    "FAULT_KINDS",
    "LAST_TOKENS",
    "Fault",
    "Generated",
    "Logged",
    "Market",
    "Policy",
    "Replay",
    "Server",
    "Timeframe",
    "market_from",
    "names",
]
