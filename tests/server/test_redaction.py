"""No secret in a log, whoever wrote the line."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from server.access import Scope, new_key
from server.config.settings import Settings
from server.telemetry.redaction import MASK, Redacting, Redactor
from server.wiring import now

KEY = "0x" + "ac" * 32
TX = "0x" + "be" * 32
SETTINGS = Settings(
    x402_private_key=SecretStr("0x" + "5e" * 32),
    gpu_vendor_secret=SecretStr("hunter2-hunter2"),
    vendor_secrets={"GPU_VENDOR_SECRET_ACME": SecretStr("of-acme-alone")},
    mongodb_uri=SecretStr("mongodb://ada:pa55word@db.example/x"),
)


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Redacting(logging.Formatter("%(message)s"), Redactor.of(SETTINGS)))
    logger = logging.getLogger("test.redaction")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, out
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("headers {'Authorization': 'Basic YWRhOnBhNTV3b3Jk'}", "YWRhOnBhNTV3b3Jk"),
        ("X-PAYMENT: abcdefgh12345678==", "abcdefgh12345678"),
        ("{'PAYMENT-SIGNATURE': 'c2lnbmVkLXBheW1lbnQ='}", "c2lnbmVkLXBheW1lbnQ"),
        ("sent eyJ4NDAyVmVyc2lvbiI6Mn0=", "x402VmVyc"),
        ("sent eyJ4NDAyVmVyc2lvbiI6Mn0=", "eyJ4NDAyVmVyc2lvbiI6Mn0"),
        (f"key {KEY}", KEY[2:]),
        (f"key {KEY[2:]} without 0x", KEY[2:]),
        ("signature 0x" + "1b" * 65, "1b1b1b"),
        ("vendor secret is hunter2-hunter2!", "hunter2"),
        ("acme is shown of-acme-alone", "of-acme"),
        ("at mongodb://eve:other-pass@db.example/y", "other-pass"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqr"),
        ("fireworks fw_3ZabcdefGHIJKLMNOPqr", "3Zabcdef"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----", "MHcCAQ"),
    ],
)
def test_what_looks_like_a_secret_is_masked(
    log: tuple[logging.Logger, io.StringIO], line: str, secret: str
) -> None:
    logger, out = log
    logger.warning("%s", line)

    assert secret not in out.getvalue()
    assert MASK in out.getvalue()


def test_an_api_key_leaves_its_id_to_tell_whose_it_was(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = log
    key = new_key("u1", {Scope.READ}, now())
    logger.warning("refused %s", key.secret)

    assert f"gr_{key.record.id}_{MASK}" in out.getvalue()
    assert key.secret not in out.getvalue()


def test_a_traceback_is_masked_too(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    try:
        raise RuntimeError(f"cannot sign with {KEY}")
    except RuntimeError:
        logger.exception("a tick failed")

    assert "Traceback" in out.getvalue()
    assert KEY[2:] not in out.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        f"$1.40 settled to gpu_vendor_1 in {TX}",
        f"tx={TX[2:]} nonce={TX}",
        "run 514d02d5b059c94c0c191c22: its lease could not be prolonged",
        "GET /api/runs failed; http://127.0.0.1:4001 answered 500",
        "0x5FbDB2315678afecb367f032d93F642f64180aa3 holds no USDC",
    ],
)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    assert Redactor.of(SETTINGS)(line) == line
