"""The vendor's memory: one sqlite file, each change durable before it is answered for."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mock_vendor.vendor.records import Job, Payment, Quote, Refund

_SCHEMA = """
create table if not exists quotes(
  quote_id text primary key, vendor_id text not null, job_type text not null,
  gpu_type text not null, hours real not null, amount integer not null,
  expires_at real not null, gpu_count integer not null default 1);
create table if not exists payments(
  vendor_id text not null, payment_id text not null, kind text not null, subject text not null,
  body text not null, header text not null, requirements text not null, payer text not null,
  nonce text not null, signature text not null, amount integer not null, state text not null,
  tx_hash text not null, reason text not null, answer text not null,
  response_header text not null, primary key (vendor_id, payment_id));
create unique index if not exists one_payment_per_authorization
  on payments(vendor_id, payer, nonce) where state != 'refused';
create unique index if not exists one_payment_per_quote
  on payments(subject) where kind = 'job' and state != 'refused';
create table if not exists jobs(
  job_id text primary key, vendor_id text not null, quote_id text not null unique,
  payer text not null, status text not null, created_at real not null,
  price_per_hour integer not null, paid_amount integer not null, paid_minutes real not null,
  total_minutes real not null, epochs integer not null, training blob not null,
  epochs_done integer not null, fail_after integer, behaviour text not null,
  polls integer not null, paused_polls integer not null, paused_since real,
  error text not null, callback_url text not null, params text not null);
create table if not exists logs(
  job_id text not null, n integer not null, line text not null, primary key (job_id, n));
create table if not exists refunds(
  job_id text primary key, vendor_id text not null, "to" text not null, amount integer not null,
  raw text not null, tx_hash text not null, sent integer not null);
"""


class Conflict(Exception):
    """A unique index refused a row: the quote or the authorization is already taken."""


class Store:
    """The tables. Used from one thread; writes inside `transaction()` commit together."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or a database in memory without one."""
        target = str(path) if path else ":memory:"
        self._db = sqlite3.connect(target, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)
        self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        """Add what the tables of an older file lack."""
        columns = {row["name"] for row in self._db.execute("pragma table_info(quotes)")}
        if "gpu_count" not in columns:
            self._db.execute("alter table quotes add column gpu_count integer not null default 1")

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block together, or none when it raises."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def add_quote(self, quote: Quote) -> None:
        """Keep a new quote."""
        self._insert("quotes", asdict(quote))

    def quote(self, quote_id: str) -> Quote | None:
        """Return a quote, or None."""
        row = self._one("select * from quotes where quote_id = ?", quote_id)
        return None if row is None else Quote(**row)

    def add_payment(self, payment: Payment) -> None:
        """Keep a new payment. Raises Conflict when its quote or authorization is taken."""
        try:
            self._insert("payments", asdict(payment))
        except sqlite3.IntegrityError as error:
            raise Conflict(str(error)) from error

    def save_payment(self, payment: Payment) -> None:
        """Replace a payment's row."""
        self._insert("payments", asdict(payment), replace=True)

    def payment(self, vendor_id: str, payment_id: str) -> Payment | None:
        """Return a payment, or None."""
        row = self._one(
            "select * from payments where vendor_id = ? and payment_id = ?", vendor_id, payment_id
        )
        return None if row is None else Payment(**row)

    def held_payments(self) -> list[Payment]:
        """Return the payments that were taken and never sent on."""
        return [Payment(**row) for row in self._all("select * from payments where state = 'held'")]

    def save_job(self, job: Job, new_lines: tuple[str, ...] = ()) -> None:
        """Insert or replace a job and add to its log, together."""
        with self.transaction():
            row = {f.name: getattr(job, f.name) for f in fields(job)}
            self._insert("jobs", row | {"params": json.dumps(job.params)}, replace=True)
            for line in new_lines:
                self._db.execute(
                    "insert into logs select ?, count(*), ? from logs where job_id = ?",
                    (job.job_id, line, job.job_id),
                )

    def job(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        return _job(self._one("select * from jobs where job_id = ?", job_id))

    def job_of_quote(self, quote_id: str) -> Job | None:
        """Return the job launched from a quote, or None."""
        return _job(self._one("select * from jobs where quote_id = ?", quote_id))

    def running_jobs(self) -> list[str]:
        """Return the ids of the jobs that run."""
        rows = self._all("select job_id from jobs where status = 'running' order by created_at")
        return [row["job_id"] for row in rows]

    def job_count(self) -> int:
        """Return how many jobs there have ever been."""
        row = self._one("select count(*) as n from jobs")
        return 0 if row is None else int(row["n"])

    def logs(self, job_id: str) -> list[str]:
        """Return a job's log, from the first line."""
        return [
            r["line"]
            for r in self._all("select line from logs where job_id = ? order by n", job_id)
        ]

    def save_refund(self, refund: Refund) -> None:
        """Insert or replace a job's refund."""
        self._insert("refunds", asdict(refund), replace=True)

    def refund(self, job_id: str) -> Refund | None:
        """Return a job's refund, or None."""
        return _refund(self._one("select * from refunds where job_id = ?", job_id))

    def unsent_refunds(self, vendor_id: str) -> list[Refund]:
        """Return the refunds not known to be mined, oldest first."""
        rows = self._all(
            "select * from refunds where vendor_id = ? and sent = 0 order by rowid", vendor_id
        )
        return [Refund(**row | {"sent": False}) for row in rows]

    def _insert(self, table: str, row: dict[str, Any], *, replace: bool = False) -> None:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" for _ in row)
        verb = "insert or replace" if replace else "insert"
        self._db.execute(f"{verb} into {table}({names}) values({marks})", tuple(row.values()))

    def _one(self, sql: str, *values: Any) -> dict[str, Any] | None:
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else dict(row)

    def _all(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self._db.execute(sql, values).fetchall()]


def _job(row: dict[str, Any] | None) -> Job | None:
    return None if row is None else Job(**row | {"params": json.loads(row["params"])})


def _refund(row: dict[str, Any] | None) -> Refund | None:
    return None if row is None else Refund(**row | {"sent": bool(row["sent"])})
