"""Vendors, each a folder: what can be asked of it, how, and how its answers are read; pure.

Imports: errors model system.plugs

To add a provider, write an `endpoints.py` that ends in its declaration, and a reader beside it that turns a body into a
`Page`, imported by `Endpoint.read` alone, so that planning loads no pyarrow:

    API = Host("acme/api", "ACME_BASE_URL", "https://api.acme.example", 5 / 60, (("X-Key", ("ACME_API_KEY",)),))
    PROVIDER = Provider("acme", (API,), (DailyBars(),))

`plan` estimates its minutes by the rate of the lowest plan, and keys are looked up, checked, listed and kept out of
logs by the variables named here. Rows are of a dataset that there is, `acme/stock-bars` of `stock-bars`. A provider of
this package is listed in `catalog`; another distribution announces its own in pyproject.toml:

    [project.entry-points."stagingest.providers"]
    acme = "acme.endpoints:PROVIDER"
"""
