"""Who can be asked in words: an OpenAI-compatible endpoint, or a local vision-language model."""

import base64
import http.client
import io
import json
import os
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from interv import VLM, Prompt
from interv.prompt import Picture
from studies.judges.verdicts import QUOTED, JudgeFailed

URL, KEY = "JUDGE_URL", "JUDGE_KEY"  # environment variables: ".../v1", and the endpoint's secret
TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
SHUT = (401, 402, 403, 404)  # no key, no credit, no permission, no such model: whatever is asked


@dataclass(frozen=True)
class Said:
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

    def ask(self, text: str, image: Picture | None = None) -> Said:
        """The judge's words. Raises JudgeFailed where it gives none."""
        ...


@dataclass(frozen=True)
class Endpoint:
    """A model behind `POST <url>/chat/completions`.

    URL and key come from the environment variables JUDGE_URL and JUDGE_KEY, so that neither is in a result. A failing
    or rate-limited request is sent again after `pause` seconds, doubled each time and jittered by up to a quarter, or
    after what the endpoint's Retry-After says. JudgeFailed is raised after `attempts`, and at once where the request
    itself is refused, with the start of what the endpoint says.

    Verdicts are found again by name and version. What the endpoint calls the model that answered is noted beside them,
    but is not known before it is asked: give a version where the name alone may come to mean another model.
    """

    name: str
    version: str = ""
    workers: int = 4
    attempts: int = 6
    pause: float = 1.0  # seconds
    longest_pause: float = 60.0  # seconds
    timeout: float = 120.0  # seconds
    max_tokens: int = 256
    url: str = field(default_factory=lambda: os.environ.get(URL, ""), repr=False)
    key: str = field(default_factory=lambda: os.environ.get(KEY, ""), repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"{self.name} has no endpoint: set {URL} to its address, https://<host>/v1, and {KEY}.")

    def ask(self, text: str, image: Picture | None = None) -> Said:
        reason, away = "", False
        for attempt in range(self.attempts):
            try:
                return _said(self._post(_body(self, text, image)))
            except urllib.error.HTTPError as error:
                reason, wait, away = f"HTTP {error.code}{self._told(error)}", _retry_after(error), True
                if error.code not in TRANSIENT:
                    raise JudgeFailed(f"{self.name} refuses the request: {reason}", away=error.code in SHUT) from None
            except http.client.InvalidURL as error:
                raise JudgeFailed(f"{URL} is no address: {error}", away=True) from None
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                reason, wait = f"{type(error).__name__}: {error}", None
                away = isinstance(
                    error, OSError | http.client.HTTPException
                )  # else its answer is not what it should be
            if attempt + 1 < self.attempts:
                doubled = self.pause * 2**attempt * (1 + random.random() / 4)
                time.sleep(min(self.longest_pause, doubled if wait is None else wait))
        raise JudgeFailed(f"{self.name} did not answer in {self.attempts} attempts; the last: {reason}", away=away)

    def _told(self, error: urllib.error.HTTPError) -> str:
        """The start of an error's body, without the key that some endpoints repeat."""
        try:
            with error:
                text = " ".join(error.read().decode("utf-8", "replace").split())
        except (OSError, http.client.HTTPException):
            return ""
        text = text.replace(self.key, "***") if self.key else text
        return f": {text[:QUOTED]}" if text else ""

    def _post(self, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {}),
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            return json.loads(reply.read())


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

    def ask(self, text: str, image: Picture | None = None) -> Said:
        try:
            text = self.vlm.generate([Prompt(image, text)], max_new_tokens=self.max_new_tokens)[0]
            return Said(text, getattr(self.vlm.model.config, "_commit_hash", None) or "")
        except ValueError as error:
            raise JudgeFailed(str(error)) from error


def judge_of(name: str, device: str = "cpu", version: str = "") -> Judge:
    """The model of this name at the endpoint of JUDGE_URL where that is set, else loaded here.

    The version is an endpoint's; a model that is loaded here has its own.
    """
    return Endpoint(name, version) if os.environ.get(URL) else LocalJudge(VLM.load(name, device=device))


def model_name(name: str) -> str:
    """A hub id as it is; a folder by its own name, so that it may lie elsewhere on another machine."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _body(endpoint: Endpoint, text: str, image: Picture | None) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if image is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": _data_uri(image)}})
    message = {"role": "user", "content": content}
    return {"model": endpoint.name, "messages": [message], "temperature": 0, "max_tokens": endpoint.max_tokens}


def _data_uri(image: Picture) -> str:
    try:
        picture = Prompt(image, "").images()[0]
    except ValueError as error:
        raise JudgeFailed(str(error)) from error
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _said(reply: Any) -> Said:
    text = reply["choices"][0]["message"]["content"]
    if not isinstance(text, str):
        raise TypeError(f"the reply's content is a {type(text).__name__}")
    named = (reply.get("model"), reply.get("system_fingerprint"))
    return Said(text, " ".join(name for name in named if isinstance(name, str)))


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return None
