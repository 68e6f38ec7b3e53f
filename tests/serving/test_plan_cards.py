"""The table of cards, and what a user writes after --gpu and --gpus."""

import pytest

from serving.cards import CardError, find_card, load_cards, match_card, parse_cards

MIB = 1 << 20


def test_the_table_holds_the_cards_it_must_and_each_is_whole() -> None:
    names = {card.name for card in load_cards()}
    assert names >= {"RTX A4500", "RTX 4090", "RTX 3090", "RTX 6000 Ada", "T4", "L4", "A10", "A10G", "L40S", "B200"}
    assert names >= {"A100 40GB", "A100 80GB", "H100", "H100 PCIe", "H100 NVL", "H200", "V100 16GB", "V100 32GB"}
    for card in load_cards():
        assert 15 << 30 <= card.memory <= 180 << 30
        assert 3e11 <= card.bandwidth <= 8e12
        assert 6e13 <= card.flops <= 2.3e15
        assert (card.fp8_flops > 0) == (card.capability >= (8, 9))
    spellings = [spelling.lower() for card in load_cards() for spelling in (card.name, *card.aliases)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA RTX A4500", "RTX A4500"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100 32GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A10G", "A10G"),
        ("rtx-a4500", "RTX A4500"),
        ("4090", "RTX 4090"),
        ("a4500", "RTX A4500"),
        ("RTX A4500 20 GB", "RTX A4500"),
        ("a100 40", "A100 40GB"),
    ],
)
def test_a_card_is_found_by_the_drivers_name_and_by_hand(driver: str, name: str) -> None:
    assert find_card(driver).name == name


def test_another_card_is_not_taken_for_one_of_ours() -> None:
    assert match_card("NVIDIA GB10") is None
    assert match_card("NVIDIA L40") is None
    with pytest.raises(CardError, match=r"--gpu RTX 4080: no such card; the nearest are RTX 4090"):
        find_card("RTX 4080")


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [("2xH100", 2, "H100"), ("8 × L4", 8, "L4"), ("RTX A4500", 1, "RTX A4500"), ("4*A100 40GB", 4, "A100 40GB")],
)
def test_a_number_of_cards_is_understood(text: str, number: int, name: str) -> None:
    found, card = parse_cards(text)
    assert (found, card.name) == (number, name)


@pytest.mark.parametrize("text", ["", "0xH100", "2x"])
def test_no_cards_are_no_machine(text: str) -> None:
    with pytest.raises(CardError, match=r"must be a number and a card|no such card"):
        parse_cards(text)


def test_figures_are_in_bytes_and_operations() -> None:
    card = find_card("RTX A4500")
    assert (card.memory, card.bandwidth, card.flops) == (20470 * MIB, 640e9, 94.6e12)
    assert card.display
