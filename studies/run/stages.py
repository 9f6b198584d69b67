"""What a study is about to do, counted stage by stage before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from more_itertools import chunked

from interv import VLM, Prompt
from interv.places.scope import PROMPT_SCOPES
from interv.prompts.images import shown_by
from methods import ContrastPair
from methods.steerer import Fitted
from studies.fit.controls import THRESHOLD_PROMPTS
from studies.fit.fitting import METHODS
from studies.fit.method_traits import adds, at_one_block, in_replies_alone, reads_context, seeded
from studies.fit.selection import FINALISTS, Grid, thinned
from studies.recipes import Recipe
from studies.run.answer import side_by_side
from studies.run.arguments import Common
from studies.run.batch import first_size
from studies.run.cost import pairs_at_once
from studies.run.sizes import Lengths, Sizes, lengths_of
from studies.tasks import Example, Split, Task

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NUMBER = 4  # bytes of a number among contrasts, which are kept in float32


@dataclass(frozen=True)
class Stage:
    """One part of a run.

    Attributes:
        pairs, replies: as its progress bar counts them.
        prefills: passes over a whole prompt, its image with it, each row counted.
        steps: forwards of a batch that decode one token a row, at most.
        image_tokens: that go through the decoder.
        cache: bytes of keys and values, and of the widest block's work, at its peak, beside the weights.
        memory, disk: bytes that it leaves behind in memory, and at its peak in the result folder.
    """

    name: str
    pairs: int = 0
    replies: int = 0
    prefills: int = 0
    steps: int = 0
    image_tokens: int = 0
    cache: int = 0
    memory: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Plan:
    """What decides the counts: the recipe, the grid, the batch size, the model's sizes, and how long prompts are."""

    recipe: Recipe
    grid: Grid
    batch_size: int
    sizes: Sizes
    lengths: Lengths
    max_new_tokens: int

    @classmethod
    def of(cls, common: Common, vlm: VLM, task: Task, recipe: Recipe, grid: Grid) -> "Plan":
        """The plan of a study with these arguments, on a model or on the outline of one."""
        lengths = lengths_of(vlm, [example.prompt for example in task.prompts("test")])
        size = first_size(common, vlm, task)
        return cls(recipe, grid, size, Sizes.of(vlm, common.bits), lengths, task.max_new_tokens)

    def candidates(self, name: str) -> int:
        """How many settings of a method the whole grid has, as `Bench.candidates` makes them."""
        method, grid = METHODS[name], self.grid
        if not adds(method):
            return 1
        reads = len(grid.reads) if reads_context(method) else 1
        return reads * (len(grid.writes) if at_one_block(method) else 1) * len(grid.strengths)

    def captured(self, split: str, pairs: Sequence[ContrastPair]) -> Stage:
        """The contrasts of these pairs, which stay in memory and in the result folder."""
        size, tokens = pairs_at_once(self.batch_size), self.lengths.tokens
        files = all(isinstance(pair.prompt.image, str) or hasattr(pair.prompt.image, "__fspath__") for pair in pairs)
        shared = [pair for pair in pairs if len({shown_by(prompt) for prompt in pair.variants()}) == 1]
        first: dict[object, int] = {}
        ordered = sorted(shared, key=lambda pair: first.setdefault(shown_by(pair.prompt), len(first)))
        batches = list(chunked(ordered if files else shared, size))
        own = [len({shown_by(pair.prompt) for pair in batch}) if files else len(batch) for batch in batches]
        whole = sum(len(_different(pair)) for pair in pairs) - sum(len(_different(pair)) for pair in shared)
        prefills, steps = sum(own) + whole, 0
        if self.recipe.pool == "mean_generated":
            prefills += sum(len(_different(pair)) - 1 for pair in pairs) - sum(len(_different(p)) - 1 for p in shared)
            completions = max(len(_different(pair)) - 1 for pair in pairs)
            steps = len(batches) * completions * (self.recipe.generated_tokens + 1)
        kept = NUMBER * (3 + any(pair.agnostic is not None for pair in pairs)) * self.sizes.width * len(pairs)
        kept *= len(self.grid.captured(self.sizes.blocks))
        rows = min(size, len(pairs))
        cache = rows * (self.sizes.key_values + self.sizes.passing) * tokens
        cache += rows * 3 * 3 * self.sizes.key_values * tokens // self.sizes.blocks
        images = prefills * self.lengths.image_tokens
        return Stage(f"contrasts, {split}", len(pairs), 0, prefills, steps, images, cache, kept, 2 * kept)

    def answered(
        self,
        name: str,
        examples: Sequence[Example],
        settings: dict[str, int],
        done: frozenset[str] = frozenset(),
    ) -> Stage:
        """Replies to these examples in so many settings of each method, batched as `answer` does.

        A chunk whose examples are all `done` is left out.
        """
        alike: dict[bool, dict[str, int]] = {}
        for method, count in settings.items():
            alike.setdefault(_rewrites(METHODS[method]), {})[method] = count
        replies = prefills = steps = 0
        for group in alike.values():
            count = sum(group.values())
            together, size = side_by_side(count, self.batch_size)
            chunks = [chunk for chunk in chunked(examples, size) if any(one.id not in done for one in chunk)]
            rows = sum(map(len, chunks))
            groups = -(-count // together)
            streams = len({method for method in group if _has_stream(METHODS[method])})
            again = self._reaching_into_prompts(group)
            replies += rows * count
            prefills += rows * (1 + streams + (self.recipe.context != "generation_prompt") + again)
            steps += len(chunks) * groups * self.max_new_tokens
        widest = min(self.batch_size, len(examples) * sum(settings.values()))
        cache = widest * self.sizes.reply(self.lengths.tokens, self.max_new_tokens)
        return Stage(name, 0, replies, prefills, steps, prefills * self.lengths.image_tokens, cache)

    def _reaching_into_prompts(self, group: dict[str, int]) -> int:
        """How many settings run each prompt anew, since something beside them acts on all of it."""
        if self.recipe.scope not in PROMPT_SCOPES:
            return 0
        reaching = any(adds(METHODS[name]) and not in_replies_alone(METHODS[name]) for name in group)
        return sum(group.values()) if reaching else 0

    def compared(
        self, task: Task, methods: Sequence[str], limit: int | None, screen: int, seeds: int, threshold: bool
    ) -> list[Stage]:
        """The stages of compare.py; the whole grid is tried on the first `screen` examples of each subset."""
        examples = {split: thinned(task.prompts(split), limit) for split in SPLITS}
        wanted = {split: {example.id for example in own} for split, own in examples.items()}
        pairs = {
            split: [self.recipe.adapted(pair) for pair in task.pairs(split) if pair.id in wanted[split]]
            for split in SPLITS
        }
        stages = [self.captured(split, pairs[split]) for split in ("train", "val")]
        stages += self.learned(methods, len(pairs["train"]) + len(pairs["val"]))
        tried, screened = {name: self.candidates(name) for name in methods}, thinned(examples["val"], screen)
        stages.append(self.answered("screening, val", screened, tried))
        final = {name: min(FINALISTS, count) for name, count in tried.items()}
        seen = frozenset(example.id for example in screened)
        stages.append(self.answered("finalists, val", examples["val"], final, seen))
        if "P2S" in methods:
            stages.append(self.captured("test", pairs["test"]))
        chosen = {name: seeds if seeded(METHODS[name]) else 1 for name in methods}
        stages.append(self.answered("test", examples["test"], chosen))
        if threshold:
            count = min(len(examples["train"]), THRESHOLD_PROMPTS) + 2 * len(examples["test"])
            steps = -(-len(examples["test"]) // self.batch_size) * self.max_new_tokens
            images = count * self.lengths.image_tokens
            stages.append(Stage("threshold", 0, len(examples["test"]), count, steps, images))
        return stages

    def learned(self, methods: Sequence[str], pairs: int) -> list[Stage]:
        """What the other systems learn from beside contrasts at two blocks, but for ADHH, which looks for mistakes."""
        wanted = {part for name in methods for part in (name, *getattr(METHODS[name], "made_of", ()))}
        more = pairs * ("CAST" in wanted) + 2 * pairs * ("ITI" in wanted)
        return [Stage("other materials", prefills=more, image_tokens=more * self.lengths.image_tokens)] if more else []


def _different(pair: ContrastPair) -> list[Prompt]:
    """A pair's prompts but for those that are equal, which run once."""
    variants = pair.variants()
    return [prompt for number, prompt in enumerate(variants) if prompt not in variants[:number]]


def _rewrites(method: type[Fitted]) -> bool:
    return "PromptSteering" in (method.__name__, *getattr(method, "made_of", ()))


def _has_stream(method: type[Fitted]) -> bool:
    parts = (method, *(METHODS[name] for name in getattr(method, "made_of", ())))
    return any(part.stream is not Fitted.stream for part in parts)
