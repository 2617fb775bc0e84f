"""Why an endpoint was not asked any more, and what a person can do about it."""

from stagingest import catalog, settings


def advice(endpoint: str, kind: str, why: str) -> str:
    """Why an endpoint was stopped, and what to do about it."""
    budget = settings.BUDGETS[catalog.endpoint(endpoint).budget]
    keys = " and ".join(names[0] for _, names in budget.keys)
    if kind == "credentials":
        return f"{endpoint}: {why}. Set {keys} to a key pair of this host and run the same command again."
    if kind == "forbidden" and budget.tells_keys:
        return (
            f"{endpoint}: {why}. The plan of {keys} does not include this data, or not so far back (--start): "
            "a wrong key would be answered 401."
        )
    if kind == "forbidden":
        return (
            f"{endpoint}: {why}. Either the plan does not include this data, or the key pair in {keys} is wrong: "
            "the provider answers both alike."
        )
    if kind == "refused":
        return f"{endpoint}: {why}. It refuses every question: check {budget.url_variable} and the options."
    if kind == "down":
        return f"{endpoint}: {why}, for 15 minutes without one answer. Run the same command again later."
    if kind == "limited":
        return f"{endpoint}: {why} for 15 minutes without one answer. Run the same command again later."
    return f"{endpoint}: {why}. Check {budget.url_variable} and the network, then run the same command again."
