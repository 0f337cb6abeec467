"""Images: checked and encoded anew when they come, and made as each channel takes them.

What was hidden in or behind an image (position and camera, another file, a profile) does not survive that, since only
its pixels are kept.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.conf import settings
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from automata_signal.errors import ValidationFailed

log = logging.getLogger(__name__)
FRAMES_MAX = 200
SIDE_MAX = 8_000
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/webp": "WEBP"}
IMAGE_TYPES = frozenset(_FORMATS)
_QUALITIES = (88, 80, 70, 60, 50)
_DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, IndexError, KeyError, OverflowError,
    AttributeError, TypeError, UnidentifiedImageError,
)  # fmt: skip
"""What Pillow raises at files that somebody has made for it."""
_decoding = threading.BoundedSemaphore(2)
"""Images decoded at a time in this process: each may take four bytes for every pixel, several times over."""


class Encoded(NamedTuple):
    """An image as it is stored."""

    content: bytes
    content_type: str
    width: int
    height: int
    is_animated: bool = False


class ChannelImage(NamedTuple):
    """What a channel takes. `ratio`: width by height, cut from the middle; None: as it is."""

    max_bytes: int
    max_width: int
    max_height: int
    types: tuple[str, ...]
    ratio: float | None = None
    may_move: bool = False
    min_width: int = 0


_KB, _MB = 1024, 1024 * 1024
_STILL = ("image/jpeg", "image/png")
CHANNEL_IMAGES: dict[str, ChannelImage] = {
    # Twice the 600 pixels of a usual column; ours, since no standard says more. Mail programs show no WebP.
    "email": ChannelImage(_MB, 1_200, 4_000, (*_STILL, "image/gif"), may_move=True),
    # FCM, "Send an image in the notification payload": 1 MB; Android's big picture is 2:1.
    "push_fcm": ChannelImage(_MB, 1_024, 512, _STILL, ratio=2.0),
    # Apple, UNNotificationAttachment: JPEG, GIF, PNG, 10 MB. A device loads it within 30 s, so that we stay far below.
    "push_apns": ChannelImage(2 * _MB, 1_440, 1_440, (*_STILL, "image/gif"), may_move=True),
    # NHN Cloud SMS v3.0, attachFile/binaryUpload: jpg, 300 KB.
    "mms_nhn": ChannelImage(300 * _KB, 1_000, 1_000, ("image/jpeg",)),
    # Solapi, storage/v1/files of type MMS: jpg, 200 KB, 1500 × 1440.
    "mms_solapi": ChannelImage(200 * _KB, 1_500, 1_440, ("image/jpeg",)),
    # Twilio takes 5 MB (error 11751), carriers often no more than 600 KB.
    "mms_twilio": ChannelImage(600 * _KB, 1_600, 1_600, (*_STILL, "image/gif"), may_move=True),
    # Kakao Alimtalk with an image: JPG or PNG, 800 × 400, 2:1, at least 500 wide, 500 KB.
    "kakao": ChannelImage(500 * _KB, 800, 400, _STILL, ratio=2.0, min_width=500),
    # Shown by the SDK on a phone's screen; ours.
    "in_app": ChannelImage(500 * _KB, 1_200, 1_600, (*_STILL, "image/gif"), may_move=True),
    "thumbnail": ChannelImage(50 * _KB, 320, 320, _STILL),
}


def image_clean(content: bytes, content_type: str, *, field: str = "file") -> Encoded:
    """The same image without anything but its pixels. Raises `ValidationFailed` for what is damaged, too large when it
    is unpacked, or something else than it says."""
    with _opened(content, content_type, field) as image:
        if _is_moving(image, content_type):
            return _encode_moving(image, content_type, (image.width, image.height))
        whole = ImageOps.exif_transpose(image) or image
        return _encoded(whole, content_type, quality=_QUALITIES[0])


def image_for(content: bytes, content_type: str, channel: str) -> Encoded:
    """An image of ours as `channel` takes it. Raises `ValidationFailed` if it cannot be made so."""
    rule = CHANNEL_IMAGES[channel]
    with _opened(content, content_type, "channel") as image:
        is_moving = _is_moving(image, content_type)
        if is_moving and rule.may_move and content_type in rule.types:
            made = _moving_within(image, content, content_type, rule)
            if made is not None:
                return made
        image.seek(0)
        picture = image.convert("RGBA" if _has_alpha(image) else "RGB")
    if rule.ratio is not None:
        picture = _cut(picture, rule.ratio)
    if picture.width < rule.min_width:
        raise ValidationFailed.of("channel", f"{channel} takes images that are {rule.min_width} pixels wide or more")
    picture.thumbnail((rule.max_width, rule.max_height), Image.Resampling.LANCZOS)
    return _within(picture, rule, channel)


@contextmanager
def _opened(content: bytes, content_type: str, field: str) -> Iterator[Image.Image]:
    """The image, decoded as the format that was found and no other."""
    name = _FORMATS[content_type]
    with _decoding, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of it is refused below
        try:
            with Image.open(io.BytesIO(content), formats=[name]) as image:
                _check_size(image, field)
                image.verify()
            with Image.open(io.BytesIO(content), formats=[name]) as image:
                if _is_moving(image, content_type):
                    _check_frames(image, field)
                image.load()
                yield image
        except Image.DecompressionBombError:
            raise ValidationFailed.of(field, "is far too large when it is unpacked") from None
        except _DAMAGED as error:
            log.info("an image cannot be read", extra={"cause": repr(error), "format": name})
            raise ValidationFailed.of(field, f"is damaged: it cannot be read as {name}") from error


def _check_size(image: Image.Image, field: str) -> None:
    """By what the header says, before anything is unpacked."""
    pixels, limit = image.width * image.height, settings.MEDIA_IMAGE_MAX_PIXELS
    if pixels > limit or max(image.size) > SIDE_MAX:
        raise ValidationFailed.of(
            field, f"is {image.width} × {image.height}: at most {limit:,} pixels and {SIDE_MAX} on a side are taken"
        )


def _check_frames(image: Image.Image, field: str) -> None:
    limit, frames = settings.MEDIA_IMAGE_MAX_PIXELS, 1
    try:
        while True:
            image.seek(frames)
            frames += 1
            if frames > FRAMES_MAX or frames * image.width * image.height > limit:
                raise ValidationFailed.of(field, f"has too many frames: at most {FRAMES_MAX}, {limit:,} pixels in all")
    except EOFError:
        image.seek(0)


def _is_moving(image: Image.Image, content_type: str) -> bool:
    """A phone's JPEG may hold several pictures as well (MPO): the first one is the photo."""
    return content_type != "image/jpeg" and bool(getattr(image, "is_animated", False))


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _plain(image: Image.Image, content_type: str) -> Image.Image:
    """In a mode that the format has, upon white where it has no transparency."""
    if not _has_alpha(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    if content_type != "image/jpeg":
        return image
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _encoded(image: Image.Image, content_type: str, *, quality: int) -> Encoded:
    picture, out = _plain(image, content_type), io.BytesIO()
    picture.info = {}
    if content_type == "image/png":
        picture.save(out, "PNG", optimize=picture.width * picture.height < 2_000_000)
    elif content_type == "image/gif":
        picture.convert("RGB").quantize(256).save(out, "GIF")
    elif content_type == "image/webp":
        picture.save(out, "WEBP", quality=quality)
    else:
        picture.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
    return Encoded(out.getvalue(), content_type, picture.width, picture.height)


def _encode_moving(image: Image.Image, content_type: str, size: tuple[int, int]) -> Encoded:
    frames, durations = [], []
    for frame in ImageSequence.Iterator(image):
        durations.append(max(20, int(frame.info.get("duration", 100) or 100)))
        picture = frame.convert("RGBA")
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        picture.info = {}
        frames.append(picture)
    out, loop = io.BytesIO(), int(image.info.get("loop", 0) or 0)
    name = _FORMATS[content_type]
    frames[0].save(out, name, save_all=True, append_images=frames[1:], duration=durations, loop=loop)
    return Encoded(out.getvalue(), content_type, *size, is_animated=len(frames) > 1)


def _moving_within(image: Image.Image, content: bytes, content_type: str, rule: ChannelImage) -> Encoded | None:
    """A moving image as it is, or smaller; None if it does not get small enough: then its first frame is shown."""
    scale = min(1.0, rule.max_width / image.width, rule.max_height / image.height)
    if scale == 1.0 and len(content) <= rule.max_bytes:
        return Encoded(content, content_type, image.width, image.height, is_animated=True)
    for _ in range(3):
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        made = _encode_moving(image, content_type, size)
        if len(made.content) <= rule.max_bytes:
            return made
        scale *= 0.7
    return None


def _cut(image: Image.Image, ratio: float) -> Image.Image:
    """The middle of it, in this ratio."""
    width, height = image.size
    if width / height > ratio:
        kept = max(1, round(height * ratio))
        left = (width - kept) // 2
        return image.crop((left, 0, left + kept, height))
    kept = max(1, round(width / ratio))
    top = (height - kept) // 2
    return image.crop((0, top, width, top + kept))


def _within(image: Image.Image, rule: ChannelImage, channel: str) -> Encoded:
    """Encoded so that it fits: transparent ones as PNG as long as that does, then with less quality, then smaller."""
    if _has_alpha(image) and "image/png" in rule.types:
        made = _encoded(image, "image/png", quality=0)
        if len(made.content) <= rule.max_bytes:
            return made
    while image.width >= max(rule.min_width, 16):
        for quality in _QUALITIES:
            made = _encoded(image, "image/jpeg", quality=quality)
            if len(made.content) <= rule.max_bytes:
                return made
        image = image.resize((max(1, image.width * 4 // 5), max(1, image.height * 4 // 5)), Image.Resampling.LANCZOS)
    raise ValidationFailed.of("channel", f"cannot be made small enough for {channel}")
