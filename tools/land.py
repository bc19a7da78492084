"""Makes emulator/timeline/land.npz, the outlines of countries that maps are drawn on.

    python tools/land.py ne_110m_admin_0_countries.shp

from Natural Earth's 1:110 million countries (public domain, naturalearthdata.com): 10,000 points in 0.01°, 40 km apart.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "emulator" / "timeline" / "land.npz"
HEADER_BYTES, RECORD_HEADER_BYTES = 100, 8  # ESRI Shapefile Technical Description (1998), pages 3 to 9
POLYGON = 5


def rings(shapefile: bytes) -> Iterator[np.ndarray]:
    """Longitude and latitude of each ring of each polygon, (points, 2), degrees."""
    at = HEADER_BYTES
    while at < len(shapefile):
        (words,) = struct.unpack_from(">i", shapefile, at + 4)
        at += RECORD_HEADER_BYTES
        kind, parts, points = struct.unpack_from("<i32xii", shapefile, at)
        if kind != POLYGON:
            raise SystemExit(f"expected polygons alone, got shape type {kind}")
        first = np.frombuffer(shapefile, "<i4", parts, at + 44)
        degrees = np.frombuffer(shapefile, "<f8", 2 * points, at + 44 + 4 * parts).reshape(-1, 2)
        yield from np.split(degrees, first[1:])
        at += 2 * words


def main() -> None:
    found = list(rings(Path(sys.argv[1]).read_bytes()))
    points = np.rint(100 * np.concatenate(found)).astype(np.int16)
    np.savez_compressed(TARGET, centidegrees=points, points=np.array([len(ring) for ring in found], np.int16))


if __name__ == "__main__":
    main()
