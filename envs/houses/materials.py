"""Colours, materials, textures of surfaces."""

from __future__ import annotations

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.74, 0.12, 0.11),
    "blue": (0.13, 0.27, 0.68),
    "green": (0.16, 0.49, 0.20),
    "yellow": (0.90, 0.76, 0.16),
    "orange": (0.88, 0.45, 0.09),
    "purple": (0.44, 0.19, 0.56),
    "pink": (0.91, 0.53, 0.65),
    "brown": (0.40, 0.24, 0.12),
    "black": (0.09, 0.09, 0.10),
    "white": (0.92, 0.91, 0.89),
    "gray": (0.50, 0.51, 0.53),
}
"""Colour names of objects with their albedo, linear fractions of 1 for R, G, B."""

TEXTURES = (
    "plain", "wood", "planks", "tiles", "carpet", "stripes", "brick", "fabric", "metal", "marble",
    "leather", "window", "picture", "screen", "books", "glow", "foliage", "mirror",
)  # fmt: skip
TEXTURE = {name: i for i, name in enumerate(TEXTURES)}
"""Texture name -> number that the ray caster branches on."""

MATERIAL_TEXTURE = {
    "wood": "wood",
    "metal": "metal",
    "fabric": "fabric",
    "leather": "leather",
    "plastic": "plain",
    "glass": "plain",
    "stone": "marble",
    "ceramic": "plain",
}
"""Material of an object -> the texture of its main parts."""

WALLS = (
    ("plain", (0.86, 0.83, 0.76)),
    ("plain", (0.74, 0.82, 0.84)),
    ("plain", (0.80, 0.85, 0.74)),
    ("plain", (0.88, 0.76, 0.70)),
    ("plain", (0.72, 0.72, 0.80)),
    ("plain", (0.90, 0.89, 0.86)),
    ("stripes", (0.86, 0.80, 0.66)),
    ("stripes", (0.70, 0.78, 0.72)),
    ("stripes", (0.78, 0.70, 0.74)),
    ("brick", (0.66, 0.38, 0.30)),
)
"""Texture and albedo of walls."""

TILED_WALLS = (("tiles", (0.86, 0.90, 0.91)), ("tiles", (0.74, 0.84, 0.88)), ("tiles", (0.88, 0.86, 0.80)))
"""Walls of bathrooms."""

FLOORS = {
    "wood": (("planks", (0.58, 0.40, 0.24)), ("planks", (0.44, 0.28, 0.16)), ("planks", (0.70, 0.55, 0.38))),
    "tiles": (("tiles", (0.78, 0.76, 0.72)), ("tiles", (0.62, 0.60, 0.58)), ("marble", (0.82, 0.80, 0.78))),
    "carpet": (("carpet", (0.62, 0.56, 0.48)), ("carpet", (0.46, 0.50, 0.58)), ("carpet", (0.60, 0.44, 0.42))),
}
"""Texture and albedo of floors by kind."""
