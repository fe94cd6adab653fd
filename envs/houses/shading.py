"""Textures with the light of ceiling lamps on what rays meet (numba).

Texture numbers are those of `materials.TEXTURES`. Every pattern is a function of position and a seed.
"""

from __future__ import annotations

import numpy as np

from envs.houses.compiled import compiled


@compiled
def noise(i, j, seed):
    """A number in [0, 1) for integers i, j and a seed."""
    h = (i * 374761393 + j * 668265263 + seed * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65536.0


@compiled
def smooth_noise(u, v, seed):
    """Noise between the integers, bilinear."""
    i, j = int(np.floor(u)), int(np.floor(v))
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = noise(i, j, seed) * (1 - a) + noise(i + 1, j, seed) * a
    high = noise(i, j + 1, seed) * (1 - a) + noise(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b


@compiled
def surface_pattern(texture, u, v, seed, fade):
    """A factor on the albedo at u, v metres; `fade` in [0, 1] takes fine detail away in the distance."""
    if texture == 1:  # wood: grain along u
        return 1.0 + fade * 0.22 * (smooth_noise(u * 3.0, v * 28.0, seed) - 0.5)
    if texture == 2:  # planks of 14 cm
        row = int(np.floor(v / 0.14))
        shift = noise(row, 7, seed) * 1.2
        plank = int(np.floor((u + shift) / 1.2))
        gap = 0.72 if (v / 0.14 - row) < 0.05 or ((u + shift) / 1.2 - plank) < 0.006 else 1.0
        grain = 0.14 * (smooth_noise(u * 4.0, v * 40.0, seed) - 0.5)
        return (0.88 + 0.26 * noise(row, plank, seed)) * (1.0 - fade * (1.0 - gap)) + fade * grain
    if texture == 3:  # tiles of 33 cm
        i, j = int(np.floor(u / 0.33)), int(np.floor(v / 0.33))
        grout = (u / 0.33 - i) < 0.04 or (v / 0.33 - j) < 0.04
        return (0.95 + 0.08 * noise(i, j, seed)) * (1.0 - (0.34 * fade if grout else 0.0))
    if texture == 4:  # carpet
        return 0.95 + fade * 0.22 * (noise(int(np.floor(u * 90)), int(np.floor(v * 90)), seed) - 0.45)
    if texture == 5:  # wallpaper with stripes of 12 cm
        return 1.0 if int(np.floor(u / 0.12)) % 2 == 0 else 0.87
    if texture == 6:  # bricks
        row = int(np.floor(v / 0.075))
        brick = int(np.floor(u / 0.22 + 0.5 * (row % 2)))
        joint = (v / 0.075 - row) < 0.14 or (u / 0.22 + 0.5 * (row % 2) - brick) < 0.05
        return 1.0 + fade * 0.35 if joint else 0.86 + 0.26 * noise(brick, row, seed)
    if texture == 7:  # woven cloth
        return 0.96 + fade * 0.12 * (noise(int(np.floor(u * 70)), int(np.floor(v * 70)), seed) - 0.4)
    if texture == 8:  # brushed metal
        return 0.96 + 0.10 * smooth_noise(u * 1.5, v * 60.0 * fade, seed)
    if texture == 9:  # marble
        return 0.92 + 0.1 * abs(np.sin(5.0 * u + 4.0 * smooth_noise(u * 3.0, v * 3.0, seed)))
    if texture == 10:  # leather
        return 0.90 + 0.18 * smooth_noise(u * 9.0, v * 9.0, seed)
    return 1.0 + 0.03 * (smooth_noise(u * 2.0, v * 2.0, seed) - 0.5)


@compiled
def picture_colour(texture, s, t, seed, r, g, b):
    """Colour of a pictorial surface at s, t in [0, 1] (left to right, bottom to top)."""
    if texture == 11:  # the view out of a window: sky over a meadow
        hill = 0.32 + 0.08 * np.sin(4.0 * s + seed)
        if t < hill:
            return 0.34 + 0.1 * t, 0.52, 0.26
        return 0.98 - 0.42 * t, 1.02 - 0.22 * t, 1.04
    if texture == 12:  # painting: a disc over bands of its colour
        x, y = 0.25 + 0.5 * noise(1, 2, seed), 0.45 + 0.3 * noise(3, 4, seed)
        if (s - x) ** 2 + (t - y) ** 2 < 0.022:
            return 0.95, 0.92, 0.80
        shade = 0.75 + 0.5 * noise(int(t * 5 + 1.2 * np.sin(5.0 * s + seed)), 9, seed)
        return r * shade + 0.02, g * shade + 0.02, b * shade + 0.02
    if texture == 13:  # screen
        return r + 0.12 * t, g + 0.16 * t, b + 0.30 * s
    if texture == 14:  # backs of books
        i = int(np.floor(s * 18.0))
        h = noise(i, 5, seed)
        if t > 0.7 + 0.3 * noise(i, 6, seed):
            return 0.08, 0.06, 0.05
        return 0.2 + 0.6 * h, 0.2 + 0.45 * noise(i, 8, seed), 0.2 + 0.5 * noise(i, 11, seed)
    if texture == 17:  # mirror: a bright slanting sheen
        sheen = 0.85 + 0.2 * np.sin(7.0 * (s + 0.6 * t))
        return r * sheen, g * sheen, b * sheen
    return r, g, b


@compiled
def lit(x, y, z, nx, ny, nz, storey, lamps, occlusion, room, cell_m, x0, y0):
    """Brightness at a point with a normal: a lamp per room, less where walls or furniture stand near.

    storey: (height of a storey, height of a ceiling) in metres; occlusion and room [F, H, W] are maps of the floors.
    """
    floors, rows, columns = room.shape
    floor = min(max(int((z + 0.15) / storey[0]), 0), floors - 1)
    i = min(max(int((y + 0.08 * ny - y0) / cell_m), 0), rows - 1)
    j = min(max(int((x + 0.08 * nx - x0) / cell_m), 0), columns - 1)
    lamp = max(room[floor, i, j], 0)
    dx, dy, dz = lamps[lamp, 0] - x, lamps[lamp, 1] - y, lamps[lamp, 2] - z
    d2 = dx * dx + dy * dy + dz * dz + 0.05
    cosine = max((nx * dx + ny * dy + nz * dz) / np.sqrt(d2), 0.0)
    light = 0.50 + 0.05 * nx + 0.08 * ny + 0.05 * nz + 0.78 * cosine / (1.0 + 0.09 * d2)
    height = z - floor * storey[0]
    near = occlusion[floor, i, j]
    if nz > 0.5:
        light *= 1.0 - 0.55 * near * np.exp(-max(height, 0.0) / 0.25)
    elif nz < -0.5:
        light += 0.30
    else:
        light *= 1.0 - 0.5 * near * np.exp(-max(height, 0.0) / 0.45)
        light *= 1.0 - 0.22 * np.exp(-max(height, 0.0) / 0.12) - 0.18 * np.exp(-max(storey[1] - height, 0.0) / 0.2)
    return light


@compiled
def colour_at(
    x, y, z, distance, face, direction, c, shape, albedo, texture, seed, storey, lamps, occlusion, room, cell_m, x0, y0
):
    """R, G, B in 0..1 of the point (x, y, z) on the solid with corners c; c, albedo, direction are tuples of 6, 3, 3:
    rows of arrays would take twice the time."""
    nx, ny, nz = 0.0, 0.0, 0.0
    if face == 3:
        nx = (x - 0.5 * (c[0] + c[3])) / (0.5 * (c[3] - c[0])) ** 2
        ny = (y - 0.5 * (c[1] + c[4])) / (0.5 * (c[4] - c[1])) ** 2
        if shape == 2:
            nz = (z - 0.5 * (c[2] + c[5])) / (0.5 * (c[5] - c[2])) ** 2
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx / length, ny / length, nz / length
    elif face == 0:
        nx = -1.0 if direction[0] > 0 else 1.0
    elif face == 1:
        ny = -1.0 if direction[1] > 0 else 1.0
    else:
        nz = -1.0 if direction[2] > 0 else 1.0
    if abs(nz) > 0.7:
        u, v = x, y
    elif abs(nx) > abs(ny):
        u, v = y, z
    else:
        u, v = x, z
    r, g, b = albedo
    if texture in (11, 12, 13, 14, 17) and face < 2:
        along, low, wide = (y, c[1], c[4] - c[1]) if face == 0 else (x, c[0], c[3] - c[0])
        r, g, b = picture_colour(texture, (along - low) / wide, (z - c[2]) / (c[5] - c[2]), seed, r, g, b)
    elif texture == 16:  # leaves
        leaf = noise(int(np.floor((x + 0.37 * z) * 24)), int(np.floor((y + z) * 24)), seed)
        r, g, b = r * (0.55 + 0.9 * leaf), g * (0.55 + 0.9 * leaf), b * (0.55 + 0.9 * leaf)
    else:
        fade = 1.0 / (1.0 + (distance / 4.0) ** 2)
        factor = surface_pattern(texture, u, v, seed, fade)
        r, g, b = r * factor, g * factor, b * factor
    if texture in (11, 13, 15):
        return r, g, b
    light = lit(x, y, z, nx, ny, nz, storey, lamps, occlusion, room, cell_m, x0, y0)
    return r * light, g * light, b * light * 0.97
