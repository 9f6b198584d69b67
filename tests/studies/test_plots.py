"""Laws of the figures: names can be read and stand by their lines, whatever the lines do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from studies.plots.curves import spread
from studies.plots.figures import COLORS, CONTRAST, DARK, LIGHT, readable


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
