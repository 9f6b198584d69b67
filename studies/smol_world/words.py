"""The things that scenes show: a word, its theme, and how common it is within it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COMMON = 16  # how many of the most common things a question about a popular thing chooses from
DECAY = 0.5  # the thing at place i of its theme is drawn with a weight of 1 / (1 + DECAY * i)

# Every theme from its most common thing to its rarest.
_PICTOGRAMS = {
    "wild": "🐻bear 🦊fox 🦁lion 🐅tiger 🐘elephant 🦒giraffe 🦓zebra 🦍gorilla 🦛hippopotamus 🐨koala 🐪camel 🦌deer "
    "🦫beaver 🦡badger 🦔hedgehog 🦦otter 🦬bison",
    "farm": "🐄cow 🐖pig 🐎horse 🐐goat 🐏ram 🫏donkey 🐔chicken 🦆duck 🦃turkey 🐇rabbit 🐕dog 🐈cat 🐁mouse 🐀rat "
    "🚜tractor",
    "sea": "🐋whale 🐬dolphin 🦐shrimp 🦀crab 🐙octopus 🐧penguin 🐟fish ⛵sailboat ⚓anchor",
    "food": "🍌banana 🥕carrot 🍆eggplant 🥭mango 🍄mushroom 🧅onion 🍍pineapple 🍓strawberry 🍋lemon 🍕pizza "
    "🍔hamburger 🫖teapot 🥄spoon 🍪cookie",
    "garden": "🦋butterfly 🐌snail 🦉owl 🐸frog 🌹rose 🌺hibiscus 🌻sunflower 🌵cactus 🦇bat",
    "things": "🔨hammer 🔧wrench 🔑key 🧰toolbox 🪜ladder 💉syringe 📷camera 💻laptop 🎒backpack 🧣scarf 👑crown "
    "🪑chair",
    "play": "🎻violin 🎺trumpet 🎸guitar 🥁drum 🏀basketball 🎈balloon 🪁kite 🏆trophy",
    "road": "🚌bus 🚲bicycle 🚑ambulance 🚕taxi 🚁helicopter 🚀rocket 🚂locomotive",
}
SIGNS = {entry[1:]: entry[0] for row in _PICTOGRAMS.values() for entry in row.split()}  # word -> Unicode character


@dataclass(frozen=True)
class Things:
    """Words by theme, the most common first; `popularity` is each word's chance within its theme."""

    themes: dict[str, tuple[str, ...]]
    theme_of: dict[str, str]
    popularity: dict[str, float]

    @classmethod
    def of(cls, themes: Mapping[str, Sequence[str]]) -> "Things":
        popularity: dict[str, float] = {}
        for members in themes.values():
            weights = [1 / (1 + DECAY * place) for place in range(len(members))]
            popularity |= {word: weight / sum(weights) for word, weight in zip(members, weights, strict=True)}
        theme_of = {word: theme for theme, members in themes.items() for word in members}
        return cls({theme: tuple(members) for theme, members in themes.items()}, theme_of, popularity)

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(sorted(self.theme_of))

    @property
    def popular(self) -> tuple[str, ...]:
        """The most common of all, of every theme alike."""
        return tuple(sorted(self.words, key=lambda word: -self.popularity[word])[:COMMON])


THINGS = Things.of({theme: [entry[1:] for entry in row.split()] for theme, row in _PICTOGRAMS.items()})
