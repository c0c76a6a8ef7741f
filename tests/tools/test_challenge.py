import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.schemas.payments import PaymentRequired

from domain.errors import ChainDown, PolicyRefused, VendorGarbage
from domain.money import Usd
from domain.networks import BASE, LOCAL
from domain.payments import PaymentTerms, PurchaseKind
from domain.policy import SpendingPolicy
from server.config.settings import Settings
from tests.tools.builders import (
    NETWORK,
    PAYEE,
    STRANGER,
    VENDOR,
    challenge_json,
    challenge_v1_json,
    encoded,
    requirement,
)
from tools.payments.admission import MOST_APART_S, admit, check_clock
from tools.payments.chain import Block
from tools.payments.challenge import Challenge, read_challenge
from tools.payments.purchase import Purchase

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["exact", "2100000", PAYEE, NETWORK.caip2, "\ud800", "\u202e"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*requirement(), *challenge_json(), "maxAmountRequired", "info"])
            | st.text(max_size=5),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)


def read_v2(challenge: object) -> Challenge | None:
    return read_challenge({"payment-required": encoded(challenge)}, b"")


def test_the_header_is_read_into_terms() -> None:
    challenge = read_v2(challenge_json())
    assert challenge is not None
    terms = challenge.accepts[0]
    assert (challenge.x402_version, challenge.error) == (2, "payment required")
    assert (terms.scheme, terms.network, terms.asset) == ("exact", NETWORK.caip2, NETWORK.usdc)
    assert (terms.pay_to, terms.amount, terms.max_timeout_s) == (PAYEE, Usd(2_100_000), 300)


def test_without_a_header_the_body_is_read() -> None:
    challenge = read_challenge({}, json.dumps(challenge_json()).encode())
    assert challenge is not None
    assert challenge.x402_version == 2


def test_the_header_wins_over_the_body() -> None:
    body = json.dumps(challenge_json(requirement(amount="9"))).encode()
    challenge = read_challenge({"PAYMENT-REQUIRED": encoded(challenge_json())}, body)
    assert challenge is not None
    assert challenge.accepts[0].amount == Usd(2_100_000)


def test_a_v1_body_is_read_and_its_network_name_becomes_caip2() -> None:
    body = json.dumps(challenge_v1_json(network="base")).encode()
    challenge = read_challenge({}, body)
    assert challenge is not None
    assert (challenge.x402_version, challenge.accepts[0].network) == (1, BASE.caip2)
    assert challenge.accepts[0].amount == Usd(2_100_000)


def test_a_v1_name_means_nothing_in_v2() -> None:
    challenge = read_v2(challenge_json(requirement(network="base")))
    assert challenge is not None
    assert challenge.accepts[0].network == "base"


@pytest.mark.parametrize("body", [b"", b"pay up", b"{}", b'{"error": "pay"}', b"[1]", b"\xff\xfe"])
def test_a_402_that_is_no_x402_challenge_reads_as_none(body: bytes) -> None:
    assert read_challenge({"x402-tx-id": "local_1"}, body) is None


@pytest.mark.parametrize(
    "header", ["", "%%%", "é", "bm90IGpzb24=", encoded([]), encoded({}), "A" * 99_999]
)
def test_a_malformed_header_is_garbage_and_never_a_vendor_outside_x402(header: str) -> None:
    with pytest.raises(VendorGarbage, match="gpu_vendor_1 submit-job: its x402 challenge"):
        read_challenge(
            {"payment-required": header}, b"", vendor_id="gpu_vendor_1", call="submit-job"
        )


@pytest.mark.parametrize(
    "amount",
    ["-1", "1.5", "1e6", "+1", " 1", "0x10", "٣", "", "01", "9" * 17, "1" + "0" * 15 + "1"],
)
def test_an_amount_that_is_no_plain_integer_in_bounds_is_not_read(amount: str) -> None:
    both = read_v2(challenge_json(requirement(amount=amount), requirement(amount="5")))
    assert both is not None
    assert [terms.amount for terms in both.accepts] == [Usd(5)]
    with pytest.raises(VendorGarbage, match="no way to pay"):
        read_v2(challenge_json(requirement(amount=amount)))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"amount": amount} for amount in (5.0, 5e300, True, None, [5])),
        {"payTo": None},
        {"maxTimeoutSeconds": "soon"},
        {"network": 8453},
        {"scheme": {}},
    ],
)
def test_an_entry_of_wrong_types_does_not_spoil_the_others(wrong: dict[str, object]) -> None:
    bad = requirement(**wrong)
    challenge = read_v2(challenge_json(bad, requirement(amount="7")))
    assert challenge is not None
    assert [terms.amount for terms in challenge.accepts] == [Usd(7)]
    assert challenge.requirement(challenge.accepts[0]).get_amount() == "7"
    with pytest.raises(VendorGarbage, match="no way to pay that can be read: "):
        read_v2(challenge_json(bad))


@pytest.mark.parametrize("bad", ["exact", None, 7, []])
def test_an_entry_that_is_none_does_not_spoil_the_others(bad: object) -> None:
    challenge = read_v2(challenge_json() | {"accepts": [bad, requirement()]})
    assert challenge is not None
    assert len(challenge.accepts) == 1


def test_a_whole_number_is_an_amount() -> None:
    for challenge in (
        read_v2(challenge_json(requirement(amount=7))),
        read_challenge({}, json.dumps(challenge_v1_json(maxAmountRequired=7)).encode()),
    ):
        assert challenge is not None
        assert challenge.accepts[0].amount == Usd(7)


@pytest.mark.parametrize(
    "top",
    [
        {"resource": "http://vendor.test/thing"},
        {"resource": 7},
        {"resource": {"url": None}},
        {"error": {"why": "no"}},
        {"extensions": ["x"]},
    ],
)
def test_what_stands_around_the_entries_does_not_spoil_them(top: dict[str, object]) -> None:
    challenge = read_v2(challenge_json(**top))
    assert challenge is not None
    assert challenge.accepts[0].amount == Usd(2_100_000)
    if isinstance(top.get("resource"), str):
        assert isinstance(challenge.document, PaymentRequired)
        assert challenge.document.resource is not None
        assert challenge.document.resource.url == top["resource"]


@pytest.mark.parametrize("padding", ["", "=", "==", "==="])
def test_a_header_is_read_however_it_is_padded(padding: str) -> None:
    for extra in range(3):
        header = encoded(challenge_json(error="x" * extra)).rstrip("=") + padding
        assert read_challenge({"payment-required": header}, b"") is not None


@pytest.mark.parametrize("timeout", [-1, 10**10])
def test_an_absurd_timeout_is_not_read(timeout: int) -> None:
    with pytest.raises(VendorGarbage):
        read_v2(challenge_json(requirement(maxTimeoutSeconds=timeout)))


def test_too_many_ways_to_pay_are_garbage() -> None:
    small = requirement(extra={}, asset="")
    with pytest.raises(VendorGarbage, match="more than 32"):
        read_v2(challenge_json(*[small] * 33))


def test_an_oversized_challenge_is_garbage() -> None:
    with pytest.raises(VendorGarbage, match="above"):
        read_v2(challenge_json(extensions={"x": "y" * 20_000}))


def test_text_from_the_vendor_is_stripped_and_bounded() -> None:
    challenge = read_v2(challenge_json(error="\x1b[31mpay\u202e\n" + "x" * 999))
    assert challenge is not None
    assert challenge.error.startswith("[31mpay x")
    assert len(challenge.error) == 200


def test_a_permit2_entry_is_never_what_a_signature_answers() -> None:
    permit2 = requirement(extra={"assetTransferMethod": "permit2"})
    mixed = read_v2(challenge_json(permit2, requirement()))
    only = read_v2(challenge_json(permit2))
    assert mixed is not None
    assert only is not None
    extra = mixed.requirement(mixed.accepts[0]).get_extra()
    assert extra is not None
    assert "assetTransferMethod" not in extra
    with pytest.raises(PolicyRefused, match="no EIP-3009"):
        only.requirement(only.accepts[0])


QUOTED = Usd(3_000_000)
SELLER = Purchase(
    slot=0,
    kind=PurchaseKind.LAUNCH,
    vendor=VENDOR,
    quoted=QUOTED,
    minutes=60,
    gpu_type="A100",
    order={},
)


def admitted(*entries: dict[str, object], shortest_s: int = 30) -> PaymentTerms:
    challenge = read_v2(challenge_json(*entries))
    assert challenge is not None
    policy = SpendingPolicy(NETWORK, Usd.parse(100), shortest_validity_s=shortest_s)
    return admit(policy, challenge, SELLER, QUOTED)


def test_of_fitting_offers_the_cheapest_is_paid() -> None:
    cheap = requirement(amount="1000000")
    assert admitted(requirement(), cheap, requirement(amount="2000000")).amount == Usd(1_000_000)
    for unfit in (
        requirement(amount="5", network=BASE.caip2),
        requirement(amount="5", payTo=STRANGER),
        requirement(amount="5", asset=STRANGER),
        requirement(amount="5", scheme="upto"),
        requirement(amount="5", maxTimeoutSeconds=5),
        requirement(amount="5", extra={"assetTransferMethod": "permit2"}),
        requirement(amount="0"),
    ):
        assert admitted(unfit, requirement(), cheap).amount == Usd(1_000_000)
        with pytest.raises(PolicyRefused):
            admitted(unfit, requirement(amount="3000001"))


def test_how_short_a_time_to_pay_may_be_is_the_owners_choice() -> None:
    hurried = requirement(maxTimeoutSeconds=30)
    assert admitted(hurried).max_timeout_s == 30
    with pytest.raises(PolicyRefused, match="MIN_VALIDITY_S"):
        admitted(hurried, shortest_s=60)
    assert Settings.load({"MIN_VALIDITY_S": "45"}).min_validity_s == 45


def test_nothing_is_signed_while_our_clock_and_a_public_chains_are_far_apart() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    newest = int(now.timestamp())
    for apart in (-MOST_APART_S, 0, MOST_APART_S):
        check_clock(now, Block(1, newest + apart), BASE)
    for apart in (-MOST_APART_S - 1, MOST_APART_S + 1):
        check_clock(now, Block(1, newest + apart), LOCAL)
        with pytest.raises(ChainDown, match="301 s apart"):
            check_clock(now, Block(1, newest + apart), BASE)
    check_clock(now, Block(1, 0), BASE)  # a block whose time nobody knows


def test_terms_that_the_challenge_does_not_offer_have_no_entry() -> None:
    first, second = read_v2(challenge_json()), read_v2(challenge_json(requirement(amount="7")))
    assert first is not None
    assert second is not None
    with pytest.raises(PolicyRefused):
        first.requirement(second.accepts[0])


def read_anything(headers: dict[str, str], body: bytes) -> None:
    try:
        challenge = read_challenge(headers, body)
    except VendorGarbage as error:
        message = str(error)
    else:
        message = challenge.error if challenge else ""
        assert all(0 <= terms.amount.micros <= 10**15 for terms in _accepts(challenge))
    assert len(message) < 400
    assert message.isprintable()


def _accepts(challenge: Challenge | None) -> tuple[PaymentTerms, ...]:
    return challenge.accepts if challenge else ()


@settings(max_examples=40)
@given(st.binary(max_size=400))
def test_random_bytes_never_break_the_reader(data: bytes) -> None:
    read_anything({}, data)
    read_anything({"payment-required": base64.b64encode(data).decode()}, b"")
    read_anything({"payment-required": data.decode("latin-1")}, data)


@settings(max_examples=40)
@given(JSON)
def test_random_json_never_breaks_the_reader(value: object) -> None:
    read_anything({}, json.dumps(value).encode())
    read_anything({"payment-required": encoded(value)}, b"")


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(list(requirement())), JSON, max_size=3),
    st.dictionaries(st.sampled_from(list(challenge_json())), JSON, max_size=2),
)
def test_a_nearly_right_challenge_never_breaks_the_reader(
    entry: dict[str, object], top: dict[str, object]
) -> None:
    read_anything({}, json.dumps(challenge_json(requirement(**entry)) | top).encode())


@pytest.mark.parametrize("depth", [40, 5_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    deep = b'{"x402Version": 2, "accepts": ' + b"[" * depth + b"]" * depth + b"}"
    assert read_challenge({}, deep) is None
    with pytest.raises(VendorGarbage):
        read_challenge({"payment-required": base64.b64encode(deep).decode()}, b"")
