"""The report page of a run: curves, metrics by type, a sheet of examples, in one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from clip_core.images import ImageTransform, open_image
from clip_core.log import CURVES_NAME
from envs.files import replacing
from precompute.image_folder import find_images
from vl_tasks.data import ImageKeys
from vl_tasks.overlay import heat_overlay, seen_part

REPORT_NAME, TABLE_NAME = "report.html", "table.json"
THUMBNAIL_PX = 320
Verdict = Literal["right", "partly", "wrong", ""]
VERDICTS = "A green edge: right; yellow: partly right; red: wrong."
LOOKED = "The second picture tells where the model looked, from blue (least) to red (most)."


@dataclass(frozen=True)
class Example:
    """One card of the sheet. `lines`: label and text, e.g. ("question", "Is there a sofa?"); `heat`: what the model
    looked at, a map [h, w] over the image, which is shown again under it; `fitted`: how the image was fitted to the
    encoder, None for the whole image; `verdict` colours the card's edge."""

    image: Image.Image | None
    lines: Sequence[tuple[str, str]]
    verdict: Verdict = ""
    heat: np.ndarray | None = None
    fitted: ImageTransform | None = None


@dataclass(frozen=True)
class Bars:
    """Fractions by name, drawn as bars into FILE.png; `counts`: how many items are behind each; `beside`: the same of a
    baseline, drawn as marks."""

    title: str
    file: str
    values: Mapping[str, float]
    counts: Mapping[str, int] | None = None
    beside: Mapping[str, float] | None = None
    beside_name: str = "baseline"


def write_report(
    out: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    bars: Sequence[Bars],
    examples: Sequence[Example],
    verdicts: str = VERDICTS,
) -> Path:
    """Writes report.html, and a PNG of each group of bars, into a run folder; curves.png is taken in if it is there.

    facts: name and value of what one wants to know first, the headline metric in front; verdicts: what the colours of
    the examples mean.
    """
    pictures = {group.file: draw_bars(group) for group in bars if group.values}
    for name, data in pictures.items():
        with replacing(out / f"{name}.png") as file:
            file.write(data)
    curves = out / CURVES_NAME
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(facts)]
    charts = [_chart(group.title, pictures[group.file]) for group in bars if group.file in pictures]
    parts.append(f'<div class="charts">{"".join(charts)}</div>')
    if curves.exists():
        parts.append(_chart("Learning curves", curves.read_bytes()))
    if examples:
        legend = html.escape(f"{verdicts} {LOOKED}" if any(e.heat is not None for e in examples) else verdicts)
        cards = "".join(map(_card, examples))
        sheet = f'<p class="legend">{legend}</p><div class="sheet">{cards}</div>'
        parts.append(f"<section><h2>Examples, drawn at random</h2>{sheet}</section>")
    page = _PAGE.replace("{title}", html.escape(title)).replace("{body}", "\n".join(parts))
    with replacing(out / REPORT_NAME) as file:
        file.write(page.encode())
    return out / REPORT_NAME


def write_table(out: Path, table: Mapping[str, Any]) -> None:
    """Writes what a run scores into table.json of its folder: fractions by names, however deep."""
    with replacing(out / TABLE_NAME) as file:
        file.write((json.dumps(table, indent=1) + "\n").encode())


def example_images(folder: Path | None, names: Sequence[tuple[str, ...]]) -> list[Image.Image | None]:
    """The images of a folder by their names, None for one that is not there."""
    if folder is None:
        return [None] * len(names)
    files = find_images(folder)
    keys = ImageKeys(files, str(folder))
    found = [keys.find(one) for one in names]
    return [None if key is None else open_image(files[key], upright=True) for key in found]


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<div class="fact"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>' for name, value in facts
    )
    return f'<div class="facts">{cells}</div>'


def _chart(title: str, png: bytes) -> str:
    image = f'<img class="wide" alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f"<section><h2>{html.escape(title)}</h2>{image}</section>"


def _card(example: Example) -> str:
    shown = [] if example.image is None else [example.image]
    if example.image is not None and example.heat is not None and example.heat.size > 1:
        whole, fitted = example.image, example.fitted
        shown.append(heat_overlay(whole if fitted is None else seen_part(whole, fitted), example.heat))
    images = "".join(f'<img alt="" src="{_thumbnail(image)}">' for image in shown)
    lines = "".join(
        f"<dt>{html.escape(label)}</dt><dd>{html.escape(text) or '–'}</dd>" for label, text in example.lines
    )
    return f'<div class="card {example.verdict}"><div class="pair">{images}</div><dl>{lines}</dl></div>'


def _thumbnail(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def draw_bars(bars: Bars) -> bytes:
    """A PNG of horizontal bars in percent, the first name on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, needed once a run
    from matplotlib.figure import Figure

    names = list(bars.values)
    figure = Figure(figsize=(8, 0.6 + 0.28 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(names))
    values = [100 * bars.values[name] for name in names]
    axes.barh(places, values, height=0.7, color="#4878a8")
    if bars.beside:
        known = [(place, 100 * bars.beside[name]) for place, name in enumerate(names) if name in bars.beside]
        axes.scatter([v for _, v in known], [p for p, _ in known], color="#c0392b", marker="|", s=160, linewidths=2,
                     zorder=3, label=bars.beside_name)  # fmt: skip
        axes.legend(fontsize=8, loc="lower right")
    for place, value in zip(places, values, strict=True):
        axes.text(value + 1, place, f"{value:.1f}", va="center", fontsize=8)
    labels = [f"{name} ({bars.counts[name]:,})" if bars.counts and name in bars.counts else name for name in names]
    axes.set_yticks(list(places), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(108.0, 1.1 * max(values)))  # CIDEr passes 100 %
    axes.set_xlabel("%", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #f4f5f7; margin: 0 auto; max-width: 1280px;
  padding: 24px; }
h1 { font-size: 24px; } h2 { font-size: 17px; margin: 0 0 12px; }
section { background: white; border-radius: 10px; padding: 18px; margin: 18px 0; box-shadow: 0 1px 3px #0002; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; }
.fact { background: white; border-radius: 10px; padding: 12px 18px; box-shadow: 0 1px 3px #0002; }
.fact b { display: block; font-size: 20px; } .fact span { color: #666; font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 18px;
  margin: 18px 0; }
.charts section { margin: 0; }
.wide { display: block; max-width: 100%; margin: auto; }
.legend { color: #666; margin: -6px 0 12px; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); gap: 14px; }
.card { border: 1px solid #ddd; border-left: 6px solid #bbb; border-radius: 8px; padding: 10px; overflow: hidden; }
.card.right { border-left-color: #2e9e5b; } .card.partly { border-left-color: #e0a526; }
.card.wrong { border-left-color: #c0392b; }
.pair { display: flex; gap: 4px; } .pair img { flex: 1; min-width: 0; max-width: 100%; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 10px; margin: 8px 0 0; line-height: 1.3; }
dt { color: #777; } dd { margin: 0; font-weight: 500; }
</style></head><body>
{body}
</body></html>
"""
