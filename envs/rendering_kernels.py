"""The inner loops of rendering, compiled by numba.

A row of an image is a straight line through the cube, so that each face owns one stretch of it (OpenGL 2.1, 3.8.6:
the face is that of the largest component). Within a stretch the texture coordinates are quotients of linear functions
of the column: no decision is left in the loop, which LLVM turns into vector code where loads cannot alias stores.

Legend: M [3, 3] rotation, direction in the cube = Mᵀ · ray; F pixels of a face's side; texels are the faces one below
the other, each with a row and PAD columns to spare, because the neighbour right or below is read (with weight 0) at
the last column or row too. The columns to spare also keep rows from falling on the same lines of the cache.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.core.compiler import Compiler

PAD = 16
# Per face of the file, OpenGL's major axis, s axis and t axis, with their signs (table 3.19); faces 0-5 are
# +y, +z, +x, -z, -x, -y of the cube (MatterSim's NavGraph.cpp).
MAJOR, MAJOR_SIGN = (1, 2, 0, 2, 0, 1), (1.0, 1.0, 1.0, -1.0, -1.0, -1.0)
S, S_SIGN = (0, 0, 2, 0, 2, 0), (1.0, 1.0, -1.0, -1.0, 1.0, 1.0)
T, T_SIGN = (2, 1, 1, 1, 1, 2), (1.0, -1.0, -1.0, -1.0, -1.0, -1.0)
FIRST_FACE = (2, 0, 1)
"""Face of +x, +y, +z."""
SECOND_FACE = (4, 5, 3)
"""Face of -x, -y, -z."""
_F0, _F1, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
_EIGHT, _SIXTEEN = np.uint32(8), np.uint32(16)
_LOW, _MIDDLE, _HIGH = np.uint32(0xFF), np.uint32(0xFF00), np.uint32(0xFF0000)
_HALF_MIDDLE, _HALF_HIGH = np.float32(0x80), np.float32(0x8000)
_POSITIVE = np.uint32(0x7FFFFFFF)
"""Indices are below 2^31: told so, LLVM loads eight texels by 32-bit indices."""


class _ArgumentsDoNotAlias(Compiler):
    """numba's compiler with the promise that array arguments do not overlap, without which gathers stay scalar."""

    def define_pipelines(self) -> list[Any]:
        self.state.flags.noalias = True
        return super().define_pipelines()


@numba.njit(nogil=True)
def pack(faces: np.ndarray, first: int, last: int, texels: np.ndarray) -> None:
    """[6, F, F, 3] uint8 -> [6, F + 1, F + PAD] uint32, the channels from bit 0 on in the order first, 1, last."""
    side = faces.shape[1]
    for face in range(6):
        for row in range(side):
            for column in range(side):
                texels[face, row, column] = (
                    np.uint32(faces[face, row, column, first])
                    | (np.uint32(faces[face, row, column, 1]) << _EIGHT)
                    | (np.uint32(faces[face, row, column, last]) << _SIXTEEN)
                )


@numba.njit(nogil=True, error_model="numpy")
def stretches(a: np.ndarray, b: np.ndarray, columns: int, ends: np.ndarray, faces: np.ndarray) -> int:
    """Cut the columns of a row, with directions a + column * b, by the face that they meet.

    Fills ends [8] (where the i-th stretch ends) and faces [8]; returns how many stretches there are.
    """
    n = 0
    for i in range(3):
        for j in range(i):
            for sign in (-1.0, 1.0):
                slope = b[i] + sign * b[j]
                if slope != 0.0:
                    cut = -(a[i] + sign * a[j]) / slope
                    if 0.0 < cut < columns - 1.0:
                        end = math.ceil(cut)
                        k = n
                        while k > 0 and ends[k - 1] > end:
                            ends[k] = ends[k - 1]
                            k -= 1
                        ends[k] = end
                        n += 1
    ends[n] = columns
    kept, begin = 0, 0
    for k in range(n + 1):
        end = ends[k]
        if end > begin:
            middle = (begin + end - 1) * 0.5
            x, y, z = a[0] + middle * b[0], a[1] + middle * b[1], a[2] + middle * b[2]
            axis, size, value = 0, abs(x), x
            if abs(y) > size:
                axis, size, value = 1, abs(y), y
            if abs(z) > size:
                axis, value = 2, z
            ends[kept] = end
            faces[kept] = FIRST_FACE[axis] if value > 0.0 else SECOND_FACE[axis]
            kept += 1
            begin = end
    return kept


@numba.njit(nogil=True, fastmath=True, error_model="numpy", pipeline_class=_ArgumentsDoNotAlias)
def colour_stretch(texels, line, begin, end, offset, stride, s0, s1, t0, t1, m0, m1, top) -> None:  # type: ignore[no-untyped-def]
    """line[begin:end] = the three channels, bilinear in float32; texels flat, coordinates (s0 + c s1) / (m0 + c m1)."""
    right, below, corner = texels[1:], texels[stride:], texels[stride + 1 :]
    for c in range(begin, end):
        column = np.float32(np.int32(c))
        inverse = _F1 / (m0 + m1 * column)
        u = min(max((s0 + s1 * column) * inverse, _F0), top)
        v = min(max((t0 + t1 * column) * inverse, _F0), top)
        x, y = np.int32(u), np.int32(v)
        fx, fy = u - np.float32(x), v - np.float32(y)
        i = np.uint32(offset + y * stride + x) & _POSITIVE
        p, q, r, s = texels[i], right[i], below[i], corner[i]
        # Each channel is blended where it stands in the word: times 1, 256 or 65,536, which float32 holds exactly.
        a, b = np.float32(np.int32(p & _LOW)), np.float32(np.int32(q & _LOW))
        d, e = np.float32(np.int32(r & _LOW)), np.float32(np.int32(s & _LOW))
        over, under = a + fx * (b - a), d + fx * (e - d)
        low = np.uint32(np.int32(over + fy * (under - over) + _HALF)) & _LOW
        a, b = np.float32(np.int32(p & _MIDDLE)), np.float32(np.int32(q & _MIDDLE))
        d, e = np.float32(np.int32(r & _MIDDLE)), np.float32(np.int32(s & _MIDDLE))
        over, under = a + fx * (b - a), d + fx * (e - d)
        middle = np.uint32(np.int32(over + fy * (under - over) + _HALF_MIDDLE)) & _MIDDLE
        a, b = np.float32(np.int32(p & _HIGH)), np.float32(np.int32(q & _HIGH))
        d, e = np.float32(np.int32(r & _HIGH)), np.float32(np.int32(s & _HIGH))
        over, under = a + fx * (b - a), d + fx * (e - d)
        line[c] = low | middle | np.uint32(np.int32(over + fy * (under - over) + _HALF_HIGH)) & _HIGH


@numba.njit(nogil=True, pipeline_class=_ArgumentsDoNotAlias)
def unpack(line: np.ndarray, row: np.ndarray, columns: int) -> None:
    """Three bytes of every word: [W] uint32 -> [W * 3] uint8."""
    for c in range(columns):
        word = line[c]
        row[3 * c] = np.uint8(word & _LOW)
        row[3 * c + 1] = np.uint8((word >> _EIGHT) & _LOW)
        row[3 * c + 2] = np.uint8((word >> _SIXTEEN) & _LOW)


@numba.njit(nogil=True, fastmath=True, error_model="numpy", pipeline_class=_ArgumentsDoNotAlias)
def depth_stretch(texels, row, begin, end, offset, stride, s0, s1, t0, t1, m0, m1, top, x0, x1, far) -> None:  # type: ignore[no-untyped-def]
    """row[begin:end] = distance along the camera's axis: bilinear distance times the cosine of ray to axis.

    The ray of column c is (x0 + c x1, y, -1), far = 1 + y y.
    """
    right, below, corner = texels[1:], texels[stride:], texels[stride + 1 :]
    for c in range(begin, end):
        column = np.float32(np.int32(c))
        inverse = _F1 / (m0 + m1 * column)
        u = min(max((s0 + s1 * column) * inverse, _F0), top)
        v = min(max((t0 + t1 * column) * inverse, _F0), top)
        x, y = np.int32(u), np.int32(v)
        fx, fy = u - np.float32(x), v - np.float32(y)
        i = np.uint32(offset + y * stride + x) & _POSITIVE
        a, b = np.float32(np.int32(texels[i])), np.float32(np.int32(right[i]))
        d, e = np.float32(np.int32(below[i])), np.float32(np.int32(corner[i]))
        over, under = a + fx * (b - a), d + fx * (e - d)
        across = x0 + x1 * column
        cosine = _F1 / np.sqrt(far + across * across)
        row[c] = np.uint16(np.int32((over + fy * (under - over)) * cosine + _HALF))


@numba.njit(nogil=True, error_model="numpy")
def line_of(rotation, right, up, width, row, height, a, b) -> None:  # type: ignore[no-untyped-def]
    """The directions a + column * b of a row; right, up = tangents of half the field of view."""
    x, y = right * (1.0 / width - 1.0), up * (2.0 * (row + 0.5) / height - 1.0)
    for k in range(3):
        a[k] = rotation[0, k] * x + rotation[1, k] * y - rotation[2, k]
        b[k] = rotation[0, k] * right * 2.0 / width


@numba.njit(nogil=True, error_model="numpy")
def coefficients(a, b, face, side, out) -> None:  # type: ignore[no-untyped-def]
    """out [6] float32: u = (out0 + c out1) / (out4 + c out5), v = (out2 + c out3) / (same), in texels from a centre."""
    half, shift = side * 0.5, side * 0.5 - 0.5
    for k, line in enumerate((a, b)):
        major = line[MAJOR[face]] * MAJOR_SIGN[face]
        out[k] = line[S[face]] * S_SIGN[face] * half + shift * major
        out[2 + k] = line[T[face]] * T_SIGN[face] * half + shift * major
        out[4 + k] = major


@numba.njit(nogil=True, error_model="numpy")
def colour_rows(texels, rotation, right, up, begin, end, image) -> None:  # type: ignore[no-untyped-def]
    """Rows begin to end of an image [H, W * 3] uint8 from texels [6, F + 1, F + PAD] uint32."""
    height, width = image.shape[0], image.shape[1] // 3
    side, stride = texels.shape[1] - 1, texels.shape[2]
    flat = texels.reshape(-1)
    line = np.empty(width, np.uint32)
    a, b, k = np.empty(3), np.empty(3), np.empty(6, np.float32)
    ends, faces = np.empty(8, np.int64), np.empty(8, np.int64)
    for row in range(begin, end):
        line_of(rotation, right, up, width, row, height, a, b)
        start = 0
        for i in range(stretches(a, b, width, ends, faces)):
            coefficients(a, b, faces[i], side, k)
            offset = np.int32(faces[i] * (side + 1) * stride)
            colour_stretch(
                flat, line, start, ends[i], offset, np.int32(stride),
                k[0], k[1], k[2], k[3], k[4], k[5], np.float32(side - 1),
            )  # fmt: skip
            start = ends[i]
        unpack(line, image[row], width)


@numba.njit(nogil=True, error_model="numpy")
def depth_rows(texels, rotation, right, up, begin, end, image) -> None:  # type: ignore[no-untyped-def]
    """Rows begin to end of an image [H, W] uint16 from texels [6, F + 1, F + PAD] uint16."""
    height, width = image.shape
    side, stride = texels.shape[1] - 1, texels.shape[2]
    flat = texels.reshape(-1)
    x0, x1 = np.float32(right * (1.0 / width - 1.0)), np.float32(right * 2.0 / width)
    a, b, k = np.empty(3), np.empty(3), np.empty(6, np.float32)
    ends, faces = np.empty(8, np.int64), np.empty(8, np.int64)
    for row in range(begin, end):
        line_of(rotation, right, up, width, row, height, a, b)
        y = up * (2.0 * (row + 0.5) / height - 1.0)
        start = 0
        for i in range(stretches(a, b, width, ends, faces)):
            coefficients(a, b, faces[i], side, k)
            offset = np.int32(faces[i] * (side + 1) * stride)
            depth_stretch(
                flat, image[row], start, ends[i], offset, np.int32(stride),
                k[0], k[1], k[2], k[3], k[4], k[5], np.float32(side - 1),
                x0, x1, np.float32(1.0 + y * y),
            )  # fmt: skip
            start = ends[i]
