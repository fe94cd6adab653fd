"""Furniture as templates: sizes, colours, materials, the solids that a piece is built of.

A part is (solid, x0, y0, z0, x1, y1, z1, role): corners as fractions of the piece's width (along its wall), depth (0 at
the front, 1 at the back) and height; solids: "b" box, "c" upright cylinder, "e" ellipsoid.
"""

from __future__ import annotations

from dataclasses import dataclass

Part = tuple[str, float, float, float, float, float, float, str]
Span = tuple[float, float]

WARM = ("brown", "white", "black")
VIVID = ("red", "blue", "green", "yellow", "orange", "purple", "pink")
SOFT = (*VIVID, "gray", "white", "brown", "black")
METAL = ("white", "gray", "black", "red")


@dataclass(frozen=True)
class Template:
    """A category of objects.

    place: "wall" (back against a wall), "middle", "corner", "hang" (flat on a wall, bottom at `base_m`), "flat" (lies
    on the floor, no obstacle). Spans of width, depth, height in metres. `parts` with roles: main, dark, pale, steel,
    black, white, leaf, glow, screen, picture, window, mirror, books, cloth.
    """

    place: str
    width_m: Span
    depth_m: Span
    height_m: Span
    colours: tuple[str, ...]
    materials: tuple[str, ...]
    parts: tuple[Part, ...]
    base_m: float = 0.0


def _legs(height: float, inset: float = 0.0, thick_x: float = 0.08, thick_y: float = 0.08) -> tuple[Part, ...]:
    a, b = inset, 1.0 - inset
    return (
        ("b", a, a, 0, a + thick_x, a + thick_y, height, "dark"),
        ("b", b - thick_x, a, 0, b, a + thick_y, height, "dark"),
        ("b", a, b - thick_y, 0, a + thick_x, b, height, "dark"),
        ("b", b - thick_x, b - thick_y, 0, b, b, height, "dark"),
    )  # fmt: skip


def _shelves(role: str) -> tuple[Part, ...]:
    boards: tuple[Part, ...] = tuple(
        ("b", 0.0, 0.0, z, 1.0, 1.0, z + 0.025, "main") for z in (0, 0.24, 0.48, 0.72, 0.97)
    )
    books: tuple[Part, ...] = tuple(
        ("b", 0.06, 0.25, z + 0.025, right, 0.95, z + 0.19, role)
        for z, right in ((0, 0.9), (0.24, 0.7), (0.48, 0.94), (0.72, 0.6))
    )
    sides: tuple[Part, ...] = (
        ("b", 0, 0, 0, 0.04, 1, 1, "main"), ("b", 0.96, 0, 0, 1, 1, 1, "main"), ("b", 0, 0.95, 0, 1, 1, 1, "dark"),
    )  # fmt: skip
    return (*sides, *boards, *books)


SEAT: tuple[Part, ...] = (
    ("b", 0, 0.05, 0.12, 1, 1, 0.48, "main"), ("b", 0, 0.72, 0.48, 1, 1, 1, "main"),
    ("b", 0, 0, 0.08, 0.13, 1, 0.70, "main"), ("b", 0.87, 0, 0.08, 1, 1, 0.70, "main"),
    ("b", 0.05, 0.1, 0, 0.95, 0.95, 0.12, "black"), ("b", 0.15, 0.03, 0.48, 0.49, 0.72, 0.57, "pale"),
    ("b", 0.51, 0.03, 0.48, 0.85, 0.72, 0.57, "pale"),
)  # fmt: skip
TABLE: tuple[Part, ...] = (("b", 0, 0, 0.93, 1, 1, 1, "main"), *_legs(0.93, 0.04, 0.06, 0.08))
CHEST: tuple[Part, ...] = (
    ("b", 0, 0.04, 0, 1, 1, 1, "main"), ("b", 0.05, 0, 0.08, 0.48, 0.05, 0.46, "pale"),
    ("b", 0.52, 0, 0.08, 0.95, 0.05, 0.46, "pale"), ("b", 0.05, 0, 0.54, 0.48, 0.05, 0.92, "pale"),
    ("b", 0.52, 0, 0.54, 0.95, 0.05, 0.92, "pale"),
)  # fmt: skip
TWO_DOORS: tuple[Part, ...] = (
    ("b", 0, 0.04, 0, 1, 1, 1, "main"), ("b", 0.03, 0, 0.05, 0.485, 0.05, 0.97, "pale"),
    ("b", 0.515, 0, 0.05, 0.97, 0.05, 0.97, "pale"), ("b", 0.43, -0.03, 0.45, 0.46, 0.02, 0.6, "steel"),
    ("b", 0.54, -0.03, 0.45, 0.57, 0.02, 0.6, "steel"),
)  # fmt: skip
FRAME: tuple[Part, ...] = (("b", 0, 0.3, 0, 1, 1, 1, "main"),)

CATALOG: dict[str, Template] = {
    "sofa": Template("wall", (1.8, 2.3), (0.85, 0.95), (0.78, 0.9), SOFT, ("fabric", "leather"), SEAT),
    "armchair": Template("corner", (0.8, 0.9), (0.8, 0.9), (0.85, 0.95), SOFT, ("fabric", "leather"), SEAT),
    "coffee table": Template("middle", (0.9, 1.2), (0.5, 0.65), (0.4, 0.45), WARM, ("wood", "stone"), TABLE),
    "television": Template("wall", (1.2, 1.6), (0.4, 0.45), (1.2, 1.35), ("black", "brown", "white"), ("wood",), (
        ("b", 0, 0, 0, 1, 1, 0.38, "main"), ("b", 0.4, 0.5, 0.38, 0.6, 0.7, 0.45, "black"),
        ("b", 0.08, 0.5, 0.43, 0.92, 0.62, 1, "black"), ("b", 0.1, 0.48, 0.46, 0.9, 0.5, 0.98, "screen"),
    )),
    "fireplace": Template("wall", (1.4, 1.7), (0.35, 0.45), (1.2, 1.35), ("white", "gray", "brown"), ("stone",), (
        ("b", 0, 0, 0, 0.22, 1, 0.9, "main"), ("b", 0.78, 0, 0, 1, 1, 0.9, "main"),
        ("b", 0, 0, 0.65, 1, 1, 0.9, "main"),
        ("b", -0.04, -0.15, 0.9, 1.04, 1, 1, "pale"), ("b", 0.22, 0.7, 0, 0.78, 1, 0.65, "black"),
        ("b", 0.35, 0.3, 0, 0.65, 0.6, 0.18, "glow"),
    )),
    "bookshelf": Template("wall", (0.9, 1.3), (0.3, 0.36), (1.8, 2.1), WARM, ("wood",), _shelves("books")),
    "piano": Template("wall", (1.4, 1.5), (0.6, 0.65), (1.15, 1.25), ("black", "brown", "white"), ("wood",), (
        ("b", 0, 0.5, 0, 1, 1, 1, "main"), ("b", 0, 0, 0.5, 1, 0.5, 0.62, "main"),
        ("b", 0.06, 0.04, 0.62, 0.94, 0.4, 0.65, "white"), ("b", 0, 0, 0, 0.07, 0.12, 0.5, "dark"),
        ("b", 0.93, 0, 0, 1, 0.12, 0.5, "dark"),
    )),
    "plant": Template("corner", (0.45, 0.6), (0.45, 0.6), (1.0, 1.6), ("green",), ("plastic",), (
        ("c", 0.22, 0.22, 0, 0.78, 0.78, 0.28, "pot"), ("c", 0.46, 0.46, 0.28, 0.54, 0.54, 0.55, "brown"),
        ("e", 0, 0.05, 0.4, 0.9, 0.95, 0.85, "leaf"), ("e", 0.2, 0.15, 0.62, 1, 0.85, 1, "leaf"),
    )),
    "floor lamp": Template("corner", (0.4, 0.45), (0.4, 0.45), (1.5, 1.7), SOFT, ("metal",), (
        ("c", 0.2, 0.2, 0, 0.8, 0.8, 0.03, "black"), ("c", 0.46, 0.46, 0, 0.54, 0.54, 0.8, "black"),
        ("c", 0, 0, 0.74, 1, 1, 1, "lampshade"),
    )),
    "rug": Template("flat", (1.3, 2.2), (1.0, 1.6), (0.015, 0.02), VIVID, ("fabric",), (
        ("b", 0, 0, 0, 1, 1, 0.7, "dark"), ("b", 0.08, 0.1, 0, 0.92, 0.9, 1, "main"),
    )),
    "refrigerator": Template("wall", (0.7, 0.85), (0.65, 0.7), (1.7, 1.9), METAL, ("metal",), (
        ("b", 0, 0.08, 0, 1, 1, 1, "main"), ("b", 0.01, 0, 0.03, 0.99, 0.08, 0.62, "main"),
        ("b", 0.01, 0, 0.65, 0.99, 0.08, 0.99, "main"), ("b", 0.88, -0.06, 0.35, 0.93, 0, 0.58, "black"),
        ("b", 0.88, -0.06, 0.68, 0.93, 0, 0.85, "black"),
    )),
    "stove": Template("wall", (0.6, 0.7), (0.6, 0.65), (0.9, 0.95), METAL, ("metal",), (
        ("b", 0, 0.05, 0, 1, 1, 0.94, "main"), ("b", 0, 0, 0.94, 1, 1, 1, "black"),
        ("b", 0.1, 0, 0.2, 0.9, 0.05, 0.68, "black"),
        ("b", 0.1, -0.04, 0.72, 0.9, 0.02, 0.76, "steel"), ("c", 0.1, 0.12, 1, 0.42, 0.45, 1.02, "steel"),
        ("c", 0.58, 0.12, 1, 0.9, 0.45, 1.02, "steel"), ("c", 0.1, 0.55, 1, 0.42, 0.88, 1.02, "steel"),
        ("c", 0.58, 0.55, 1, 0.9, 0.88, 1.02, "steel"),
    )),
    "sink": Template("wall", (0.7, 0.9), (0.5, 0.58), (0.88, 0.92), ("white", "gray", "brown", "black"), ("ceramic",), (
        ("b", 0, 0.06, 0, 1, 1, 0.86, "main"), ("b", -0.02, 0, 0.86, 1.02, 1, 0.96, "white"),
        ("c", 0.2, 0.15, 0.96, 0.8, 0.75, 1.0, "steel"), ("c", 0.47, 0.8, 0.96, 0.53, 0.88, 1.25, "steel"),
        ("b", 0.48, 0.5, 1.2, 0.52, 0.86, 1.25, "steel"),
    )),
    "counter": Template("wall", (1.2, 1.8), (0.55, 0.62), (0.9, 0.93), ("white", "brown", "gray", "blue", "green"),
        ("wood",), (
        ("b", 0, 0.06, 0.1, 1, 1, 0.94, "main"), ("b", 0.02, 0.12, 0, 0.98, 1, 0.1, "black"),
        ("b", -0.01, 0, 0.94, 1.01, 1, 1, "black"), ("b", 0.03, 0.03, 0.14, 0.32, 0.07, 0.9, "pale"),
        ("b", 0.35, 0.03, 0.14, 0.65, 0.07, 0.9, "pale"), ("b", 0.68, 0.03, 0.14, 0.97, 0.07, 0.9, "pale"),
    )),
    "table": Template("middle", (1.2, 1.6), (0.8, 0.95), (0.73, 0.78), WARM, ("wood", "stone"), TABLE),
    "chair": Template("seat", (0.42, 0.48), (0.44, 0.5), (0.88, 0.98), SOFT, ("wood", "plastic"), (
        *_legs(0.46, 0.02, 0.1, 0.1), ("b", 0, 0, 0.46, 1, 1, 0.52, "main"), ("b", 0, 0.9, 0.52, 1, 1, 1, "main"),
    )),
    "cabinet": Template("wall", (0.9, 1.3), (0.4, 0.48), (1.1, 1.7), SOFT, ("wood",), TWO_DOORS),
    "bed": Template("wall", (1.4, 1.7), (2.0, 2.1), (0.95, 1.1), SOFT, ("fabric",), (
        ("b", 0, 0.95, 0, 1, 1, 1, "brown"), ("b", 0, 0, 0.08, 1, 0.95, 0.28, "brown"),
        ("b", 0.02, 0.01, 0.28, 0.98, 0.95, 0.46, "white"),
        ("b", 0, 0, 0.22, 1, 0.68, 0.5, "main"), ("b", 0.08, 0.72, 0.46, 0.46, 0.92, 0.58, "white"),
        ("b", 0.54, 0.72, 0.46, 0.92, 0.92, 0.58, "white"),
    )),
    "wardrobe": Template("wall", (1.1, 1.6), (0.55, 0.62), (1.9, 2.15), WARM, ("wood",), TWO_DOORS),
    "nightstand": Template("wall", (0.42, 0.5), (0.38, 0.42), (0.85, 0.95), SOFT, ("wood",), (
        ("b", 0, 0.04, 0, 1, 1, 0.56, "main"), ("b", 0.06, 0, 0.08, 0.94, 0.05, 0.28, "pale"),
        ("b", 0.06, 0, 0.32, 0.94, 0.05, 0.52, "pale"), ("c", 0.42, 0.42, 0.56, 0.58, 0.58, 0.78, "steel"),
        ("c", 0.2, 0.2, 0.72, 0.8, 0.8, 1, "glow"),
    )),
    "dresser": Template("wall", (1.0, 1.3), (0.45, 0.5), (0.85, 1.0), SOFT, ("wood",), CHEST),
    "bathtub": Template("wall", (1.5, 1.7), (0.72, 0.8), (0.55, 0.6), ("white", "pink", "blue", "green"),
        ("ceramic",), (
        ("b", 0, 0, 0, 1, 0.1, 1, "main"), ("b", 0, 0.9, 0, 1, 1, 1, "main"), ("b", 0, 0, 0, 0.06, 1, 1, "main"),
        ("b", 0.94, 0, 0, 1, 1, 1, "main"), ("b", 0, 0, 0, 1, 1, 0.4, "water"),
        ("b", 0.03, 0.45, 1, 0.1, 0.55, 1.3, "steel"),
    )),
    "toilet": Template("wall", (0.4, 0.45), (0.65, 0.7), (0.78, 0.82), ("white", "pink", "blue", "black"),
        ("ceramic",), (
        ("b", 0.05, 0.7, 0.4, 0.95, 1, 1, "main"), ("c", 0.2, 0.15, 0, 0.8, 0.75, 0.45, "main"),
        ("c", 0, 0, 0.42, 1, 0.75, 0.53, "main"), ("c", 0.1, 0.06, 0.53, 0.9, 0.7, 0.56, "pale"),
    )),
    "desk": Template("wall", (1.2, 1.6), (0.6, 0.7), (1.15, 1.2), WARM, ("wood", "metal"), (
        ("b", 0, 0, 0.58, 1, 1, 0.63, "main"), ("b", 0, 0, 0, 0.04, 1, 0.58, "main"),
        ("b", 0.7, 0.05, 0, 1, 1, 0.58, "main"),
        ("b", 0.72, 0.02, 0.05, 0.98, 0.06, 0.28, "pale"), ("b", 0.72, 0.02, 0.32, 0.98, 0.06, 0.55, "pale"),
        ("b", 0.28, 0.6, 0.63, 0.5, 0.8, 0.65, "black"), ("b", 0.15, 0.66, 0.7, 0.63, 0.72, 1, "black"),
        ("b", 0.17, 0.64, 0.71, 0.61, 0.66, 0.99, "screen"), ("b", 0.36, 0.7, 0.64, 0.42, 0.74, 0.72, "black"),
    )),
    "washing machine": Template("wall", (0.6, 0.65), (0.58, 0.62), (0.85, 0.9), ("white", "gray", "black"),
        ("metal",), (
        ("b", 0, 0.04, 0, 1, 1, 1, "main"), ("b", 0.2, 0, 0.2, 0.8, 0.05, 0.72, "black"),
        ("b", 0.27, -0.02, 0.27, 0.73, 0.03, 0.65, "water"), ("b", 0.05, 0.02, 0.82, 0.95, 0.05, 0.95, "pale"),
    )),
    "basket": Template("corner", (0.4, 0.5), (0.4, 0.5), (0.5, 0.6), SOFT, ("plastic",), (
        ("c", 0, 0, 0, 1, 1, 0.92, "main"), ("e", 0.1, 0.1, 0.75, 0.9, 0.9, 1.05, "white"),
    )),
    "trash can": Template("corner", (0.3, 0.36), (0.3, 0.36), (0.5, 0.65), METAL, ("metal", "plastic"), (
        ("c", 0.04, 0.04, 0, 0.96, 0.96, 0.9, "main"), ("c", 0, 0, 0.9, 1, 1, 1, "black"),
    )),
    "treadmill": Template("corner", (0.75, 0.8), (1.6, 1.75), (1.25, 1.35), ("black", "gray", "red", "blue"),
        ("metal",), (
        ("b", 0, 0, 0, 1, 1, 0.1, "main"), ("b", 0.12, 0.02, 0.1, 0.88, 0.9, 0.13, "black"),
        ("b", 0, 0.88, 0, 0.1, 0.95, 1, "main"),
        ("b", 0.9, 0.88, 0, 1, 0.95, 1, "main"), ("b", 0, 0.84, 0.82, 1, 0.97, 1, "main"),
        ("b", 0, 0.5, 0.72, 0.06, 0.9, 0.77, "steel"),
        ("b", 0.94, 0.5, 0.72, 1, 0.9, 0.77, "steel"),
    )),
    "bench": Template("wall", (1.1, 1.3), (0.36, 0.42), (0.45, 0.5), SOFT, ("wood", "leather"), (
        ("b", 0, 0, 0.78, 1, 1, 1, "main"), *_legs(0.78, 0.03, 0.06, 0.16),
    )),
    "ball": Template("corner", (0.55, 0.65), (0.55, 0.65), (0.55, 0.65), VIVID, ("plastic",),
        (("e", 0, 0, 0, 1, 1, 1, "main"),)),
    "toy chest": Template("wall", (0.8, 1.0), (0.45, 0.5), (0.5, 0.55), VIVID, ("wood", "plastic"), (
        ("b", 0, 0.03, 0, 1, 1, 0.85, "main"), ("b", -0.02, 0, 0.85, 1.02, 1, 1, "pale"),
        ("b", 0.42, 0, 0.6, 0.58, 0.03, 0.85, "steel"),
    )),
    "console table": Template("wall", (0.9, 1.2), (0.28, 0.32), (1.1, 1.15), SOFT, ("wood",), (
        ("b", 0, 0, 0.68, 1, 1, 0.74, "main"), *_legs(0.68, 0.02, 0.05, 0.18),
        ("c", 0.6, 0.3, 0.74, 0.75, 0.75, 1, "pot"),
        ("e", 0.58, 0.2, 0.9, 0.77, 0.85, 1.1, "leaf"),
    )),
    "painting": Template("hang", (0.8, 1.3), (0.04, 0.05), (0.6, 0.9), SOFT, ("wood",), (
        ("b", 0, 0.3, 0, 1, 1, 1, "brown"), ("b", 0.05, 0, 0.07, 0.95, 0.35, 0.93, "picture"),
    ), 1.15),
    "mirror": Template("hang", (0.6, 0.9), (0.04, 0.05), (0.9, 1.1), WARM, ("glass",), (
        *FRAME, ("b", 0.08, 0, 0.06, 0.92, 0.35, 0.94, "mirror"),
    ), 0.95),
    "clock": Template("hang", (0.4, 0.5), (0.05, 0.06), (0.4, 0.5), SOFT, ("plastic",), (
        *FRAME, ("b", 0.1, 0, 0.1, 0.9, 0.35, 0.9, "white"), ("b", 0.47, -0.2, 0.48, 0.53, 0.05, 0.85, "black"),
        ("b", 0.5, -0.2, 0.47, 0.75, 0.05, 0.53, "black"),
    ), 1.6),
    "towel": Template("hang", (0.45, 0.6), (0.06, 0.08), (0.7, 0.85), VIVID, ("fabric",), (
        ("b", -0.05, 0.2, 0.95, 1.05, 0.8, 1, "steel"), ("b", 0, 0, 0, 1, 0.7, 0.97, "main"),
    ), 0.75),
    "window": Template("hang", (1.1, 1.7), (0.04, 0.05), (1.1, 1.3), ("white", "brown", "black"), ("wood",), (
        *FRAME, ("b", 0.05, 0.1, 0.06, 0.485, 0.35, 0.94, "window"),
        ("b", 0.515, 0.1, 0.06, 0.95, 0.35, 0.94, "window"),
    ), 0.95),
}  # fmt: skip
