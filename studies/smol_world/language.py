"""The sentences of questions, answers and captions, the same in training and in the tasks."""

from collections.abc import Sequence

CAPTION_REQUEST = "What is in the picture?"


def question(word: str) -> str:
    return f"Is there {with_article(word)} in the picture?"


def answer(word: str, present: bool) -> str:
    return (
        f"Yes, there is {with_article(word)} in the picture." if present else f"No, there is no {word} in the picture."
    )


def caption(words: Sequence[str]) -> str:
    named = [with_article(word) for word in words]
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"The picture shows {listed}."


def with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
