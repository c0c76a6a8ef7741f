"""What a goal says and a run will not do: said before anything is paid.

A run rents a GPU for a kind of job, and passes the goal on as a note. Where the readers of this
package understood a part of the goal, or where it only describes the task ("a 7B model"), nothing
is lost; whatever else has content is named here. What is the person's own to run, like a program
or a start time, is marked: a run that leaves it out is not what they asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from domain.goals.amounts import Role
from domain.goals.deadlines import when
from domain.goals.findings import Findings
from domain.goals.owned import AT_ONCE, OWNED, RECURS, STARTING
from domain.goals.requirements import requirement_spans

MOST_NAMED: Final = 12
LONGEST_NAMED: Final = 60
"""Characters of one thing that is named."""

_I: Final = re.IGNORECASE
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """words: all that is not used, in the goal's order. own: those of them that are the person's
    own to run (a program, an image, a repository, a dataset, a start time).
    """

    words: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What is not used, as a line for people; empty where all is used."""
        return f"Not used: {', '.join(self.words)}." if self.words else ""


NOTHING_LEFT_OUT: Final = LeftOut()

_LEADS_TO: Final = (
    r"(?:at|on|from|after|in|by|around|about|until|till|before|for|the|not|only|once|every|each|"
    r"next|since)"
)
_BEFORE_A_MOMENT: Final = re.compile(rf"(?:\b{STARTING}\s+)?(?:\b{_LEADS_TO}\s+)*$", _I)
_AFTER_A_MOMENT: Final = re.compile(r"\s+(?:start|begin|launch|kick[\s-]?off)\w*\b", _I)
_TASK: Final = re.compile(
    r"(?:fine[\s-]?tun(?:e|es|ed|ing)|(?:pre-?)?train(?:s|ed|ing)?|q?lora|sft|serv(?:e|ing)|"
    r"host(?:ing)?|infer(?:ence|ring)?|generat(?:e|ing)|transcri\w+|embed\w*|evaluat\w+|eval|"
    r"benchmark\w*|render\w*)\b"
    r"(?:\s+(?!(?:on|for|with|using|in|from|at|by|under|before|within|via|through|and|but|until|"
    r"as|that|then|over|inside|max|between|up|no|not|only|start|starting|tomorrow|tonight|"
    r"today)\b)[^\s,;.()!?$]+){0,6}",
    _I,
)
"""A kind of job and what it is done to, which the order tells the vendor."""
_SUBJECT: Final = re.compile(
    r"\b(?:(?:an?|the|my|our|your|some|small|tiny|large|big|new|quick|vision|language|diffusion|"
    r"text|image|speech)\s+){0,4}"
    r"(?:[0-9]+(?:\.[0-9]+)?\s?[bm](?:[\s-]?param(?:eter)?s?)?(?:\s+models?)?|"
    r"llama[\s-]?[0-9.]*(?:[\s-][0-9.]+b)?|mistral|mixtral|qwen[\s-]?[0-9.]*|gemma[\s\w.-]*?[0-9]b|"
    r"phi-?[0-9]|whisper|bert|gpt(?:-?[0-9])?|resnet[0-9]*|models?|networks?|classifiers?|chatbots?|"
    r"llms?|checkpoints?|adapters?|batch(?:es)?(?!\s+size))\b",
    _I,
)
_WORDS_WITHOUT_CONTENT: Final = """
a able about above absolutely accelerator accelerators actually again ago ahead all allow allowed
allows almost alone along already also although altogether always am amd an and another any
anybody anyone anything anyway anywhere approx approx. approximately are aren't around as ask at
automatically available avoid avoiding away back be because been before being below best better
between bit both box buck bucks budget budgeted but buy by call called can can't cannot cap card
cards ceiling cent cents charge cheap check choose come complete completed compute cost
cost-effective costs could couldn't couple course day days deadline dear dedicated did didn't do
does doesn't doing dollar dollars don't done dont down dual due during e.g. each easy either else
end enough etc evaluation even ever every everybody everything everything's exactly exceed
exceeding except exclude excluding expect few fewer find fine fine-tune fine-tuning finetune
finetuning finish finished first following for free from full further geforce get gets getting
give given go goal goes going good got gpu gpus great had half hard hardware has have haven't
having he hello help her here hers hey hi high him his hope hour hours how however hurry i i'd
i'll i'm i've i.e. id if ill im immediately in including inference instance instead into is isn't
it it'd it'll it's its itself job jobs just keep keeping kind know last later latest least less
let let's lets like limit limit's limited little ll long look looking lot low lower machine make
makes making many matter matters max max. maximum may maybe me mean mind minimum minute minutes
model models money month months more most much must my myself near need needed needs neither never
new next nice night no nobody node nodes none nor not nothing now number nvidia of off offer
offers often ok okay on once one ones only onto or order other others otherwise our ours out over
overall own paid pair part pay paying people per perhaps pick place please plus possible pretty
price prices probably provider providers purpose put question quick quickly quite range rather re
ready really rendering rent rental rented renting required right roughly run running runs rush s
same say says see server serving set shall she should shouldn't since single skip so some somebody
someone something something's somewhere soon sooner sort spend spending spent start started
starting starts stay stays still stop such suitable sure t take takes task tell tesla than thank
thanks that that's the their them then there there's these they thing things think this those
through time times to today together told too top tops total totally toward towards train trained
training true try trying tuning type under unless until up us usd usdc use used using usual
usually ve vendor vendors very via vram wait wallet want wanted wants was way we we'd we'll we've
week weeks well were what whatever when where which while who whole why will willing wish with
within without won't wonder work workload workloads works worth would wouldn't year years yes yet
you you'd your yours
"""
_FILLER: Final = frozenset(_WORDS_WITHOUT_CONTENT.split())
_TOKEN: Final = re.compile(r"[^\s,;()\"!?<>|]+")
_EDGES: Final = ".:'`’*_-–—=&+~^[]{}#"


def left_out(found: Findings) -> LeftOut:
    """What of the text that was read a run leaves out."""
    text = found.text
    own = _joined(text, _own_spans(found))
    free = _masked(text, [*own, *_read_spans(found)])
    rest = [span for span in _phrases(text, free) if not _within(span, own)]
    named = sorted([(span, True) for span in own] + [(span, False) for span in rest])
    words: dict[str, bool] = {}
    for (start, end), mine in named:
        word = _clean(text[start:end])
        if word and not (word.casefold() in (w.casefold() for w in words) and not mine):
            words[word] = words.get(word, False) or mine
    # The person's own things are never cut off.
    kept = [w for w, mine in words.items() if mine] + [w for w, mine in words.items() if not mine]
    shown = set(kept[:MOST_NAMED])
    more = len(words) - len(shown)
    return LeftOut(
        tuple(w for w in words if w in shown) + ((f"and {more} more",) if more else ()),
        tuple(w for w, mine in words.items() if mine),
    )


def _own_spans(found: Findings) -> Iterator[Span]:
    """Where the text names programs, images, repositories, datasets and start times. A vendor to
    rent from or a list of GPUs may look like one, and is none: "vast.ai".
    """
    rented = [*found.only.spans, *found.excluded.spans, *found.gpus.spans]
    others = _masked(found.text, rented)
    for pattern in OWNED:
        for named in pattern.finditer(found.text):
            if re.search(r"\w", others[named.start() : named.end()]):
                yield named.span()
    yield from _start_spans(found)


def starts_later(found: Findings) -> bool:
    """Whether a goal names a time to start at: it is no deadline."""
    return any(True for _ in _start_spans(found))


def _start_spans(found: Findings) -> Iterator[Span]:
    """Where the text has moments that are no deadline: when to start."""
    text, deadline = found.text, found.deadline.span
    taken = [deadline] if deadline else []
    starts_now = [at_once.span() for at_once in AT_ONCE.finditer(text)]
    for start, end in when(text):
        near = max(0, start - _FAR)
        lead = _BEFORE_A_MOMENT.search(text[near:start])
        start = near + lead.start() if lead else start
        more = _AFTER_A_MOMENT.match(text, end)
        span = (start, more.end() if more else end)
        ago = _LONG_AGO.search(text[max(0, span[0] - _FAR) : span[0]])
        if ago or _overlaps(span, [*taken, *starts_now]):
            continue
        yield span
    for later in RECURS.finditer(text):
        if not _overlaps(later.span(), taken):
            yield later.span()


_FAR: Final = 80
"""Characters: words further away lead to no moment."""
_LONG_AGO: Final = re.compile(r"\b(?:last|since|was|were|from)\s+$", _I)


def _read_spans(found: Findings) -> Iterator[Span]:
    """Where the text says something that a run heeds, or that only describes the task."""
    # A rate is not enforced as a limit, so what the person expects of it is named.
    yield from ((a.start, a.end) for a in found.money if a.role is not Role.RATE)
    yield from (*found.gpus.spans, *found.durations.spans, *found.only.spans, *found.excluded.spans)
    if found.deadline.span:
        yield found.deadline.span
    yield from requirement_spans(found.text, found.job_type, found.preference)
    for pattern in (_TASK, _SUBJECT, AT_ONCE):
        yield from (said.span() for said in pattern.finditer(found.text))


def _joined(text: str, spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that touch or overlap as one; without the words around a name."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return [_trimmed(text, span) for span in out]


_ARTICLE: Final = re.compile(
    r"(?:(?:my|our|the|this|that|these|those|a|an|some|own|at|on|from|in|it|by|for|its?|using|"
    r"with)\s+)+",
    _I,
)


def _trimmed(text: str, span: Span) -> Span:
    lead = _ARTICLE.match(text, span[0])
    start = lead.end() if lead and lead.end() < span[1] else span[0]
    return (span[0] if _needs_its_lead(text, start, span) else start, span[1])


def _needs_its_lead(text: str, start: int, span: Span) -> bool:
    """Whether a name needs its "my" or "at": "my code", "at 9am"."""
    return not re.search(r"[./:_0-9-]", text[start : span[1]]) or bool(
        re.fullmatch(r"[\s0-9:.apm]+", text[start : span[1]], _I)
    )


def _masked(text: str, spans: Iterable[Span]) -> str:
    """The text with what is accounted for blanked out."""
    letters = list(text)
    for start, end in spans:
        letters[start:end] = "\0" * (end - start)
    return "".join(letters)


def _phrases(text: str, free: str) -> Iterator[Span]:
    """Where meaningful words stand that no reader accounts for; neighbours form one phrase."""
    begun: Span | None = None
    for found in _TOKEN.finditer(text):
        left = free[found.start() : found.end()]
        word = left.replace("\0", "").strip(_EDGES).casefold()
        gone = "\0" in left and len(word) < 3
        if gone or word in _FILLER or not re.search(r"\w", word) or _SAYS_NOTHING.fullmatch(word):
            if begun:
                yield begun
            begun = None
            continue
        gap = text[begun[1] : found.start()] if begun else ""
        if begun and gap.strip():
            yield begun
            begun = None
        begun = (begun[0] if begun else found.start(), found.end())
    if begun:
        yield begun


_SAYS_NOTHING: Final = re.compile(r"[a-z]|\w+'(?:s|d|m|ll|re|ve|t)|\$")


def _within(span: Span, others: Sequence[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)


def _overlaps(span: Span, others: Sequence[Span]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def _clean(words: str) -> str:
    """A phrase for a line of text: printable, bounded, without the punctuation around it."""
    shown = "".join(c if c.isprintable() else " " for c in words).strip(_EDGES + ' ,;"()')
    shown = re.sub(r"\s+", " ", shown)
    return shown if len(shown) <= LONGEST_NAMED else shown[: LONGEST_NAMED - 1] + "…"
