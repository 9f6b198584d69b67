"""Whether free text is whole: all that can be said of a reply's form where no grammar tells."""

import re
from collections import Counter

REPEATS = 5  # the same words so often in a row are a loop
LONGEST_LOOP = 8  # words
SMALLEST_VARIETY = 0.3  # distinct runs of three words over all, in replies of at least LONG words
LONG = 24

_WORDS = re.compile(r"\w+(?:['\u2019]\w+)*")
_LOOPS = tuple(
    re.compile(r"\b(" + r"\W+".join([r"\w+"] * length) + r")(?:\W+\1\b){" + str(REPEATS - 1) + "}")
    for length in range(1, LONGEST_LOOP + 1)
)


def well_formed(text: str) -> bool:
    """Whether the text has a word, no loop, and few undecodable characters.

    A loop is the same one to eight words five times in a row, one character forty times, or a long reply with less than
    three distinct runs of three words in ten. This is what steering too strongly does to replies. It is no judgement of
    grammar, truth or helpfulness: a fluent falsehood is well-formed; a judge of quality (studies/judges) sees more.
    """
    words = _WORDS.findall(text.lower())
    if not words or text.count("\ufffd") > len(text) / 20 or re.search(r"(\S)\1{39}", text):
        return False
    joined = " ".join(words)
    if any(loop.search(joined) for loop in _LOOPS):
        return False
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    return len(words) < LONG or len(runs) >= SMALLEST_VARIETY * (len(words) - 2)
