"""A goal in plain words, read without a model.

text       the words: what is usable, and numbers in digits or words
currency   money as it is written, in dollars
amounts    what an amount is: a limit, a rate, something past, or unclear
gpus       which, and how many
durations  how long, and "within 6 hours"
deadlines  by when
requirements  the kind of job, what matters most, whom to leave out
zones      time zones by name
findings   what all of these find in one text, and where
reading    what that comes to: the job and the budget, or what is to be asked
left_out   what a goal says beside that, and a run leaves out
"""

from domain.goals.amounts import read_answer
from domain.goals.durations import LONGEST_JOB_HOURS
from domain.goals.gpus import DEFAULT_GPU, GPU_TYPES
from domain.goals.reading import (
    ASK_FOR_BUDGET,
    ASK_FOR_JOB,
    DEFAULT_JOB,
    DEFAULT_MINUTES,
    MOST_UNASKED,
    Reading,
    read,
    with_budget,
)
from domain.goals.text import LONGEST_GOAL, check_goal, plain

__all__ = [
    "ASK_FOR_BUDGET",
    "ASK_FOR_JOB",
    "DEFAULT_GPU",
    "DEFAULT_JOB",
    "DEFAULT_MINUTES",
    "GPU_TYPES",
    "LONGEST_GOAL",
    "LONGEST_JOB_HOURS",
    "MOST_UNASKED",
    "Reading",
    "check_goal",
    "plain",
    "read",
    "read_answer",
    "with_budget",
]
