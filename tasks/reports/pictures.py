"""Small pictures: files beside a Markdown report, or bytes inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

JPEG_QUALITY = 85
GAP = 4

UNREADABLE = (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises at a file that is no picture, or not a whole one."""


def opened(path: Path, mode: str | None = "RGB") -> Image.Image | None:
    """The picture in a mode of Pillow, or without pixels where mode is None; None if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.convert(mode) if mode else picture
    except UNREADABLE:
        return None


def thumbnail(path: Path, size: int) -> Image.Image | None:
    """The picture, RGB, fitted into `size` x `size` pixels on grey; None where it cannot be read.

    Small crops are enlarged with their pixels kept apart, so that a defect of a few pixels can be seen.
    """
    picture = opened(path)
    if picture is None:
        return None
    method = Image.Resampling.LANCZOS if max(picture.size) > size else Image.Resampling.NEAREST
    return ImageOps.pad(picture, (size, size), method, color="#808080")


def write_thumbnail(source: Path, target: Path, size: int) -> bool:
    """Write the thumbnail of a picture; gives whether there is one."""
    picture = thumbnail(source, size)
    if picture is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target)
    return True


def data_uri(path: Path, size: int) -> str | None:
    """The thumbnail as a `data:` address for a page that stands alone; None where there is no picture."""
    picture = thumbnail(path, size)
    if picture is None:
        return None
    return jpeg_uri(picture)


def embedded(path: Path, most_bytes: int) -> str | None:
    """A picture as it is, as a `data:` address; one above `most_bytes` is made smaller.

    None where there is no picture, or none that small.
    """
    try:
        content = path.read_bytes()
        kind = Image.open(io.BytesIO(content)).get_format_mimetype()
    except (OSError, UnidentifiedImageError, ValueError):
        return None
    if kind in ("image/png", "image/jpeg") and len(content) * 4 / 3 < most_bytes - 30:
        return _address(kind, content)
    for side in (1200, 600, 300):
        address = _address("image/jpeg", _jpeg(path, side))
        if len(address) <= most_bytes:
            return address
    return None


def contact_sheet(paths: Sequence[Path], size: int, columns: int) -> Image.Image | None:
    """The thumbnails of pictures in rows, first to last; None where none of them can be read."""
    read = [one for one in (thumbnail(path, size) for path in paths) if one is not None]
    if not read:
        return None
    columns = min(columns, len(read))
    step = size + GAP
    sheet = Image.new("RGB", (columns * step - GAP, -(-len(read) // columns) * step - GAP), "#808080")
    for number, picture in enumerate(read):
        sheet.paste(picture, (number % columns * step, number // columns * step))
    return sheet


def jpeg_uri(picture: Image.Image) -> str:
    """A picture in memory as a `data:` address."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return _address("image/jpeg", stream.getvalue())


def _jpeg(path: Path, side: int) -> bytes:
    stream = io.BytesIO()
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((side, side))
    picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")
