"""What `fit` may be told, and what follows from it: recipe, grid, and the study's own arguments."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from interv import VLM
from methods.contrasts.capture import Pool
from studies.fit.fitting import METHODS
from studies.fit.method_traits import adds, needs_vectors
from studies.fit.selection import BUDGET, Grid
from studies.recipes import Recipe
from studies.run.arguments import Common, check_arguments, check_blocks, known
from studies.run.checkpoint import Checkpoint
from studies.run.cost import BatchSize

BASELINES = ("NoSteering", "PromptSteering", "MeanSteering")  # what every method is held against


@dataclass(frozen=True, kw_only=True)
class FitArguments(Checkpoint):
    """Fit a steerer to a file of examples."""

    data: Annotated[str, tyro.conf.Positional]  # .jsonl, .json, .csv, .tsv or .parquet, or owner/name of a data set
    out: Path  # the folder that is made: the steerer, its card, and in work/ all that it came from
    method: str = "L2S"  # by its class: L2S, MeanSteering, CAST, ITI, ...
    prompt: str = "Look at the image carefully before you answer."  # the words of the prompt baseline
    pool: Pool = "mean"  # which tokens of an answer make its activation: "mean" over them, or the "last"
    split: tuple[int, int, int] = (60, 20, 20)  # parts of the images that train, choose and judge
    neutral: str | None = None  # a file of image and question that steering should leave alone; our own two by default
    writes: tuple[int, ...] = ()  # decoder blocks that may be steered; the two about the middle by default
    reads: tuple[
        int, ...
    ] = ()  # decoder blocks whose last prompt token may be read; the middle and the last by default
    strength: tuple[float, ...] = ()  # strengths to choose from
    budget: float = BUDGET  # the share of quality that steering may cost
    share: float = 0.2  # of a grid search's cost that the choice may take
    max_new_tokens: int = 64  # the longest reply
    batch_size: BatchSize = 64  # replies decoded at once; "auto" halves it for as long as memory runs out
    seed: int = 0  # of the split, the fit and the search

    def check(self) -> None:
        """Raises ValueError for what cannot be run."""
        check_arguments(replace(self, split=(3, 2, 1)))  # of the split, parts may be equal
        method = known(self.method, METHODS, "method")
        if needs_vectors(method):
            raise ValueError(f"{self.method} is the oracle, which is told the answers; choose a method that learns.")
        if not adds(method):
            raise ValueError(f"{self.method} fits nothing; it is in every card beside the method that is fitted.")
        if sum(self.split) <= 0 or min(self.split) <= 0:
            raise ValueError(f"--split is {self.split}; give three parts above 0, such as 60 20 20.")

    def recipe(self) -> Recipe:
        return Recipe(
            "own",
            Path(self.data).name,
            self.model,
            pool=self.pool,
            split=self.split,
            split_seed=self.seed,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            prompt_suffix=self.prompt,
            max_pixels=self.max_pixels,
            min_pixels=self.min_pixels,
        )

    def grid(self, vlm: VLM) -> Grid:
        """The layers and strengths to choose from. Raises ValueError for a block that is not there."""
        check_blocks(vlm, self.writes, self.reads)
        usual = Grid.of(self.recipe(), vlm.n_layers, self.strength)
        return Grid(
            tuple(sorted(self.writes)) or usual.writes, tuple(sorted(self.reads)) or usual.reads, usual.strengths
        )

    def common(self) -> Common:
        """The arguments of the study that runs inside."""
        same: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(Checkpoint)}
        return Common(
            **same,
            task="own",
            out=self.out / "work",
            seed=self.seed,
            batch_size=self.batch_size,
            strength=self.strength,
        )
