"""What a message about a run wants, read from its words.

Words that move money or end a run count only where they are the whole message: "stop", "approve",
"you may spend 2 more". Everything else is a question, and a question changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.goals.amounts import read_answer
from domain.goals.text import NUMBER, plain
from domain.money import Usd


class Wants(StrEnum):
    STATUS = "status"
    """How is it going?"""
    SPENT = "spent"
    """What did you spend, and why?"""
    RESULT = "result"
    """Where is my model?"""
    RUNS = "runs"
    """List my runs."""
    THANKS = "thanks"
    STOP = "stop"
    STOP_PERHAPS = "stop_perhaps"
    """Close to "stop", and too close to something else to be done unasked."""
    RAISE = "raise"
    """You may spend 2 more."""
    LOWER = "lower"
    """Spend less than was allowed."""
    APPROVE = "approve"
    REJECT = "reject"
    GO_ON = "go_on"
    OTHER = "other"


QUESTIONS: Final = (
    Wants.STATUS, Wants.SPENT, Wants.RESULT, Wants.RUNS, Wants.THANKS, Wants.LOWER,
    Wants.STOP_PERHAPS,
)  # fmt: skip
"""What is only answered: it changes nothing."""


@dataclass(frozen=True, slots=True)
class Intent:
    """amount: of RAISE, None where it is not clear. total: the amount is the new budget itself.
    sure: it was said in the words that confirm a large raise.

    approval_id: of APPROVE and REJECT, where one was named.
    """

    wants: Wants
    amount: Usd | None = None
    total: bool = False
    sure: bool = False
    approval_id: str = ""


_I: Final = re.IGNORECASE
_ANSWER: Final = re.compile(
    r"(?:yes,? )?(?:i )?(?P<what>approve|reject)d?(?: (?:it|this|that|(?:the|this) payment))?"
    r"(?:,? (?P<id>apr_[0-9a-f]{8,64}))?", _I,
)  # fmt: skip
_STOP: Final = re.compile(
    r"(?:please )?(?:stop|cancel|abort|end)"
    r"(?: (?:it|this|that|everything|now|please|(?:the |this |my )?(?:run|job)))*", _I,
)  # fmt: skip
_STOP_PERHAPS: Final = re.compile(
    r"(?<!don't )(?<!not )(?<!never )\b(?:stop|cancel|abort|kill|quit|pause|halt)\b|"
    r"^(?:never ?mind|forget (?:it|about it)|enough)\b", _I,
)  # fmt: skip
_LOWER: Final = re.compile(
    r"\b(?:lower|reduce|decrease|cut|shrink|halve)\b.*\b(?:budget|limit|spend(?:ing)?)\b|"
    r"\b(?:spend|use|pay)\b.*\b(?:no more than|at most|less than|under|below)\b.*[0-9]|"
    r"\b(?:don't|do not|never) (?:spend|use|pay) (?:more than|over|above)\b.*[0-9]|"
    r"\bonly (?:spend|use|pay)\b.*[0-9]|\bmake (?:the|my|your|its) (?:budget|limit)\b.*[0-9]", _I,
)  # fmt: skip
_MONEY: Final = rf"(?:up to )?(?P<a>(?:us)?\$? ?(?:{NUMBER}) ?(?:usdc?|dollars?|bucks?|cents?)?)"
_MAY: Final = (
    r"(?:ok(?:ay)?,? )?(?:you (?:may|can)(?: now| also)?|please|go ahead and|feel free to)? ?"
)
_END: Final = r"(?: (?:on it|on this|for it|for this|if you need it|if needed|please))?"
_THE_BUDGET: Final = r"(?:the |my |your |its )?(?:budget|limit)"
_RAISES: Final = tuple(
    re.compile(pattern, _I)
    for pattern in (
        rf"{_MAY}(?:spend|use|take|have) "
        rf"(?:another|an? (?:extra|additional)) {_MONEY}(?: more)?{_END}",
        rf"{_MAY}(?:spend|use|take|have) {_MONEY} "
        rf"(?:more|extra|on top|in addition)(?: usdc?| dollars?| bucks?)?{_END}",
        rf"{_MAY}add (?:another )?{_MONEY}(?: (?:to (?:the|my|your|its) budget|more))?{_END}",
        rf"{_MAY}(?:raise|increase|extend|bump) {_THE_BUDGET} by {_MONEY}{_END}",
    )
)
_RAISE_TO: Final = re.compile(
    rf"{_MAY}(?:raise|increase|set|bump) {_THE_BUDGET} to {_MONEY}{_END}", _I
)
_IN_ALL: Final = re.compile(
    rf"{_MAY}(?:spend|use) {_MONEY} (?:in (?:all|total)|altogether){_END}", _I
)
_RAISE_BY_WHAT: Final = re.compile(
    rf"{_MAY}(?:(?:spend|use) (?:some |a (?:bit|little) )?more|"
    r"(?:raise|increase) (?:the |my |your )?(?:budget|limit))(?: money)?", _I,
)  # fmt: skip
_GO_ON: Final = re.compile(
    r"(?:please )?(?:go(?: on| ahead)?|continue|carry on|keep going|proceed|next|tick|"
    r"start(?: it)?|run it)(?: please)?", _I,
)  # fmt: skip
_FAILED: Final = re.compile(
    r"\b(?:why|what|how)\b.*"
    r"\b(?:fail(?:ed|s|ing|ure)?|broke|crash(?:ed)?|wrong|die|died|error|lost)\b", _I,
)  # fmt: skip
_RESULT: Final = re.compile(
    r"\b(?:where|how)\b.*\b(?:my |the )(?:trained |finished |fine-?tuned )?"
    r"(?:model|results?|files?|artifacts?|weights|output|checkpoint)\b|\bdownload", _I,
)  # fmt: skip
_ASKS: Final = re.compile(
    r"(?:and |so |but |hey,? |hi,? |ok(?:ay)?,? )?(?!(?:how|what) about\b)"
    r"(?:how (?:much|many)\b.*|"
    r"(?:what(?:'s| is| are)|(?:(?:can|could) you )?tell me) (?:the |your )?"
    r"(?:hourly )?(?:prices?|costs?|rates?)\b.*|"
    r"(?:how|what|which|why|who|where|when|do you|does|is there|are there)\b.*\?\s*|"
    r"(?:is|are) (?:an?|the|any)\b.*\?\s*|(?:can|could) you tell me\b.*\?\s*|"
    r"should (?:i|we)\b.*\?\s*|tell me what\b.*|"
    r"(?:(?:can|could) you )?explain (?:to me )?(?:how|what|why|which)\b.*|"
    r"[\w ]{0,40}\b(?:prices?|costs?)\s*\?\s*)",
    _I | re.DOTALL,
)  # fmt: skip
_OF_A_RUN: Final = re.compile(
    r"\b(?:did|was|were|spent|paid|why)\b|\bmy (?:\w+ ){0,2}(?:run|job|model|results?)\b", _I
)
_RUNS: Final = re.compile(
    r"(?:please |can you |could you )?(?:(?:(?:list|show|give)(?: me)?|what are|which are) )?"
    r"(?:all (?:of )?)?my (?:recent |latest |last |past |old |open )?(?:runs|jobs)(?: please)?\??|"
    r"(?:what|which) (?:runs|jobs) (?:do|did) i (?:have|start)\??|list (?:all )?(?:the )?runs", _I,
)  # fmt: skip
_THANKS: Final = re.compile(
    r"(?:(?:ok(?:ay)?|great|perfect|cool|nice),? )?(?:many )?(?:thanks|thank you|thx|cheers)"
    r"(?:,? (?:a lot|so much|very much|again|for (?:that|this|the help|your help)))*", _I,
)  # fmt: skip
_GREETS: Final = re.compile(
    r"(?:hello|hi|hey|howdy|good (?:morning|afternoon|evening|day))(?: (?:there|all|again|agent))?",
    _I,
)
_NOT_YET: Final = re.compile(
    r"\b(?:don't|dont|do not|never|without) (?:start|launch|begin)(?:ing)?\b|\bnot yet\b|"
    r"\b(?:don't|dont|do not) (?:rent|buy|pay|run|do|spend) "
    r"(?:it|this|that|anything|yet|now)\b", _I,
)  # fmt: skip
_GREETING_FIRST: Final = re.compile(
    rf"{_GREETS.pattern}(?:[!.,]{{1,3}}\s|\s{{0,3}}\n|\s[–—-]\s)", _I
)
_SPENT: Final = re.compile(
    r"\bspen[dt]|\bspending|\bcosts?\b|\bpaid\b|\bpay(?:ments?)?\b|\bmoney\b|\bcharge|\breceipt|"
    r"\bbudget\b|\bhow much\b|\bwhy\b|\bbill\b", _I,
)  # fmt: skip
_STATUS: Final = re.compile(
    r"\bhow(?:'s| is| are| far| long)\b|\bstatus\b|\bprogress\b|\bupdate\b|\bdone\b|\bfinished\b|"
    r"\bready\b|\bhappening\b|\brunning\b|\beta\b|\bwhen\b|\bwhere\b|"
    r"\bwhat(?:'s| is) (?:up|new|going)", _I,
)  # fmt: skip


def read_intent(message: str) -> Intent:
    """What `message` wants of a run that there is."""
    text = plain(message)
    words = text.rstrip(" .!")
    if found := _ANSWER.fullmatch(words):
        return Intent(Wants(found["what"].lower()), approval_id=(found["id"] or "").lower())
    if _STOP.fullmatch(words):
        return Intent(Wants.STOP)
    for pattern in (*_RAISES, _RAISE_TO, _IN_ALL):
        if found := pattern.fullmatch(words):
            amount = read_answer(found["a"]).amount
            total = pattern in (_RAISE_TO, _IN_ALL)
            return Intent(Wants.RAISE, amount, total=total, sure=pattern is _IN_ALL)
    if _RAISE_BY_WHAT.fullmatch(words):
        return Intent(Wants.RAISE)
    if _GO_ON.fullmatch(words):
        return Intent(Wants.GO_ON)
    if _RUNS.fullmatch(words):
        return Intent(Wants.RUNS)
    if _THANKS.fullmatch(words):
        return Intent(Wants.THANKS)
    if not asks(text):
        if _LOWER.search(text):
            by = re.search(r"\bby\b", text)  # "by $50" is no budget
            return Intent(Wants.LOWER, None if by else read_answer(text).amount)
        if _STOP_PERHAPS.search(text):
            return Intent(Wants.STOP_PERHAPS)
    if _RESULT.search(text):
        return Intent(Wants.RESULT)
    if _FAILED.search(text):
        return Intent(Wants.STATUS)
    if _SPENT.search(text):
        return Intent(Wants.SPENT)
    return Intent(Wants.STATUS if _STATUS.search(text) else Wants.OTHER)


def asks(message: str) -> bool:
    """Whether a message is put as a question: "how much is an A100?" is no wish to rent one."""
    return bool(_ASKS.fullmatch(plain(message)))


def only_asks(message: str) -> bool:
    """Whether every sentence of it is a question, whatever else it names: "how much does training
    on an A100 cost?"
    """
    return all(_ASKS.fullmatch(part) for part in re.split(r"(?<=[.!?]) ", plain(message)))


def asks_of_a_run(message: str) -> bool:
    """Whether a question is about a run that there was: "how much did my A100 run cost?"."""
    return bool(_OF_A_RUN.search(plain(message)))


def not_yet(message: str) -> bool:
    """Whether a message says that nothing is to be started, whatever else it says."""
    return bool(_NOT_YET.search(plain(message)))


def greets(message: str) -> bool:
    """Whether a message is a greeting and nothing else."""
    return bool(_GREETS.fullmatch(plain(message).rstrip(" .!")))


def without_greeting(message: str) -> str:
    """A message less the greeting that it begins with: "Hi there! Train a model" is a goal."""
    rest = message.strip()
    while found := _GREETING_FIRST.match(rest):
        rest = rest[found.end() :].lstrip()
    return rest
