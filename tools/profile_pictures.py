"""Draws the pictures of docs/profiles/: each by the command line that stands below it.

tools/with report -- python tools/profile_pictures.py [PAGE …]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COMMAND = re.compile(r"^\$ bentpipe (.* --plot (docs/pictures/\S+\.png))$", re.MULTILINE)
COLOURS = 128  # few enough for a third of the bytes, enough for the shades


def draw(page: Path) -> None:
    """The pictures of a page, with a palette: they are lines and letters."""
    from PIL import Image

    for words, name in COMMAND.findall(page.read_text(encoding="utf-8")):
        command = [sys.executable, "-m", "emulator.cli.main", *words.split(), "--output", "/dev/null"]
        subprocess.run(command, cwd=CHECKOUT, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        picture = CHECKOUT / name
        Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
        print(f"{name}: {picture.stat().st_size // 1000} kB")


if __name__ == "__main__":
    for page in [Path(name) for name in sys.argv[1:]] or sorted(CHECKOUT.glob("docs/profiles/*.md")):
        draw(page)
