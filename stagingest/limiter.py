from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class Lease:
    slot_s: float
    rate_per_s: float
    epoch: int
