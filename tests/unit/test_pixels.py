"""The pixels that a model is shown: transparency, grey levels of more than eight bits, rows of data sets."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interv import Prompt

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def shown(image: Any) -> np.ndarray:
    return np.asarray(Prompt(image, "what?").images()[0]).astype(int)


def logo(mode: str) -> Image.Image:
    """A black square in the middle of nothing."""
    image = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (3, 3, 6, 6))
    if mode == "P":
        paletted = Image.new("P", (9, 9), 1)
        paletted.putpalette([0, 0, 0, 0, 0, 0])
        paletted.paste(0, (3, 3, 6, 6))
        paletted.info["transparency"] = 1
        return paletted
    if mode in ("L", "RGB"):
        plain = Image.new(mode, (9, 9), 7 if mode == "L" else (7, 7, 7))
        plain.paste(0, (3, 3, 6, 6))
        plain.info["transparency"] = 7 if mode == "L" else (7, 7, 7)
        return plain
    return image.convert("LA").convert("La") if mode == "La" else image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "saved"),
    [
        *((mode, "no") for mode in ("RGBA", "LA", "P", "PA", "La", "RGBa", "L", "RGB")),
        *((mode, "png") for mode in ("RGBA", "LA", "P", "L", "RGB")),
        ("P", "gif"),
        ("RGBA", "webp"),
    ],
)
def test_what_is_transparent_lies_on_white(mode: str, saved: str, tmp_path: Path) -> None:
    image: Any = logo(mode)
    if saved != "no":
        path = tmp_path / f"logo.{saved}"
        image.save(path, **({"lossless": True, "exact": True} if saved == "webp" else {}))
        image = path
    pixels = shown(image)
    assert pixels[4, 4].tolist() == [0, 0, 0]
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_half_transparent_pixels_are_half_white_and_opaque_ones_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    assert (shown(Image.fromarray(pixels)) == pixels[..., :3]).all()
    pixels[..., 3] = 128
    np.testing.assert_allclose(shown(Image.fromarray(pixels)), pixels[..., :3] * (128 / 255) + 127, atol=1)


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (RAMP.astype(np.float32), 1.0),
        ((RAMP * 255).astype(np.float32), 255.0),
        ((RAMP * 65535).astype(np.float32), 65535.0),
        (np.round(RAMP * 255).astype(np.int32), 255.0),
        (np.round(RAMP * 65535).astype(np.int32), 65535.0),
        (np.round(RAMP * (2**31 - 1)).astype(np.int32), 2.0**31 - 1),
        (np.round(RAMP * 65535).astype(np.uint16), 65535.0),
        (np.round(RAMP * 4095).astype(np.uint16), 65535.0),
    ],
    ids=lambda value: f"{value.dtype} to {value.max():.0f}" if isinstance(value, np.ndarray) else "",
)
@pytest.mark.parametrize("saved", [False, True])
def test_grey_levels_are_scaled(values: np.ndarray, white: float, saved: bool, tmp_path: Path) -> None:
    image: Any = Image.fromarray(values)
    if saved:
        image.save(tmp_path / "grey.tiff")
        image = tmp_path / "grey.tiff"
    np.testing.assert_allclose(shown(image)[..., 0], values * (255 / white), atol=0.51)


@pytest.mark.parametrize(
    "values",
    [
        (RAMP - 0.5).astype(np.float32),
        (RAMP * 3).astype(np.float32),
        (RAMP * 1e9).astype(np.float32),
        np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32),
        np.where(RAMP > 0.5, np.inf, RAMP).astype(np.float32),
        np.round(RAMP * 2000).astype(np.int32),
        np.round(RAMP * 1000000).astype(np.int32),
        np.round(RAMP * -255).astype(np.int32),
    ],
    ids=lambda values: f"{values.dtype} {values.min():.1f} to {values.max():.1f}",
)
def test_a_range_that_does_not_tell_what_is_white_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"values reach from .* to .*; scale them to 0\.\.255"):
        shown(Image.fromarray(values))


def test_a_row_of_a_data_set_is_an_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    rows = [
        {"bytes": stream.getvalue(), "path": "somewhere.png"},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": stream.getvalue()},
    ]
    for row in rows:
        assert (shown(row) == pixels).all()
    assert len(Prompt(rows, "what?").images()) == 3
    assert len(Prompt(rows[0], "what?").messages()[0]["content"]) == 2


@pytest.mark.parametrize("row", [{"bytes": b"no image", "path": None}, {"bytes": None, "path": None}])
def test_a_row_without_an_image_is_told_so(row: dict) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Prompt(row, "what?").images()
