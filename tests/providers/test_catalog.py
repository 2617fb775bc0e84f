"""The catalog: endpoints by name, and by dataset and provider."""

import pytest

from stagingest.errors import UsageError
from stagingest.model.datasets import DATASETS
from stagingest.providers import catalog


def test_every_endpoint_is_found_by_its_name_and_stages_a_known_dataset() -> None:
    names = ("stock-bars", "option-bars", "option-contracts", "option-snapshots")
    assert {name for name in catalog.endpoints() if name.startswith("alpaca/")} == {f"alpaca/{name}" for name in names}
    for name, endpoint in catalog.endpoints().items():
        assert catalog.endpoint(name) is endpoint
        assert name == f"{endpoint.provider}/{endpoint.dataset}"
        assert endpoint.dataset in DATASETS


def test_a_dataset_means_the_providers_endpoint_and_alpaca_by_default() -> None:
    stocks = catalog.endpoint("alpaca/stock-bars")
    assert catalog.resolve("stock-bars") is stocks
    assert catalog.resolve("stock-bars", "alpaca") is stocks
    assert catalog.resolve("alpaca/stock-bars", "other") is stocks


@pytest.mark.parametrize(
    ("text", "provider", "nearest"),
    [
        ("stock-bar", None, "stock-bars"),
        ("contracts", None, "option-contracts"),
        ("alpaca/option-bar", None, "alpaca/option-bars"),
        ("stock-bars", "alpacca", "alpaca"),
        ("", None, ""),
    ],
)
def test_a_name_that_is_not_known_is_answered_with_the_nearest(text: str, provider: str | None, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.resolve(text, provider)
    assert f"The nearest is {nearest}" in caught.value.next_step
    assert caught.value.exit_code == 2
