"""All settings that a run depends on, as values: the paper's, the published code's, and the embedded tasks'."""

from studies.recipes.named import MADE_FOR, RECIPES
from studies.recipes.recipe import Recipe

__all__ = ["MADE_FOR", "RECIPES", "Recipe"]
