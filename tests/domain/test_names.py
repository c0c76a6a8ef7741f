"""Vendors in sentences: by name, and never the wrong one."""

from __future__ import annotations

import pytest

from domain.names import Names, named, names_of
from tests.support.builders import a_vendor

NAMES = Names({"gpu_vendor_1": "FastGPU", "gpu_vendor_10": "TenGPU", "to": "Trick"})


def test_vendors_that_share_a_name_are_told_apart_by_their_ids() -> None:
    vendors = [a_vendor("a", name="One"), a_vendor("b", name="Same"), a_vendor("c", name="Same")]
    names = names_of(vendors)
    assert names == {"a": "One", "b": "Same (b)", "c": "Same (c)"}
    assert names["struck_off"] == "struck_off"


@pytest.mark.parametrize(
    ("sentence", "read"),
    [
        ("gpu_vendor_1 quote: no answer", "FastGPU quote: no answer"),
        ("gpu_vendor_10, not gpu_vendor_1.", "TenGPU, not FastGPU."),
        ("paid to it", "paid to it"),
        ("FastGPU (gpu_vendor_1)", "FastGPU (gpu_vendor_1)"),
        (".gpu-renter/gpu_vendor_1/model.json", ".gpu-renter/gpu_vendor_1/model.json"),
        ("my_gpu_vendor_1 and gpu_vendor_1.example", "my_gpu_vendor_1 and gpu_vendor_1.example"),
    ],
)
def test_an_id_is_read_as_a_name_where_it_stands_alone(sentence: str, read: str) -> None:
    assert named(sentence, NAMES) == read
    assert named(sentence, Names()) == sentence
