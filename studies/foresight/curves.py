"""How well the probe does at each block, and with fewer training questions."""

import numpy as np

from studies.foresight.forecast import share_of
from studies.foresight.probe import chosen_probe
from studies.foresight.readings import Readings
from studies.foresight.ways import as_words, right
from studies.measure.fidelity import averaged
from studies.measure.metric import Record
from studies.measure.threshold import best_threshold

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the training images
DRAWS = 5
FEWEST = 4  # images that a probe is fitted on


def by_block(train: Readings, validation: Readings, judged: Readings) -> list[Record]:
    """The probe of each block that was read, its penalty chosen on validation: {reads, value, low, high, n, units}."""
    records = []
    for layer in train.layers:
        probe = chosen_probe(train, validation, [layer])
        share = share_of(right(as_words(probe.says_yes(judged)), judged), judged)
        records.append({"reads": layer, "penalty": probe.penalty} | vars(share))
    return records


def over_questions(
    train: Readings, validation: Readings, judged: Readings, layer: int, *, draws: int = DRAWS, seed: int = 0
) -> list[Record]:
    """Probe and threshold fitted on a share of the training images: {way, questions, value, low, high, ...}.

    Each share is drawn several times; intervals cover the draws as well as the judged images. `questions` is their mean
    number. Shares of fewer images than `FEWEST`, and draws with one answer alone, are left out.
    """
    generator = np.random.default_rng(seed)
    names = np.array(sorted(set(train.units)))
    place = {unit: number for number, unit in enumerate(names)}
    home = np.array([place[unit] for unit in train.units])
    orders = [generator.permutation(len(names)) for _ in range(draws)]
    records: list[Record] = []
    for count in dict.fromkeys(round(share * len(names)) for share in SHARES):
        if count < FEWEST:
            continue
        chosen = orders if count < len(names) else orders[:1]
        parts = [train.rows(np.flatnonzero(np.isin(home, order[:count])).tolist()) for order in chosen]
        parts = [part for part in parts if len(set(part.yes.tolist())) == 2]
        if not parts:
            continue
        said = {
            "probe": [as_words(chosen_probe(part, validation, [layer]).says_yes(judged)) for part in parts],
            "threshold": [as_words(judged.margins > best_threshold(part.margins, part.yes)) for part in parts],
        }
        questions = float(np.mean([len(part) for part in parts]))
        for way, answers in said.items():
            rights = np.stack([right(own, judged) for own in answers])
            records.append({"way": way, "questions": questions} | averaged(rights, judged.units))
    return records
