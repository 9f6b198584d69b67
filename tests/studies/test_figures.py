"""Laws of the figures: names can be read and stand by their lines, whatever the lines do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from studies.report.figures.bars import ablation_bars
from studies.report.figures.curves import spread
from studies.report.figures.inputs import projection
from studies.report.figures.style import CONTRAST, DARK, LIGHT, readable
from studies.report.figures.tradeoff import Scale, trade_off
from studies.report.naming import COLORS


def luminance(color: str) -> float:
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("color", COLORS.values())
def test_a_name_in_its_line_s_colour_can_be_read(color, theme):
    dark, light = sorted(map(luminance, (readable(color, theme), theme.paper)))
    assert (light + 0.05) / (dark + 0.05) >= CONTRAST - 0.05  # colours are written in steps of 1/255


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted))
def test_names_stand_apart_inside_the_panel_and_no_shift_of_all_brings_them_nearer(wanted):
    places = spread(wanted, 0.07, 0.0, 1.0)
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9
    assert all(np.diff(places) >= 0.07 - 1e-9)
    if min(places) > 1e-9 and max(places) < 1 - 1e-9:
        assert np.mean(places) == pytest.approx(np.mean(wanted))


def test_names_with_room_stay_where_their_lines_end():
    assert spread([0.1, 0.5, 0.9], 0.07, 0.0, 1.0) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.4, 0.5, 0.6])
    assert spread([0.0] * 5, 0.5, 0.0, 1.0) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


def point(method: str, strength: float | None, effect: float, quality: float) -> dict:
    sides = {"effect": [effect] * 3, "quality": [quality] * 3}
    return {"method": method, "strength": strength, "reads": None, "writes": 3, "n": 10, "seeds": 1} | sides


CLOUD = [
    point("NoSteering", None, 0.5, 0.8),
    *(point("L2S", s, e, q) for s, e, q in ((0.1, 0.6, 0.8), (1.0, 0.9, 0.78), (3.0, 0.2, 0.0))),
    *(point("MeanSteering", s, e, q) for s, e, q in ((0.1, 0.55, 0.9), (1.0, 0.7, 0.4))),
]


def test_settings_that_lose_nothing_have_a_lane_a_method_and_the_others_stand_right_of_them():
    scale = Scale.of(CLOUD)
    assert scale.unsteered == 0.8
    lanes = [scale.of_quality(quality, name) for name in scale.lanes for quality in (0.8, 1.0)]
    assert lanes == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    lossy = [scale.of_quality(quality, "L2S") for quality in (0.79, 0.78, 0.4, 0.0)]
    assert lossy == sorted(lossy)
    assert lossy[0] > len(scale.lanes)
    assert lossy[-1] == scale.width
    places, names = scale.ticks()
    assert places == sorted(places)
    assert names[1:] == ["1%", "3%", "10%", "30%", "100%"]


def test_the_trade_off_writes_strengths_of_marked_settings_and_draws_the_front_over_all_losses():
    figure = trade_off(CLOUD, "accuracy", "valid", least=0.72, chosen=[("L2S", None, 0.1, None, 3)])
    (axis,) = figure.axes
    assert sorted(text.get_text() for text in axis.texts) == ["0.1", "0.1", "1", "1", "3"]
    front = next(line for line in axis.lines if str(line.get_label()).startswith("front"))
    assert list(front.get_ydata()) == [0.6, 0.9, 0.9]
    assert front.get_xdata()[-1] == Scale.of(CLOUD).width


def test_an_ablation_s_figure_tells_the_default_and_what_its_marks_are():
    measured = {"metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "by_seed": [0.5]}
    lines = (("", ""), ("hidden", "4"), ("hidden", "16"), ("pool", "last"), ("reference", "NoSteering"))
    records = [{"factor": factor, "level": level} | measured for factor, level in lines]
    figure = ablation_bars(records, "accuracy", defaults={"hidden": "100"}, caption="n = 9")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == ["default", "hidden: 4 (default: 100)", "hidden: 16", "pool: last", "NoSteering"]
    caption = " ".join(figure.texts[0].get_text().split())
    assert caption.startswith("n = 9; bars are 95% intervals")


def test_marks_on_one_place_are_both_seen_and_both_axes_have_one_scale():
    points, place = np.array([[0.0, 0.0], [40.0, 0.1]]), np.zeros(2)
    marks = [("MeanSteering", place), ("no steering", place)]
    figure = projection([("own", points)], ["a", "b"], (0.998, 0.002), marks)
    axis = figure.axes[0]
    drawn = {str(line.get_label()): line.get_marker() for line in axis.lines}
    assert drawn["MeanSteering"] != drawn["no steering"]
    assert axis.get_aspect() == 1.0
    assert axis.get_ylabel().endswith("under 1%")
