"""Files as people and attackers make them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from PIL import Image


def picture(width: int = 600, height: int = 400, *, form: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    """An image with something in it, so that it does not shrink to nothing."""
    image = Image.linear_gradient("L").resize((width, height)).convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(width: int, height: int, form: str = "PNG") -> bytes:
    """An image that compresses badly."""
    image = Image.effect_noise((width, height), 90).convert("RGB")
    out = io.BytesIO()
    image.save(out, form, **({"quality": 100} if form == "JPEG" else {}))
    return out.getvalue()


def moving(width: int = 60, height: int = 40, frames: int = 3) -> bytes:
    shades = [Image.new("RGB", (width, height), (shade * 20 % 256, 10, 10)) for shade in range(frames)]
    out = io.BytesIO()
    shades[0].save(out, "GIF", save_all=True, append_images=shades[1:], duration=80, loop=0)
    return out.getvalue()


def double() -> bytes:
    """Two pictures in one JPEG, as phones with two cameras make them."""
    out = io.BytesIO()
    Image.new("RGB", (300, 200), "blue").save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (90, 60))])
    return out.getvalue()


def with_secrets() -> bytes:
    """A photo lying on its side, with a place and a comment."""
    image = Image.new("RGB", (300, 200), "blue")
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "SECRET-PLACE"
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif, comment=b"SECRET-COMMENT")
    return out.getvalue() + b"<script>SECRET-TAIL</script>"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def pdf(inside: bytes = b"") -> bytes:
    return b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + inside + b"\ntrailer << /Root 1 0 R >>\n%%EOF\n"


def office(*more: str, document: str = "word/document.xml") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("[Content_Types].xml", document, *more):
            archive.writestr(name, "<x/>")
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("payload.exe", b"MZ")
    return out.getvalue()
