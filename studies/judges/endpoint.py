"""A judge behind an OpenAI-compatible endpoint. The only file that needs the package openai."""

import base64
import io
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import openai

from interv.prompts.prompt import Picture, Prompt
from studies.judges.judge import KEY, URL, Answer
from studies.judges.verdicts import QUOTED, JudgeFailed

# No key, no credit, no permission, no such model, then too slow, too early, too many: whatever is asked.
AWAY = (401, 402, 403, 404, 408, 409, 425, 429)
GARBLED = 3  # times that a question is asked whose answers, of status 200, hold no words
HERE = ("localhost", "127.0.0.1", "::1")  # reached without the environment's proxies


@dataclass(frozen=True)
class Endpoint:
    """A model behind `POST <url>/chat/completions`.

    URL and key come from the environment variables JUDGE_URL and JUDGE_KEY, so that neither is in a result; OpenAI's
    own variables for these and for an account are not read. A failing or rate-limited request is sent again after half
    a second, doubled each time up to eight, less jitter, or after what the endpoint's Retry-After says. JudgeFailed is
    raised after `attempts`, and at once where the request itself is refused, with the start of what the endpoint says.

    Verdicts are found again by name and version. What the endpoint calls the model that answered is noted beside them,
    but is not known before it is asked: give a version where the name alone may come to mean another model.

    Raises ValueError for an address or a key that cannot be used.
    """

    name: str
    version: str = ""
    workers: int = 4
    attempts: int = 8
    timeout: float = 120.0  # seconds
    max_tokens: int = 256
    url: str = field(default_factory=lambda: os.environ.get(URL, ""), repr=False)
    key: str = field(default_factory=lambda: os.environ.get(KEY, "").strip(), repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"{self.name} has no endpoint: set {URL} to its address, https://<host>/v1, and {KEY}.")
        if not (self.key.isascii() and self.key.isprintable()):
            raise ValueError(f"{KEY} holds a line break or another character that no request can carry; mend it.")
        _ = self._client  # so that an address that is none is told before the first question

    @property
    def _headers(self) -> dict[str, Any]:
        """What the client would else take from the environment, so that no host is told another one's secrets."""
        own = f"Bearer {self.key}" if self.key else openai.Omit()
        return {"Authorization": own, "OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}

    @cached_property
    def _client(self) -> openai.OpenAI:
        try:
            return openai.OpenAI(
                base_url=self.url,
                api_key=self.key or "none",  # it insists on one
                timeout=self.timeout,
                max_retries=self.attempts - 1,
                http_client=openai.DefaultHttpxClient(trust_env=urlsplit(self.url).hostname not in HERE),
            )
        except Exception as error:  # an address and a proxy that it does not take have errors of their own
            raise ValueError(f"{URL}, or a proxy that is set, cannot be used ({error}); mend it.") from error

    def ask(self, text: str, image: Picture | None = None) -> Answer:
        messages: Any = [{"role": "user", "content": _content(text, image)}]
        create = self._client.chat.completions.with_raw_response.create
        for _ in range(GARBLED):
            try:
                raw = create(
                    model=self.name,
                    messages=messages,
                    temperature=0,
                    max_tokens=self.max_tokens,
                    extra_headers=self._headers,
                )
            except openai.APIStatusError as error:
                away = error.status_code >= 500 or error.status_code in AWAY
                reason = f"HTTP {error.status_code}{self._told(error.response.text)}"
                raise JudgeFailed(f"{self.name} gives no answer: {reason}", away=away) from None
            except openai.APIConnectionError as error:
                reason = f"{type(error.__cause__).__name__}{self._told(str(error.__cause__))}"
                raise JudgeFailed(f"{self.name} cannot be reached: {reason}", away=True) from None
            try:
                return _answer(raw.http_response.json())
            except (ValueError, LookupError, TypeError):
                continue
        raise JudgeFailed(f"{self.name} answers without words, {GARBLED} times{self._told(raw.http_response.text)}")

    def _told(self, text: str) -> str:
        """The start of what is told, on one line and without the key that some endpoints repeat."""
        text = " ".join(text.split())
        text = text.replace(self.key, "***") if self.key else text
        return f": {text[:QUOTED]}" if text else ""


def _content(text: str, image: Picture | None) -> list[dict[str, Any]]:
    # The client cannot send half of a surrogate pair.
    words: dict[str, Any] = {"type": "text", "text": text.encode("utf-8", "backslashreplace").decode()}
    return [words] if image is None else [{"type": "image_url", "image_url": {"url": _data_uri(image)}}, words]


def _data_uri(image: Picture) -> str:
    try:
        picture = Prompt(image, "").images()[0]
    except ValueError as error:
        raise JudgeFailed(str(error)) from error
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _answer(reply: Any) -> Answer:
    text = reply["choices"][0]["message"]["content"]
    if not isinstance(text, str):
        raise TypeError(f"the reply's content is a {type(text).__name__}")
    named = (reply.get("model"), reply.get("system_fingerprint"))
    return Answer(text, " ".join(name for name in named if isinstance(name, str)))
