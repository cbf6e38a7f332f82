"""The pictures that an installed chat page has, drawn from icon.svg: `python scripts/icons.py`, then commit them.

A browser draws them; quantised, they are a few KB each.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent.parent / "g4fsite/static/g4fsite"
CHROMIUM = "/usr/bin/chromium"
GROUND = "#0a6381"
# Name, side in px, how much of it the mark takes, how round the corners are. Masks may cut all but the inner 80 %.
ICONS = (
    ("icon-192", 192, 0.7, 0.22),
    ("icon-512", 512, 0.7, 0.22),
    ("icon-maskable-512", 512, 0.55, 0),
    ("icon-apple-180", 180, 0.64, 0),
)


def drawn(side: int, part: float, corner: float) -> str:
    mark = (FOLDER / "icon.svg").read_text(encoding="utf-8").replace(GROUND, "#ffffff")
    edge, size = (1 - part) * 50, part * 100
    mark = mark.replace("<svg ", f'<svg x="{edge}" y="{edge}" width="{size}" height="{size}" ')
    ground = f'<rect width="100" height="100" rx="{corner * 100}" fill="{GROUND}"/>'
    whole = f'viewBox="0 0 100 100" width="{side}" height="{side}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {whole}>{ground}{mark}</svg>'


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for name, side, part, corner in ICONS:
            page.set_viewport_size({"width": side, "height": side})
            page.set_content(f"<body style=margin:0;line-height:0>{drawn(side, part, corner)}")
            picture = Image.open(io.BytesIO(page.screenshot(omit_background=True)))
            picture.quantize(32, method=Image.Quantize.FASTOCTREE).save(FOLDER / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
