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
from domain.goals.currency import is_foreign, is_negative
from domain.goals.text import NUMBER, plain
from domain.money import Usd
from domain.phrasing import asks


class Wants(StrEnum):
    STATUS = "status"
    """How is it going?"""
    SPENT = "spent"
    """What did you spend, and why?"""
    RESULT = "result"
    """Where is my model?"""
    RUNS = "runs"
    """List my runs."""
    REFUND = "refund"
    """Give me my money back."""
    PRICES = "prices"
    """Show me the prices."""
    HELP = "help"
    THANKS = "thanks"
    YES = "yes"
    """Yes to a question, and nothing that says which: no payment is approved by it."""
    NO = "no"
    STOP = "stop"
    STOP_PERHAPS = "stop_perhaps"
    """Close to "stop", but also to something else: it is not done without asking."""
    RAISE = "raise"
    """You may spend 2 more."""
    RAISE_UNCLEAR = "raise_unclear"
    """More to spend, in words that are no amount to raise by: "raise the budget to -5"."""
    LOWER = "lower"
    """Spend less than was allowed."""
    APPROVE = "approve"
    REJECT = "reject"
    GO_ON = "go_on"
    OTHER = "other"


QUESTIONS: Final = (
    Wants.STATUS,
    Wants.SPENT,
    Wants.RESULT,
    Wants.RUNS,
    Wants.REFUND,
    Wants.PRICES,
    Wants.HELP,
    Wants.THANKS,
    Wants.YES,
    Wants.NO,
    Wants.RAISE_UNCLEAR,
    Wants.LOWER,
    Wants.STOP_PERHAPS,
)
"""What is only answered: it changes nothing."""


@dataclass(frozen=True, slots=True)
class Intent:
    """amount: for RAISE; None where it is not clear. total: `amount` is the new budget itself.
    sure: the message has the words that confirm a large amount, those of `in_all`. written: for
    RAISE_UNCLEAR, the words in the amount's place. approval_id: for APPROVE and REJECT, if one is
    named.
    """

    wants: Wants
    amount: Usd | None = None
    total: bool = False
    sure: bool = False
    written: str = ""
    approval_id: str = ""


_I: Final = re.IGNORECASE
_YES_WORD: Final = r"(?:yes|yeah|yep|ok(?:ay)?|sure|fine|alright|all right)"
_NO_WORD: Final = r"(?:no|nope|nah)"
_ANSWER: Final = re.compile(
    rf"(?:(?:{_YES_WORD}|no(?=\W+(?:please,? )?(?:i )?reject))(?: please)?[,.!]? )?(?:please,? )?"
    r"(?:i )?(?P<what>approve|reject)d?(?: (?:it|this|that|(?:the|this) payment))?(?:,? please)?"
    r"(?:,? (?P<id>apr_[0-9a-f]{8,64}))?(?:,? please)?",
    _I,
)
_YES: Final = re.compile(
    rf"(?:{_YES_WORD}|y|agreed|sounds good|do it|do that)"
    rf"(?:[,!.]? (?:{_YES_WORD}|please|do it|do that|of course))*",
    _I,
)
_NO: Final = re.compile(rf"(?:{_NO_WORD}|n)(?:[,!.]? (?:{_NO_WORD}|please|thanks|thank you))*", _I)
_HELP: Final = re.compile(
    r"(?:please )?(?:help(?: me)?|(?:i )?need help|commands|usage|what now|"
    r"what (?:can|should|do) (?:you|i) (?:do|say|write|ask|type)(?: (?:here|now))?|"
    r"how does (?:this|it all) work|how do you work)(?: please)?|\?",
    _I,
)
_GOODS: Final = (
    r"(?:current |gpu |hourly )*(?:prices?|pricing|price ?list|rates|offers?|gpus|vendors?)"
)
_PRICES: Final = re.compile(
    r"(?:(?:and|so|ok(?:ay)?|hi|hey),? )?(?:please )?(?:(?:(?:can|could) (?:you|i) )?"
    rf"(?:show|see|list|tell|give)(?: me)? )?(?:all )?(?:(?:of )?(?:the|your) )?{_GOODS}"
    r"(?: (?:are there|do you have|now|please|list))*|"
    rf"(?:(?:and|so|ok(?:ay)?),? )?(?:what|which) {_GOODS} "
    r"(?:are there|are available|do you (?:have|offer|know)|can (?:i|you) (?:rent|get|offer))|"
    rf"what(?:'s| is| are) (?:the|your) {_GOODS}|what do you (?:charge|offer)|"
    r"how much (?:is|are|does|do) (?:an? |the )?gpus?(?: cost)?",
    _I,
)
_REFUND: Final = re.compile(
    r"\brefund|\breimburs|\bmoney\b.{0,20}\bback\b|\b(?:came|come|paid|pay) (?:it |me )?back\b", _I
)
_STOP: Final = re.compile(
    r"(?:please )?(?:stop|cancel|abort|end)"
    r"(?: (?:it|this|that|everything|now|please|(?:the |this |my )?(?:run|job)))*",
    _I,
)
_STOP_PERHAPS: Final = re.compile(
    r"(?<!don't )(?<!not )(?<!never )\b(?:stop|cancel|abort|kill|quit|pause|halt)\b|"
    r"^(?:never ?mind|forget (?:it|about it)|enough)\b",
    _I,
)
_LOWER: Final = re.compile(
    r"\b(?:lower|reduce|decrease|cut|shrink|halve)\b.*\b(?:budget|limit|spend(?:ing)?)\b|"
    r"\b(?:spend|use|pay)\b.*\b(?:no more than|at most|less than|under|below)\b.*[0-9]|"
    r"\b(?:don't|do not|never) (?:spend|use|pay) (?:more than|over|above)\b.*[0-9]|"
    r"\bonly (?:spend|use|pay)\b.*[0-9]|\bmake (?:the|my|your|its) (?:budget|limit)\b.*[0-9]",
    _I,
)
_MONEY: Final = rf"(?:up to )?(?P<a>(?:us)?\$? ?(?:{NUMBER}) ?(?:usdc?|dollars?|bucks?|cents?)?)"
_IN_DOLLARS: Final = (
    rf"(?:up to )?(?P<a>(?:us)?\$ ?(?:{NUMBER})|(?:{NUMBER}) ?(?:usdc?|dollars?|bucks?|cents?|\$))"
)
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
        rf"{_MAY}add (?:another )?{_MONEY} to (?:the|my|your|its) budget{_END}",
        rf"{_MAY}add (?:another )?{_IN_DOLLARS}(?: more)?{_END}",
        rf"{_MAY}(?:raise|increase|extend|bump) {_THE_BUDGET} by {_MONEY}{_END}",
    )
)
_RAISE_TO: Final = re.compile(
    rf"{_MAY}(?:raise|increase|set|bump) {_THE_BUDGET} to {_MONEY}{_END}", _I
)
_IN_ALL: Final = re.compile(
    rf"{_MAY}(?:spend|use) {_MONEY} (?:in (?:all|total)|altogether){_END}", _I
)
_ODD: Final = (
    rf"(?P<a>-\s?\$?\s?(?:{NUMBER})|\$\s?-\s?(?:{NUMBER})|"
    r"[€£¥₹]?\s?[0-9][0-9.,]*\s?(?:[€£¥₹]|(?!more\b|extra\b|on\b|in\b|to\b)[a-z]{2,8})?|[€£¥₹]\s?[0-9][0-9.,]*)"
)
"""An amount that is none in dollars, or less than nothing; to be looked at."""
_RAISES_ODDLY: Final = (
    re.compile(rf"{_MAY}(?:raise|increase|extend|bump|set) {_THE_BUDGET} (?:by|to) (?P<a>.+)", _I),
    re.compile(
        rf"(?:{_MAY}(?:add|spend|use|take|have) (?:another )?)?{_ODD}"
        r"(?: (?:more|extra|on top|in all|in total|to (?:the|my) budget))?",
        _I,
    ),
)
_ADDS_A_NUMBER: Final = re.compile(rf"{_MAY}add (?:another )?(?P<a>{NUMBER})(?: more)?{_END}", _I)
"""Of what, it does not say: hours, GPUs or dollars."""
_RAISE_BY_WHAT: Final = re.compile(
    rf"{_MAY}(?:(?:spend|use) (?:some |a (?:bit|little) )?more|"
    r"(?:raise|increase) (?:the |my |your )?(?:budget|limit))(?: money)?",
    _I,
)
_GO_ON: Final = re.compile(
    r"(?:please )?(?:go(?: on| ahead)?|continue|carry on|keep going|proceed|next|tick|"
    r"start(?: it)?|run it)(?: please)?",
    _I,
)
_FAILED: Final = re.compile(
    r"\b(?:why|what|how)\b.*"
    r"\b(?:fail(?:ed|s|ing|ure)?|broke|crash(?:ed)?|wrong|die|died|error|lost)\b",
    _I,
)
_RESULT: Final = re.compile(
    r"\b(?:where|how)\b.*\b(?:my |the )(?:trained |finished |fine-?tuned )?"
    r"(?:model|results?|files?|artifacts?|weights|output|checkpoint)\b|\bdownload",
    _I,
)
_RUNS: Final = re.compile(
    r"(?:please |can you |could you )?(?:(?:(?:list|show|give)(?: me)?|what are|which are) )?"
    r"(?:all (?:of )?)?my (?:recent |latest |last |past |old |open )?(?:runs|jobs)(?: please)?\??|"
    r"(?:what|which) (?:runs|jobs) (?:do|did) i (?:have|start)\??|list (?:all )?(?:the )?runs",
    _I,
)
_THANKS: Final = re.compile(
    r"(?:(?:ok(?:ay)?|great|perfect|cool|nice),? )?(?:many )?(?:thanks|thank you|thx|cheers)"
    r"(?:,? (?:a lot|so much|very much|again|for (?:that|this|the help|your help)))*",
    _I,
)
_SPENT: Final = re.compile(
    r"\bspen[dt]|\bspending|\bcosts?\b|\bpaid\b|\bpay(?:ments?)?\b|\bmoney\b|\bcharge|\breceipt|"
    r"\bbudget\b|\bhow much\b|\bwhy\b|\bbill\b",
    _I,
)
_STATUS: Final = re.compile(
    r"\bhow(?:'s| is| are| far| long)\b|\bstatus\b|\bprogress\b|\bupdate\b|\bdone\b|\bfinished\b|"
    r"\bready\b|\bhappening\b|\brunning\b|\beta\b|\bwhen\b|\bwhere\b|"
    r"\bwhat(?:'s| is) (?:up|new|going)",
    _I,
)


_WHOLE: Final = (
    (Wants.RUNS, _RUNS),
    (Wants.THANKS, _THANKS),
    (Wants.YES, _YES),
    (Wants.NO, _NO),
    (Wants.HELP, _HELP),
    (Wants.PRICES, _PRICES),
)
"""What counts only where it is the whole message."""


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
    if odd := _odd_amount(words):
        return Intent(Wants.RAISE_UNCLEAR, written=odd)
    if _RAISE_BY_WHAT.fullmatch(words):
        return Intent(Wants.RAISE)
    if _GO_ON.fullmatch(words):
        return Intent(Wants.GO_ON)
    bare = text.rstrip(" .!?") or text
    for wants, whole in _WHOLE:
        if whole.fullmatch(words) or whole.fullmatch(bare):
            return Intent(wants)
    if not asks(text):
        if _LOWER.search(text):
            by = re.search(r"\bby\b", text)  # "by $50" is no budget
            return Intent(Wants.LOWER, None if by else read_answer(text).amount)
        if _STOP_PERHAPS.search(text):
            return Intent(Wants.STOP_PERHAPS)
    if _RESULT.search(text):
        return Intent(Wants.RESULT)
    if _REFUND.search(text):
        return Intent(Wants.REFUND)
    if _FAILED.search(text):
        return Intent(Wants.STATUS)
    if _SPENT.search(text):
        return Intent(Wants.SPENT)
    return Intent(Wants.STATUS if _STATUS.search(text) else Wants.OTHER)


def _odd_amount(words: str) -> str:
    """What stands for the amount in a raise that cannot be one; empty in all other words."""
    if number := _ADDS_A_NUMBER.fullmatch(words):
        return str(number["a"])
    by_name, by_amount = (pattern.fullmatch(words) for pattern in _RAISES_ODDLY)
    if by_name:
        return str(by_name["a"])
    if by_amount and (is_negative(by_amount["a"]) or is_foreign(by_amount["a"])):
        return str(by_amount["a"])
    return ""


def in_all(total: Usd) -> str:
    """The words that confirm a budget of `total`: `read_intent` is sure of them."""
    return f"you may spend {total.exact()} in all"
