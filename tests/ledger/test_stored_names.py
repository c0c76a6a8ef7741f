"""The names that documents are stored under: a field that is renamed in the code keeps its own."""

from __future__ import annotations

from typing import Final

import pytest
from pydantic import TypeAdapter

from domain.approvals import Approval
from domain.jobs import JobSpec
from domain.mapping import Mapped
from domain.quotes import Quote, Vendor
from domain.reliability import Block, Record
from domain.tokens import ModelUse
from domain.utterance import Utterance
from ledger.compared import Compared, Stray, Sums
from ledger.deliveries import Cursor
from ledger.drafts import Draft
from ledger.holder import Holder
from ledger.idempotency import Given, Marker
from ledger.jobs import Job
from ledger.keys import KeyRecord
from ledger.payments import Payment
from ledger.pruned import PrunedRun
from ledger.run import HeldLease, LastPoll, Reservation, Run, Silence

STORED: Final[dict[type[Mapped], str]] = {
    Run: "_id userId goal status phase budgetTotal budgetRemaining spent nextSlot reservations "
    "jobSpec currentJobId fence journal.seq journal.hash createdAt updatedAt sighting reason "
    "reasonData offers noQuotes model cancelRequested refunds lease endedAt dueAt quietTicks "
    "notUsed acceptedNotUsed",
    Reservation: "slot amount shared allowance armed version",
    HeldLease: "expiresAt seconds holder",
    Holder: "host pid born",
    LastPoll: "jobId at progress progressAt logLines pollFailures failingSince seenIn usedMinutes",
    Silence: "vendorId why reasonData",
    JobSpec: "jobType gpuType minutes gpuCount preference excludedVendors guessed deadline "
    "onlyVendors gpuTypes maxHourly",
    Quote: "vendorId vendorJobTemplateId gpuType minutes price etaMinutes expiresAt",
    ModelUse: "calls tokensIn tokensOut cost",
    Job: "_id runId vendorId endpoint vendorJobId paymentId status gpuType minutes neededMinutes "
    "createdAt updatedAt progressAt progress logLines pollFailures failingSince seenIn "
    "usedMinutes slices lastSlice extensionId extensions finalMetrics artifactUrl artifactSha256 "
    "artifactPath errorMessage unstopped vendorSecretEnv leftOver",
    Payment: "_id runId slot kind vendorId amount state rail createdAt order minutes gpuType "
    "network asset payTo payer nonce validBefore fromBlock headerName header headerSha256 "
    "x402TxId reason reasonData settledBlock refundTx refundClaim refundLog refunded unfunded "
    "resolved",
    Approval: "_id runId slot vendorId payTo amount quoteId state createdAt expiresAt price "
    "minutes gpuType paid covered version",
    Vendor: "vendorId name endpoint basePricePerHour reliabilityScore supportedGpuTypes payTo "
    "secretEnv completed failed records blocks",
    Record: "gpuType completed neverBooted lost doneMinutes takenMinutes lostMinutes",
    Block: "trouble until times",
    KeyRecord: "_id sha256 owner scopes createdAt revokedAt",
    Draft: "session said runId version askedAbout model",
    Utterance: "text at",
    PrunedRun: "_id userId status reason budgetTotal spent createdAt endedAt prunedAt journal "
    "payments",
    Compared: "_id start block version sums payees strays missing unbalanced since",
    Stray: "txHash logIndex block outgoing other amount runId slot nonce traced",
    Sums: "ledger chain acknowledged unlisted",
    Cursor: "runId seq attempts dueAt",
    Given: "status contentType body",
    Marker: "_id fingerprint token bornAt lockedUntil",
}


@pytest.mark.parametrize("value", STORED, ids=lambda value: value.__name__)
def test_a_stored_value_keeps_the_names_of_its_document(value: type[Mapped]) -> None:
    assert sorted(_read(value)) == sorted(STORED[value].split())


def _read(value: type[Mapped]) -> list[str]:
    """The names that it is read by; "a.b" for a field of a document within."""
    fields = TypeAdapter(value).core_schema
    while fields["type"] != "dataclass-args":
        fields = fields["schema"]
    found = [field.get("validation_alias", field["name"]) for field in fields["fields"]]
    return [name if isinstance(name, str) else ".".join(map(str, name)) for name in found]
