"""Who can be asked in words: anything that follows the protocol, such as a local vision-language model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from interv import VLM, Prompt
from interv.prompts.prompt import Picture
from studies.judges.verdicts import JudgeFailed

URL, KEY = "JUDGE_URL", "JUDGE_KEY"  # environment variables: ".../v1", and the endpoint's secret


@dataclass(frozen=True)
class Answer:
    """A judge's words, and what spoke them as far as it tells: an endpoint's model, a commit of the hub."""

    text: str
    by: str = ""


@runtime_checkable
class Judge(Protocol):
    """Answers one text about at most one image.

    Attributes:
        name, version: of the model that judges; a verdict is kept under both. A hub id is whole, a folder is its name
            and a fingerprint of its weights.
        workers: how many questions it takes at once.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def workers(self) -> int: ...

    def ask(self, text: str, image: Picture | None = None) -> Answer:
        """The judge's words. Raises JudgeFailed where it gives none."""
        ...


@dataclass(frozen=True, eq=False)
class LocalJudge:
    """A vision-language model in this process."""

    vlm: VLM
    max_new_tokens: int = 128
    workers: int = 1

    @property
    def name(self) -> str:
        return model_name(self.vlm.name)

    @property
    def version(self) -> str:
        return self.vlm.fingerprint

    def ask(self, text: str, image: Picture | None = None) -> Answer:
        try:
            text = self.vlm.generate([Prompt(image, text)], max_new_tokens=self.max_new_tokens)[0]
            return Answer(text, getattr(self.vlm.model.config, "_commit_hash", None) or "")
        except ValueError as error:
            raise JudgeFailed(str(error)) from error


def model_name(name: str) -> str:
    """A hub id as it is; a folder by its own name, so that it may lie elsewhere on another machine."""
    return Path(name).resolve().name if Path(name).is_dir() else name
