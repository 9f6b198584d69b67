"""The replies that fine-tuning learns: those that the contrast pairs' wanted completions lead the model to."""

from collections.abc import Sequence

from interv import VLM, Prompt
from methods import ContrastPair
from studies.tasks.task import Example, Task


def wanted_replies(
    vlm: VLM, task: Task, examples: Sequence[Example], pairs: Sequence[ContrastPair], batch_size: int
) -> list[tuple[Prompt, str]]:
    """Each example's prompt as it is asked at test time, with a whole wanted reply in the model's own words.

    Where the wanted completion answers the question itself, the reply is that answer and what the model says then.
    Where it answers a suffix ("is it safe or harmful?"), the reply is what the model says then, alone. Replies in which
    the task does not find what is wanted are left out, so all that is learnt is right. `pairs` are of the examples, in
    their order.
    """
    found = []
    for start in range(0, len(examples), batch_size):
        chunk = list(zip(examples, pairs, strict=True))[start : start + batch_size]
        said = vlm.generate([pair.positive for _, pair in chunk], max_new_tokens=task.max_new_tokens)
        for (example, pair), then in zip(chunk, said, strict=True):
            begun = pair.positive.answer if pair.positive.question == pair.prompt.question else ""
            reply = f"{begun} {then}".strip()
            if task.parse(reply) == example.target:
                found.append((example.prompt, reply))
    return found
