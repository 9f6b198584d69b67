"""Make the shipped pictograms anew: python studies/smol_world/collect.py FOLDER

FOLDER is the unpacked npm package @lobehub/fluent-emoji-3d, version 1.1.0 (MIT).
"""

from pathlib import Path

import tyro
from PIL import Image

from studies.smol_world.draw import PICTOGRAMS
from studies.smol_world.words import SIGNS

SIDE = 128  # pixels


def main(folder: tyro.conf.Positional[Path], out: Path = PICTOGRAMS) -> int:
    """Cut every picture to what it shows, at most 128 pixels a side; return how many there are."""
    out.mkdir(exist_ok=True)
    for word, sign in SIGNS.items():
        with Image.open(_file(folder / "assets", sign)) as picture:
            whole = picture.convert("RGBA")
        cut = whole.crop(whole.getbbox())
        cut.thumbnail((SIDE, SIDE))
        cut.save(out / f"{word}.webp", quality=85, method=6)
    return len(SIGNS)


def _file(assets: Path, sign: str) -> Path:
    code = f"{ord(sign):04x}"
    found = [assets / name for name in (f"{code}.webp", f"{code}-fe0f.webp") if (assets / name).exists()]
    if not found:
        raise FileNotFoundError(f"{assets} has no picture of {sign} ({code}); it wants the package's folder.")
    return found[0]


if __name__ == "__main__":
    tyro.cli(main)
