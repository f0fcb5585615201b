"""Thirteen words that results are told in, each in a sentence; docs/statistics.md says more of them.

A newcomer meets them in tables and captions: what prints such a word prints `words_in` of its text below it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

GLOSSARY: dict[str, str] = {
    "trial": "one training run: one configuration with one seed",
    "seed": "the number that fixes all that is random in a trial, such as its first weights; trials that differ in it "
    "alone repeat one experiment",
    "cell": "one configuration with all its seeds",
    "n": "how many repeats a number is made of: seeds, where no other word stands beside it",
    "validation": "training images that are held out to choose by; the test images choose nothing",
    "percentage points": "what accuracies differ by; from 50 % to 52 % are 2 percentage points",
    "decade": "a factor of 10; 3 percentage points a decade are 3 more for a value 10 times as large",
    "interval": "[low, high], where the true value may lie; 95 % intervals hold it in 95 of 100 such studies",
    "p": "how often chance alone would bring a result as far from the claim's limit, if the truth lay on it; small: "
    "hardly chance",
    "Holm": "of lines that are tested together each needs stronger evidence, so that in 95 of 100 such studies not one "
    "verdict is wrong; p (Holm) is p made larger for that, and below 0.05 it decides",
    "undecided": "these trials cannot tell whether it holds, and more seeds may; it does not mean that there is no "
    "effect",
    "margin": "the largest difference that still counts as none",
    "registered": "asked, and judged, as it was written down before the first trial; what was found afterwards may "
    "have been asked because of its result, and is weaker evidence",
}

#: What a table's reader can hardly guess, and how it is found in a text.
_UNUSUAL = {
    "cell": r"\bcells?\b",
    "percentage points": r"\bpercentage points?\b",
    "decade": r"\bdecade\b",
    "undecided": r"\bundecided\b",
    "registered": r"\b(registered|found afterwards)\b",
}


def words_in(texts: Sequence[str]) -> list[str]:
    """The unusual ones of these words that stand in these texts, a line each with what it means.

    >>> words_in(["+3.1 percentage points a decade, n = 2 seeds: supported"])[0]
    'percentage points: what accuracies differ by; from 50 % to 52 % are 2 percentage points'
    """
    text = "\n".join(texts)
    return [f"{word}: {GLOSSARY[word]}" for word, pattern in _UNUSUAL.items() if re.search(pattern, text)]
