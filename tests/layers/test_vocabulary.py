"""Which layers a name stands for."""

import pytest

from latprof.layers.vocabulary import belongs_to


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("gateway.auth", "gateway"),
        ("gateway.auth", "gateway.auth"),
        ("gateway.validate+gateway.auth", "gateway"),
        ("net+server", "net+server"),
        ("net.request", "net"),
    ],
)
def test_a_prefix_has_its_children_and_what_is_merged_from_them_alone(layer: str, name: str) -> None:
    assert belongs_to(layer, name)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("net.request+lb", "net"),
        ("net.request+server", "net"),
        ("net.request+lb", "lb"),
        ("net+engine", "net"),
        ("gateway2.auth", "gateway"),
        ("prefill", "gateway"),
    ],
)
def test_time_shared_with_others_is_nobodys_alone(layer: str, name: str) -> None:
    assert not belongs_to(layer, name)
