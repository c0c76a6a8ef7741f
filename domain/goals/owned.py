"""What a goal names that is the person's own to run: programs, images, repositories, data, and
accelerators that are no GPU.

A run does none of it, and missing one is the worse mistake: whatever looks like one counts as one,
and the person is asked. Moments to start at are in `deadlines.when` and `RECURS`.
"""

from __future__ import annotations

import re
from typing import Final

from domain.goals.text import any_word, one_of

_I: Final = re.IGNORECASE

_NAME: Final = r"[\w.~@:/+-]*\w"
_TELLING: Final = r"(?=[\w.-]*[./_0-9-])[\w./:-]*\w"
"""A word that can only be a name: it has a dot, a slash, a digit or the like."""
_MINE: Final = any_word(
    "my our the this that these those own following attached custom an? existing private some its?"
)
_UP_TO_TWO: Final = r"(?:(?!(?:and|or|on|for|with)\b)[\w./-]+\s+){0,2}?"

_ADDRESS: Final = (
    r"(?:\b(?:repo(?:sitory)?|project|dataset|code)\s+)?"
    r"(?:[a-z][a-z0-9+.-]{1,9}://|git@)[^\s,;\"'<>]*[\w/]"
)
_SITE: Final = (
    r"(?:\brepo(?:sitory)?\s+)?(?<![\w.-])(?:[a-z0-9-]{1,63}\.){1,6}"
    r"(?:com|org|net|io|co|ai|dev|edu|gov|de|uk|eu)(?:/[\w./~#?=&%@+-]*[\w/]|\b)"
)
_IMAGE: Final = one_of(
    r"\b(?:docker|container|oci)\s+(?:image|container)s?(?:\s+(?:named|called|of|from))?"
    rf"(?:\s+(?=[\w.-]*[/:._0-9-]){_NAME})?",
    rf"\b(?:docker|container|image|podman)(?:\s+(?:run|pull|image))?\s+(?=[\w.-]+[/:]){_NAME}",
    rf"\b(?:docker\.io|ghcr\.io|quay\.io|nvcr\.io|gcr\.io)/{_NAME}",
    r"\b(?:docker(?:file)?|containers?|podman)\b",
)
_EXTENSION: Final = any_word(
    "py ipynb sh bash zsh js mjs ts rb go rs cc? cpp cuh? java jar kt jl r pl lua exe bin "
    "whl dockerfile ya?ml toml jsonl? ndjson csv tsv parquet arrow np[yz] h5 hdf5 pkl "
    "pth? ckpt safetensors gguf onnx txt md xml sql db zip tar t?gz bz2 xz zst 7z blend "
    "mp[34] wav flac mkv mov png jpe?g tiff? exr obj fbx usd[az]?"
)
_FILE: Final = one_of(
    rf"(?<![\w/$.-])(?:\.{{1,2}}/|~/|/)?(?:[\w-]{{1,60}}/){{0,12}}[\w.-]{{0,80}}\w\.{_EXTENSION}(?![\w/])",
    r"(?<![\w.$])(?:~|\.{1,2})?/(?:[\w.-]{1,60}/){0,12}[\w.-]{0,80}[a-z_][\w.-]*",
)
_TOOL: Final = any_word(
    "python3? torchrun accelerate deepspeed bash sh zsh pip3? conda npm npx node cargo "
    "make cmake git wget curl apt(?:-get)? docker mpirun srun sbatch uvx? poetry uvicorn"
)
_COMMAND: Final = one_of(
    r"`[^`]{1,200}`",
    rf"\b{_TOOL}\s+(?:-{{1,2}}\w[\w-]*|run|install|clone|launch|pull|exec|build|compose|\./|"
    r"[\w./-]+\.\w+)(?:\s+(?:-{1,2}[\w-]+(?:[= ](?!on\b|for\b)[\w./-]+)?|[\w./-]*[=/_][\w./=-]*))*",
    r"(?<!\w)--[a-z][\w-]+(?:[= ](?!on\b|for\b)[\w./-]+)?",
)
_PROGRAM_WORD: Final = one_of(
    any_word(
        "scripts? programs? programme code(?:base)? notebooks? repo(?:sitor(?:y|ies))? "
        "binar(?:y|ies) executables? commands? kernels? package pipelines? workflows? colab "
        "makefile"
    ),
    "source code",
)
_PROGRAM: Final = one_of(
    rf"\b{_MINE}\s+{_UP_TO_TWO}{_PROGRAM_WORD}\b(?:\s+(?:named\s+|called\s+)?{_TELLING})?",
    r"\b(?:scripts?|programs?|notebooks?|repo(?:sitor(?:y|ies))?|command|binary|entry ?point)"
    rf"(?:\s+(?:named|called)\s+{_NAME}|\s*[:=]\s*{_NAME}|\s+{_TELLING}|\b)",
)
_KNOWN_DATA: Final = one_of(
    any_word(
        "imagenet cifar-?100? (?:fashion-)?mnist coco squad wikitext(?:-[0-9]+)? openwebtext "
        "librispeech laion(?:-[0-9a-z]+)? slimpajama fineweb alpaca dolly-15k gsm8k mmlu "
        "(?:super)?glue c4 oscar imdb celeba audioset kinetics openhermes ultrachat "
        "starcoderdata"
    ),
    "common ?crawl",
    "common ?voice",
    "the pile",
    "red ?pajama",
    "ms ?marco",
    "natural questions",
)
_DATA: Final = one_of(
    rf"\b(?:(?:my|our|the|this|that|these|own|custom|private|attached|an?)\s+{_UP_TO_TWO})?"
    rf"(?:data\s?sets?|corpus|corpora|training data)\b(?:\s+(?:named\s+|called\s+)?{_TELLING})?",
    rf"\b(?:my|our|own|customer|company|private|local)\s+{_UP_TO_TWO}"
    r"(?:data|files?|documents|photos|images|pictures|recordings|videos?)\b",
    rf"\b{_KNOWN_DATA}(?:\s+data(?:set)?)?\b",
)
_NO_PAIR: Final = any_word(
    r"and/or or/and his/her he/she on/off yes/no either/or read/write input/output i/o "
    r"cpu/gpu gpu/cpu price/performance "
    r"train(?:ing)?/(?:test|val|validation|eval(?:uation)?|inference|fine-?tun\w*) "
    r"fine-?tun\w*/(?:train\w*|inference|eval\w*) test/(?:train|eval) "
    r"(?:gpu|usd|[0-9.]+)/\w+ \w+/(?:hour|hr|h|day|gpu|month|s|sec) "
    r"[abhlvt][0-9]{1,4}\w?/[\w-]+"
)
_OF_A_HUB: Final = rf"(?<![\w./$])(?!{_NO_PAIR}\b)(?=[^\s]*[a-z])[a-z0-9][\w.-]*/[a-z0-9][\w.:-]*\w"
"""What stands on a hub as owner/name."""

_NO_GPU: Final = (
    r"\b(?:(?:google\s+|cloud\s+)?tpus?|trainium|inferentia|gaudi|cerebras|groq|ipus?|npus?|fpgas?)"
    r"(?:[\s-]?v?[0-9]\w*)?\b"
)
"""An accelerator that no vendor here has, in place of which a GPU would be rented."""

OWNED: Final = tuple(
    re.compile(pattern, _I)
    for pattern in (
        _ADDRESS,
        _IMAGE,
        _SITE,
        _FILE,
        _COMMAND,
        _PROGRAM,
        _DATA,
        _OF_A_HUB,
        _NO_GPU,
    )
)

_START: Final = r"(?:start|begin|launch|schedule|queue|kick|run|wait|go)\w*(?:\s+off)?"
STARTING: Final = one_of(
    r"(?:not|n't|never|no(?:t any)? (?:earlier|sooner)(?: than)?)\s+(?:\w+\s+)?"
    r"(?:before|until|till|than)?",
    rf"(?:only\s+)?{_START}(?:\s+(?:it|this|that|the\s+\w+|training|only|off))?",
)
"""What leads to a moment to start at."""
_SPAN: Final = r"(?:an?|one|two|[0-9]+)\s*(?:h|hours?|hrs?|minutes?|mins?|days?|weeks?)"
_WEEKDAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
RECURS: Final = re.compile(
    one_of(
        r"\b(?:every|each)\s+(?:other\s+)?(?:day|night|morning|evening|week|weekend|month|hour|"
        rf"[0-9]+\s+(?:hours?|days?|weeks?)|{_WEEKDAY})s?\b",
        r"\b(?:nightly|daily|weekly|hourly|monthly)\b(?!\s+(?:rate|price|cost|budget|limit|cap))",
        r"\bcron\b[^,;]{0,30}",
        rf"\b{STARTING}\s+(?:it\s+)?(?:later|next\s+(?:week|month|weekend)|when\b[^,;.]{{1,40}}|"
        rf"once\b[^,;.]{{1,40}}|as soon as\b[^,;.]{{1,40}}|(?:in|after)\s+{_SPAN}\b)",
        rf"\bin\s+{_SPAN}\s+(?:start|begin|launch)\w*",
        r"\b(?:next\s+(?:week|month|weekend)|later\s+(?:today|tonight|this\s+\w+))\b",
    ),
    _I,
)
"""Words for "again and again", or "later than now"."""
AT_ONCE: Final = re.compile(
    r"\b(?:start|begin|launch|run|go)\w*(?:\s+(?:it|this|off))?\s+(?:right\s+)?"
    r"(?:now|today|immediately|at once|asap|straight away|right away)\b|\bright now\b|"
    r"\bgood (?:morning|afternoon|evening|day|night)\b",
    _I,
)
"""No other moment than now; and what only sounds like one."""
