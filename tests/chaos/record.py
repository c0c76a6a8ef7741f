"""What left the agent, seen from outside it: each signature, and each payment put on the wire."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

import httpx

from domain.approvals import Approval
from tools.payments.wallets import TypedData

PAYMENT_HEADERS = ("PAYMENT-SIGNATURE", "X-PAYMENT")


@dataclass(frozen=True, slots=True)
class SentPayment:
    """A signed authorization that was on its way to a vendor: it may settle."""

    nonce: str
    pay_to: str
    micros: int
    valid_before_s: int
    header: str


@dataclass(slots=True)
class Record:
    """Shared by all lives of a case."""

    signatures: list[TypedData] = field(default_factory=list)
    payments: dict[str, SentPayment] = field(default_factory=dict)
    """By header: each is kept once, however often it is sent."""
    yeses: list[Approval] = field(default_factory=list)
    """What a person has approved."""
    hosts: set[str] = field(default_factory=set)
    """Where payments were sent."""

    def sent(self, request: httpx.Request) -> None:
        for name in PAYMENT_HEADERS:
            if header := request.headers.get(name):
                self.hosts.add(request.url.host)
                signed = json.loads(base64.b64decode(header))["payload"]["authorization"]
                self.payments[header] = SentPayment(
                    nonce=signed["nonce"].lower(),
                    pay_to=signed["to"],
                    micros=int(signed["value"]),
                    valid_before_s=int(signed["validBefore"]),
                    header=header,
                )
