"""What a run depends on, in one value."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from interv import Prompt
from interv.places.scope import Scope
from methods import ContrastBank, ContrastPair, Contrasts, CosineWeight
from methods.contrasts.capture import Pool
from methods.training import Init, Schedule
from studies.recipes.completions import EMBEDDED_GROUPS, Forced


@dataclass(frozen=True)
class Recipe:
    """Every choice of a run. Change one with `dataclasses.replace(recipe, strength=2.0)`.

    "Paper" is arXiv:2508.12815v2, "code" is github.com/jayneelparekh/learn-to-steer at 6e0d11a.

    Attributes:
        name: of this recipe; key of `RECIPES`.
        task: of `studies/tasks`, by its name.
        model: hub id or embedded name. Paper, Sec. 4: LLaVA-v1.5-7B, Qwen2-VL-7B-Instruct.
        reads: block L' of the context, from 0; None: chosen on validation. Paper: 14 (POPE), 30 (safety), LLaVA only;
            code: the same, and 17 (POPE), 14 (safety) for Qwen2-VL.
        tried_reads, tried_writes, tried_strengths: what validation chooses among where the one value is None, as far as
            the model has the blocks; () for the grid's own.
        writes: block L* that is steered. Paper: 14 (POPE), 15 (safety); code, Qwen2-VL: 17 and 14.
        pool: which tokens of a completion make a contrast: the last (safety, both sources), or the mean over the forced
            answer ("mean") and what the model then says by itself ("mean_generated"; POPE, both sources).
        generated_tokens: how many of these at most. Code: 99 (100 new tokens, the last of which is never fed back).
        generated_sampled: whether they are sampled. Code: yes; paper: "complete freely".
        context: where the context is read. Paper: last token of the input ("generation_prompt"); code, safety: the end
            of the user's turn, before the assistant's turn opens ("closed_user_turn").
        forced: suffix and forced answers per behaviour; () leaves them to the task. Paper, Fig. 1 and App. B.4.
        closed_answer: whether the forced answer ends its turn. Code, safety: yes; POPE and paper: no.
        equalise: groups of behaviours whose mean contrast norm is brought to that of the first. Code, safety; paper:
            silent.
        scope: which tokens are steered. Paper, Eq. 9: the reply ("response"); code: every token ("all").
        strength: in multiples of the contrast (alpha). Both: 1 (POPE), 2.2 (safety); None: chosen on validation.
        hidden: units of the network. Paper, App. B.1: 100; code: 400 for Qwen2-VL on POPE.
        activation: paper, App. B.1: tanh; relu for selective steering (App. A.1).
        init: of the decoder. Paper: Semi-NMF or SVD basis; code: svd (POPE), dictionary (safety).
        mse_weight, l1_weight, cosine_weight: of the loss. Paper, App. B.1: all three terms; numbers from the code.
        cosine_ramp: the cosine term grows linearly from zero over the epochs. Code, POPE.
        balanced: mean of the behaviours' mean losses. Code, POPE.
        learning_rate: of Adam. Both: 5e-5 (POPE), 1e-4 (safety); None: 0.4 / width, the same at LLaVA's 4096.
        schedule, warmup_epochs: paper: cosine with warm-up, then on plateau (no numbers; code's are used and no plateau
            is followed); code: cosine with 50 epochs of warm-up (POPE), constant (safety).
        epochs, batch_size: both: 100 and 64.
        checkpoint: which epoch is kept. Paper: best validation; code: best (POPE), last (safety).
        split: parts of train, validation and test in the file that is split. Paper: 70/10/20 (POPE), 80/20 (safety; a
            tenth of the 80 stands in for the validation items, which it does not place); code: 1100/100 of the train
            file with a test file of its own (POPE), 80/20 (safety).
        split_seed: shuffles before splitting; None keeps the file's order. Code: None (POPE), 21 (safety).
        sampled: whether replies are sampled. Code: yes on POPE, no on safety; paper: does not say.
        max_new_tokens: paper, Sec. 4 and code: 200 (safety), 128 (POPE in the code); POPE in the paper: 12 are parsed.
        seed: of training and sampling. Code: 0, though never applied in training.
        question_end: what follows the question before the turn ends. Code, POPE: a blank that a cut leaves.
        prompt_suffix: the prompt baseline's words. Paper, Sec. 4.
        parser: how a reply becomes a label. Code, POPE: the wanted word anywhere in the first 15 characters; paper:
            yes or no in the first 12 tokens; "task": the task's own.
        max_pixels, min_pixels: between which Qwen2-VL scales an image. Both: the checkpoint's own.
        judge: of a reply's harm and deference. Both, safety: Llama-Guard-3-8B and fixed phrases.
    """

    name: str
    task: str
    model: str
    reads: int | None = None
    writes: int | None = None
    pool: Pool = "last"
    generated_tokens: int = 99
    generated_sampled: bool = False
    context: Literal["generation_prompt", "closed_user_turn"] = "generation_prompt"
    forced: tuple[Forced, ...] = ()
    closed_answer: bool = False
    equalise: tuple[tuple[str, ...], ...] = ()
    scope: Scope = "response"
    strength: float | None = None
    hidden: int = 100
    activation: Literal["tanh", "relu"] = "tanh"
    init: Init = "svd"
    mse_weight: float = 1.0
    l1_weight: float = 1.0
    cosine_weight: float = 0.1
    cosine_ramp: bool = False
    balanced: bool = False
    learning_rate: float | None = None
    schedule: Schedule = "constant"
    warmup_epochs: int = 0
    epochs: int = 100
    batch_size: int = 64
    checkpoint: Literal["best_validation", "last"] = "last"
    split: tuple[int, int, int] = (70, 10, 20)
    split_seed: int | None = 0
    sampled: bool = False
    max_new_tokens: int = 64
    seed: int = 0
    question_end: str = ""
    prompt_suffix: str = ""
    parser: Literal["task", "first_15_characters", "first_12_tokens"] = "task"
    judge: Literal["task", "llama_guard_and_phrases"] = "task"
    max_pixels: int | None = None
    min_pixels: int | None = None
    tried_reads: tuple[int, ...] = ()
    tried_writes: tuple[int, ...] = ()
    tried_strengths: tuple[float, ...] = ()

    def fit(self, validation: Contrasts | None = None) -> dict[str, Any]:
        """The keyword arguments of `L2S.fit`. Raises ValueError where the checkpoint needs `validation`."""
        best = self.checkpoint == "best_validation"
        if best and validation is None:
            raise ValueError(f"{self.name} keeps the epoch that is best on validation; pass validation=contrasts.")
        same = ("hidden", "activation", "init", "mse_weight", "l1_weight", "balanced", "learning_rate", "schedule")
        weight = CosineWeight(self.cosine_weight) if self.cosine_ramp else self.cosine_weight
        return {name: getattr(self, name) for name in (*same, "warmup_epochs", "epochs", "batch_size", "seed")} | {
            "validation": validation if best else None,
            "cosine_weight": weight,
        }

    def decoding(self) -> dict[str, Any]:
        """The keyword arguments of `vlm.generate`. Sampling is by the checkpoint's own generation settings."""
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens}
        return options | ({"do_sample": True, "seed": self.seed} if self.sampled else {})

    def capturing(self, pairs: Sequence[ContrastPair]) -> dict[str, Any]:
        """The keyword arguments of `capture_contrasts` for these pairs."""
        own = {forced.behavior: forced.pool for forced in self.forced if forced.pool is not None}
        options: dict[str, Any] = {"pool": [own.get(pair.behavior, self.pool) for pair in pairs] if own else self.pool}
        if self.pool == "mean_generated":
            seed = self.seed if self.generated_sampled else None
            options |= {"generated_tokens": self.generated_tokens, "generated_seed": seed}
        return options

    def targets(self, bank: ContrastBank, reads: int, writes: int) -> Contrasts:
        """What the oracle adds and L2S learns to predict, at these layers.

        The published code equalises these, and not the vectors that are averaged for mean steering.
        """
        return bank.at(reads, writes).equalised(self.equalise)

    def prompt(self, image: Any, question: str) -> Prompt:
        """What is asked at test time."""
        return Prompt(image, question + self.question_end)

    def context_prompt(self, prompt: Prompt) -> Prompt:
        """The prompt whose last token is the context; another one than is answered where the turn must be closed."""
        return replace(prompt, closed=True) if self.context == "closed_user_turn" else prompt

    def pair(self, image: Any, question: str, behavior: str, id: str = "") -> ContrastPair:
        """The contrast pair of one item. Raises ValueError where the recipe has no answers for the behaviour."""
        by_name = {forced.behavior: forced for forced in self.forced}
        if behavior not in by_name:
            raise ValueError(f"{self.name} forces no answers for {behavior!r}; it does for {', '.join(by_name)}.")
        forced, asked = by_name[behavior], self.prompt(image, question)
        positive, negative = (
            replace(asked, question=asked.question + forced.suffix, answer=answer)
            for answer in (forced.positive, forced.negative)
        )
        return self.adapted(ContrastPair(asked, positive, negative, behavior, id))

    def adapted(self, pair: ContrastPair) -> ContrastPair:
        """A task's own pair, its context read and its answers ended as this recipe does."""
        positive, negative = self._ended(pair.positive, pair.negative)
        agnostic = None if pair.agnostic is None else self._ended(*pair.agnostic)
        context = self.context_prompt(pair.prompt)
        return replace(pair, prompt=context, positive=positive, negative=negative, agnostic=agnostic)

    def _ended(self, positive: Prompt, negative: Prompt) -> tuple[Prompt, Prompt]:
        return replace(positive, closed=self.closed_answer), replace(negative, closed=self.closed_answer)

    def indices(self, count: int) -> tuple[list[int], list[int], list[int]]:
        """Which items train, validate and test, by their place in the file."""
        order = np.arange(count)
        if self.split_seed is not None:
            # The legacy generator: the published split comes from it.
            np.random.RandomState(self.split_seed).shuffle(order)
        train, validation, _ = self.split
        first, second = (count * part // sum(self.split) for part in (train, train + validation))
        return order[:first].tolist(), order[first:second].tolist(), order[second:].tolist()

    def embedded(self, task: str, model: str, width: int) -> "Recipe":
        """This recipe on a small model: what names a layer, a word or a size is left to the task and to validation."""
        rate = None if self.learning_rate is None else self.learning_rate * 4096 / width
        changed = {"forced": (), "question_end": "", "prompt_suffix": "", "parser": "task", "judge": "task"}
        return replace(
            self,
            task=task,
            model=model,
            reads=None,
            writes=None,
            strength=None,
            generated_tokens=min(self.generated_tokens, 12),
            max_new_tokens=14,
            equalise=EMBEDDED_GROUPS if self.equalise else (),
            learning_rate=rate,
            **changed,  # type: ignore[arg-type]
        )

    def card(self) -> dict[str, Any]:
        """As plain values, for `recipe.json`; bounds and candidates that are not given are not in it."""
        given = ("max_pixels", "min_pixels", "tried_reads", "tried_writes", "tried_strengths")
        return {name: value for name, value in asdict(self).items() if name not in given or value not in (None, ())}
