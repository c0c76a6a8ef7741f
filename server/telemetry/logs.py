"""Log lines, for a person or as JSON, that name the run, tick and payment they are about.

    2026-11-22 20:28:31,114 INFO  server.runner.tick: …  [run=514d… tick=3 node=launch payment=pay…]
    {"at": "2026-11-22T20:28:31.114Z", "level": "INFO", "run": "514d…", "tick": 3, …}

A line is about the step at hand (tools/wire/observer.py); nobody has to repeat the ids. What the
journal tells of money, jobs and ends of runs (ledger/observations.py) has fields of its own:

    {…, "message": "payment_settled: $1.40 settled to …", "event": "payment_settled",
     "run": "514d…", "payment": "pay_…", "vendor": "acme", "amountMicros": 1400000, "tx": "0x…"}
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from server.config.settings import Settings
from server.telemetry.redaction import Redacting, Redactor
from tools.wire.observer import Step, at_hand

IDS: Final = ("run", "tick", "payment", "vendor")
TOO_TALKATIVE: Final = ("httpx", "httpcore", "pymongo", "urllib3")
"""Their logs have whole addresses and documents, and with them RPC keys and signed payments."""


def configure_logs(settings: Settings, stream: TextIO | None = None) -> None:
    """Have every log line of this process written to `stream` (else stderr) as LOG_FORMAT says."""
    out = stream or sys.stderr
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not out.isatty())
    handler = LogHandler(out)
    lines = JsonLines() if as_json else HumanLines()
    handler.setFormatter(Redacting(lines, Redactor.of(settings)))
    root = logging.getLogger()
    root.handlers[:] = [*(one for one in root.handlers if not isinstance(one, LogHandler)), handler]
    root.setLevel(settings.log_level)
    for name in TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.log_level != "DEBUG":
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class LogHandler(logging.StreamHandler[TextIO]):
    """Ours among the root's handlers: configured again, it is replaced."""


class HumanLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        known = step_ids() | {n: v for n, v in _facts(record).items() if n in IDS}
        ids = " ".join(f"{name}={value}" for name, value in known.items())
        text = super().formatMessage(record)
        return f"{text}  [{ids}]" if ids else text


class JsonLines(logging.Formatter):
    """One JSON object for each line. `error` holds a traceback, where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **step_ids(),
            **_facts(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _facts(record: logging.LogRecord) -> dict[str, str | int]:
    """What the line is about by its own word: `LOG.info(…, extra={"facts": {…}})`."""
    facts = getattr(record, "facts", None)
    return dict(facts) if isinstance(facts, dict) else {}


def step_ids(step: Step | None = None) -> dict[str, str | int]:
    """The ids that belong to a step, else to the one at hand: run, tick, node, payment, vendor."""
    step = step or at_hand()
    if step is None:
        return {}
    found = {name: value for name in IDS if (value := step.known(name)) is not None}
    node = _node(step)
    return {**found, "node": node} if node else found


def _node(step: Step | None) -> str:
    while step is not None and step.kind != "node":
        step = step.parent
    return step.name if step else ""
