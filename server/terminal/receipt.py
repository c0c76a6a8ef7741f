"""What a purchase came to: as JSON, and for a person to read."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import typer

from domain.money import Usd

if TYPE_CHECKING:
    from pathlib import Path

    from domain.networks import Network
    from server.buying import Bought
    from tools.payments.fetch import Fetched, FetchRequest


def receipt_of(
    purchase_id: str, bought: Bought, request: FetchRequest, network: Network
) -> dict[str, Any]:
    """What came of a purchase, as JSON."""
    payment = bought.payment
    receipt: dict[str, Any] = {
        "id": purchase_id,
        "runId": bought.run_id,
        "outcome": bought.outcome.value,
        "url": request.shown_url,
        "network": network.caip2,
        "problem": bought.problem,
        "delivered": bought.had_goods,
        "payment": None,
    }
    if payment is not None and payment.payer:
        receipt["payment"] = {
            "id": payment.id,
            "state": payment.state.value,
            "amount": payment.amount.dollars(),
            "amountMicros": payment.amount.micros,
            "payTo": payment.pay_to,
            "payer": payment.payer,
            "nonce": payment.nonce,
            "validBefore": payment.valid_before_s,
            "txHash": payment.tx_id,
            "explorer": network.explorer_link(payment.tx_id) if payment.tx_id else None,
            "block": payment.settled_block,
        }
    return receipt


def goods_json(goods: Fetched | None, output: Path | None) -> dict[str, Any]:
    if goods is None:
        return {"goods": None}
    told: dict[str, Any] = {
        "status": goods.status_code,
        "contentType": goods.content_type,
        "bytes": len(goods.body),
        "sha256": goods.sha256,
    }
    if output is not None:
        return {"goods": told | {"file": str(output)}}
    try:
        return {"goods": told | {"body": goods.body.decode("utf-8")}}
    except UnicodeDecodeError:
        return {"goods": told | {"bodyBase64": base64.b64encode(goods.body).decode()}}


def print_receipt(receipt: dict[str, Any]) -> None:
    payment = receipt["payment"]
    if receipt["outcome"] == "free":
        typer.echo("No payment was asked", err=True)
    if payment is None:
        return
    verb = "Paid" if receipt["outcome"] == "paid" else "Authorized"
    amount, network = Usd(payment["amountMicros"]), receipt["network"]
    typer.echo(f"{verb} {amount} to {payment['payTo']} on {network}", err=True)
    if payment["txHash"]:
        where = f" in block {payment['block']}" if payment["block"] is not None else ""
        typer.echo(f"Confirmed{where}: {payment['txHash']}", err=True)
    if payment["explorer"]:
        typer.echo(payment["explorer"], err=True)


def shown(goods: Fetched) -> str:
    """The goods for a terminal: no control or formatting characters but line ends and tabs."""
    from tools.wire.untrusted import clean_text

    try:
        text = goods.body.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(goods.body):,} bytes of {goods.content_type or 'no type'}; use --output)\n"
    lines = text.splitlines()
    return "".join(_harmless(line, clean_text) + "\n" for line in lines)


def _harmless(line: str, clean: Any) -> str:
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    return indent + str(clean(line, max(len(line), 1)))
