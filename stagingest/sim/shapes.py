"""How a page of Alpaca's is put together: the rows, and the next page or none."""

from stagingest.sim.policy import Policy


def rows_member(policy: Policy, name: bytes, rows: bytes, *, lists: bool) -> bytes:
    """The member that holds the rows, in the shape the policy wants for none."""
    empty = "[]" if lists and policy.empty_shape == "{}" else policy.empty_shape
    if rows:
        return b'"%s":%s' % (name, b"[%s]" % rows if lists else b"{%s}" % rows)
    return b"" if empty == "missing" else b'"%s":%s' % (name, empty.encode())


def next_member(policy: Policy, token: str | None) -> bytes:
    """The member that names the next page, in the shape the policy wants for none."""
    if token is not None:
        return b'"next_page_token":"%s"' % token.encode()
    missing = policy.last_token == "missing"  # noqa: S105
    return b"" if missing else b'"next_page_token":%s' % policy.last_token.encode()
