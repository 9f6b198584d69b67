"""What methods, settings and numbers are called in tables and figures, and the order and colour of each method.

Sentences need these too, and figures are drawn long after: nothing here imports what draws them.
"""

from collections.abc import Sequence

from more_itertools import unique_everseen

from studies.measure import ALL, GROUP, Record, called, group

# The order in which methods are listed, and Okabe and Ito's colours, which also differ for colour-blind readers.
COLORS = {
    "NoSteering": "#767b82",
    "PromptSteering": "#b58900",
    "NormRnd": "#a3a8ae",
    "MeanSteering": "#56b4e9",
    "MeanSteeringBA": "#0072b2",
    "L2S": "#d55e00",
    "P2S": "#cc79a7",
    "CAST": "#e69f00",
    "ITI": "#7a5195",
    "PAI": "#8c6d31",
    "PAILogits": "#b89b5e",
    "ADHH": "#a63d40",
    "RandomHeads": "#c9a0a1",
    "VCD": "#4b7f52",
    "L2SGated": "#b8632b",
    "L2SLayers": "#e5884d",
    "L2SWithPAI": "#8f3f00",
    "L2SWithADHH": "#f0a36b",
    "LoRA": "#2f6f5e",
    "FullFineTuning": "#17494d",
    "LogitThreshold": "#009e73",
    "ConstantDirection": "#5a9e8a",
    "ThresholdInImage": "#6b8e23",
    "LinearProbe": "#7b61c4",
}
ORACLES = ("P2S",)
CONTROLS = ("LogitThreshold", "ConstantDirection", "RandomHeads")


def listed(records: Sequence[Record]) -> list[Record]:
    """One record of each line of the table (`GROUP`), in the order in which methods are listed."""
    place = {name: index for index, name in enumerate(COLORS)}
    return sorted(unique_everseen(records, key=group), key=lambda record: place.get(record["method"], len(place)))


def label(record: Record, records: Sequence[Record]) -> str:
    """The method's name with its variant, and what tells its settings apart where the records have several."""
    name = called(record)
    settings = {group(other) for other in records if called(other) == name}
    varied = [index for index in range(len(GROUP)) if len({setting[index] for setting in settings}) > 1]
    return " ".join([name, *(f"{GROUP[index]} {group(record)[index]}" for index in varied)])


def subsets(records: Sequence[Record]) -> list[str]:
    """ "all" and then the subsets; "all" alone if it is made of one."""
    names = sorted({record["subset"] for record in records} - {ALL})
    return [ALL, *names] if len(names) != 1 else [ALL]


def number(value: float | None) -> float:
    """A value of a table, where JSON's null stands for nan."""
    return float("nan") if value is None else float(value)


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def words(name: str) -> str:
    return "well formed" if name == "valid" else name.replace("_", " ")
