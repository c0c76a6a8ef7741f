"""Weaknesses planted on purpose, one for each defence, to show that the attacks would find them.

    with planted("no_payee_check"):
        ...  # the agent pays whoever asks

Each takes one defence away and leaves all others; `FOUND_BY` names the attack that must then
break something, the mode, and the kind of sentence that it must break it with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from unittest.mock import patch

import httpx
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from domain.approvals import Approval
from domain.policy import SpendingPolicy
from graph.persistence.strict_serializer import StrictSerializer
from graph.planner import planners
from graph.steps import extension
from ledger.approvals import Approvals, _approval
from ledger.run import Run
from server.access import Principal
from tests.chaos.planted import believe_a_refund, follow_redirects, pay_unapproved
from tests.redteam.attack import LLM, STUB
from tests.redteam.leaks import VENDOR_SECRET
from tools import fence as fence_module
from tools.payments import approving, cashier, chain
from tools.payments.approving import ApprovalGate
from tools.payments.authorization import sign_payment
from tools.payments.purchase import Purchase
from tools.vendors import artifacts, fields
from tools.vendors.secrets import VendorSecrets
from tools.wire import untrusted

Plant = Callable[[ExitStack], None]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The agent has this weakness as long as the block runs. One of PLANTS."""
    with ExitStack() as stack:
        PLANTS[name](stack)
        yield


def _everywhere(stack: ExitStack, name: str, real: object, weak: object) -> None:
    """In every module that has imported it by name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name) is real:
            stack.enter_context(patch.object(module, name, weak))


def _check_terms(stack: ExitStack, weaker: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> None:
    real = SpendingPolicy.check_terms

    def checking(self: SpendingPolicy, terms: Any, **known: Any) -> None:
        real(self, terms, **weaker(terms, known))

    stack.enter_context(patch.object(SpendingPolicy, "check_terms", checking))


def no_payee_check(stack: ExitStack) -> None:
    """Whoever the 402 names is paid."""
    _check_terms(stack, lambda terms, known: {**known, "pay_to": terms.pay_to})


def no_price_check(stack: ExitStack) -> None:
    """What the 402 asks for is paid."""
    _check_terms(stack, lambda terms, known: {**known, "quoted": terms.amount})


def no_end_of_validity(stack: ExitStack) -> None:
    """A signature is valid for as long as the vendor wishes."""

    def valid_before(self: SpendingPolicy, terms: Any, now_s: int) -> int:  # noqa: ARG001
        return now_s + int(terms.max_timeout_s)

    stack.enter_context(patch.object(SpendingPolicy, "valid_before", valid_before))


def domain_from_the_challenge(stack: ExitStack) -> None:
    """The 402 says which token's domain is signed over, as in the stock client."""

    async def signing(
        wallet: Any, network: Any, challenge: Any, terms: Any, **known: Any
    ) -> object:
        extra = challenge.requirement(terms).get_extra() or {}
        bent = replace(network, eip712_name=str(extra.get("name", network.eip712_name)))
        return await sign_payment(wallet, bent, challenge, terms, **known)

    stack.enter_context(patch.object(cashier, "sign_payment", signing))


def no_fence(stack: ExitStack) -> None:
    """Data marks in the data stay what they are."""

    real = fence_module.fence

    def weak(*args: Any) -> str:
        return real(*args).replace("\\u003c", "<")

    _everywhere(stack, "fence", real, weak)


def no_cleaning(stack: ExitStack) -> None:
    """Control characters are kept."""

    def weak(text: str, limit: int, secrets: tuple[str, ...] = ()) -> str:
        for secret in secrets:
            text = text.replace(secret, "[secret]")
        return text[:limit]

    _everywhere(stack, "clean_text", untrusted.clean_text, weak)


def no_blotting(stack: ExitStack) -> None:
    """A secret that comes back in a text is kept."""
    real = untrusted.clean_text

    def weak(text: str, limit: int, secrets: tuple[str, ...] = ()) -> str:  # noqa: ARG001
        return real(text, limit)

    _everywhere(stack, "clean_text", real, weak)


def ids_kept_as_they_are(stack: ExitStack) -> None:
    """A secret that comes back as an id is kept."""
    stack.enter_context(patch.object(fields, "repeats_a_secret", lambda _, __: False))


def artifacts_from_anywhere(stack: ExitStack) -> None:
    """An artifact is fetched wherever its address leads."""

    def weak(endpoint: str, artifact_url: str) -> httpx.URL:
        return httpx.URL(endpoint).join(artifact_url)

    stack.enter_context(patch.object(artifacts, "own_url", weak))


def vendors_clock_believed(stack: ExitStack) -> None:
    """How much paid time is used is what the vendor says."""
    stack.enter_context(patch.object(extension, "_used", lambda _, __, report: report.used_minutes))


def approvals_of_any_run(stack: ExitStack) -> None:
    """An approval is found by its id, whoever names it."""

    async def decide(
        self: Approvals, run_id: str, approval_id: str, approve: bool, now: datetime
    ) -> Approval:
        del run_id, now
        state = "approved" if approve else "rejected"
        await self.documents.change(approval_id, {}, {"$set": {"state": state}})
        found = await self.documents.get(approval_id)
        assert found
        return _approval(found)

    stack.enter_context(patch.object(Approvals, "decide", decide))


def one_approval_for_all(stack: ExitStack) -> None:
    """A yes counts for the run, not for the terms that were asked about."""

    def covering(self: ApprovalGate, asked: Any, job: Any, purchase: Purchase) -> Any:
        del job
        known = [a for a in asked if a.counts(self._now())]
        return (known[-1], {purchase.slot: purchase.quoted}) if known else (None, None)

    stack.enter_context(patch.object(approving, "fits", lambda _, __: True))
    stack.enter_context(patch.object(ApprovalGate, "_covering", covering))


def runs_are_everybodys(stack: ExitStack) -> None:
    """Who has a key reaches every run."""

    def check_sees(self: Principal, run: Run) -> Run:  # noqa: ARG001
        return run

    stack.enter_context(patch.object(Principal, "check_sees", check_sees))


def checkpoints_build_anything(stack: ExitStack) -> None:
    """What a checkpoint names is imported and called: LangGraph's default."""

    def weak(self: StrictSerializer, data: tuple[str, bytes]) -> Any:  # noqa: ARG001
        return JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(data)

    stack.enter_context(patch.object(StrictSerializer, "loads_typed", weak))


def nothing_is_a_transfer(stack: ExitStack) -> None:
    """A transfer of nothing counts as one."""
    stack.enter_context(patch.object(chain, "moves_money", lambda _: True))


def no_end_of_model_calls(stack: ExitStack) -> None:
    """A model may look things up as often as it likes."""
    stack.enter_context(patch.object(planners, "MOST_MODEL_CALLS", 9))


def one_secret_for_all(stack: ExitStack) -> None:
    """Every vendor is shown the same secret."""
    stack.enter_context(patch.object(VendorSecrets, "of", lambda *_: VENDOR_SECRET))


def any_variable_is_sent(stack: ExitStack) -> None:
    """Whatever variable a registry entry names is read and shown to its vendor."""
    real = VendorSecrets.of

    def weak(self: VendorSecrets, vendor: Any, call: str) -> str | None:
        return os.environ.get(vendor.secret_env or "") or real(self, vendor, call)

    stack.enter_context(patch.object(VendorSecrets, "of", weak))


PLANTS: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        no_payee_check,
        no_price_check,
        no_end_of_validity,
        domain_from_the_challenge,
        no_fence,
        no_cleaning,
        no_blotting,
        ids_kept_as_they_are,
        artifacts_from_anywhere,
        follow_redirects,
        believe_a_refund,
        vendors_clock_believed,
        approvals_of_any_run,
        one_approval_for_all,
        pay_unapproved,
        runs_are_everybodys,
        nothing_is_a_transfer,
        no_end_of_model_calls,
        checkpoints_build_anything,
        one_secret_for_all,
        any_variable_is_sent,
    )
}

FOUND_BY: Final[Mapping[str, tuple[str, str, str]]] = {
    "no_payee_check": ("payee swapped", STUB, "moved"),
    "no_price_check": ("price raised between quote and challenge", STUB, "moved"),
    "no_end_of_validity": ("validity stretched", STUB, "moved"),
    "domain_from_the_challenge": ("token's signing domain swapped", STUB, "moved"),
    "no_fence": ("fence escape in an error", LLM, "fence"),
    "no_cleaning": ("control characters in a refusal", STUB, "text"),
    "no_blotting": ("our secret echoed in texts", STUB, "leaked"),
    "ids_kept_as_they_are": ("our secret echoed as a quote's id", STUB, "leaked"),
    "artifacts_from_anywhere": ("artifact at the metadata service", STUB, "leaked"),
    "follow_redirects": ("artifact redirected to the metadata service", STUB, "look"),
    "believe_a_refund": ("a refund that is not there", STUB, "P5"),
    "vendors_clock_believed": ("a clock that runs fast", STUB, "moved"),
    "approvals_of_any_run": ("an approval of another run's", STUB, "moved"),
    "one_approval_for_all": ("an approval replayed", STUB, "moved"),
    "pay_unapproved": ("a state put past a pending approval", STUB, "moved"),
    "runs_are_everybodys": ("another user's payment, approved", STUB, "moved"),
    "one_secret_for_all": ("its secret turned against another vendor", STUB, "look"),
    "any_variable_is_sent": ("a registry entry that names our private key", STUB, "leaked"),
    "nothing_is_a_transfer": ("a refund of nothing", STUB, "look"),
    "no_end_of_model_calls": ("a loop of look-ups", LLM, "burned"),
    "checkpoints_build_anything": ("code in a checkpoint", STUB, "look"),
}
"""For each weakness: the attack that finds it, its mode, and the kind of what it breaks."""
