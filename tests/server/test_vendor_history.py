"""`gpu-renter vendors list`: what a vendor's jobs came to, and what it is blocked for."""

from __future__ import annotations

from datetime import timedelta

from domain.reliability import Record, Trouble, block_for, weight
from server.reports.reports import vendor_view
from tests.support.builders import NOON, a_vendor


def test_the_record_is_told_in_todays_weight_and_the_block_until_it_ends() -> None:
    one = weight(NOON)
    vendor = a_vendor(
        records=(Record("A100", completed=3 * one, lost=one),),
        blocks=(block_for(Trouble.LOST_JOB, None, NOON),),
    )
    told, block = vendor_view(vendor, NOON).history
    assert told.startswith("A100: 3 jobs completed, 0 never booted, 1 lost; ")
    assert block == "blocked until 2026-01-01 13:00 UTC: lost a job"
    [later] = vendor_view(vendor, NOON + timedelta(days=30)).history
    assert later.startswith("A100: 1.5 jobs completed, 0 never booted, 0.5 lost; ")

    one_job = a_vendor(records=(Record("A10", completed=one),))
    assert vendor_view(one_job, NOON).history[0].startswith("A10: 1 job completed, ")


def test_a_vendor_without_jobs_has_no_history() -> None:
    assert vendor_view(a_vendor(), NOON).history == []
