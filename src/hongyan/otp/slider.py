"""A puzzle for people: a picture with a gap, and the piece that is missing there.

Writes nothing, knows no clock and no keys. Entry points: Drawer.draw(), fits(). Pictures are made of shapes and noise as
they are asked for, so there is no stock of them that somebody could learn by heart; the most of a picture is drawn seldom
and cut often, because drawing one takes longer than all the rest of a request.
"""

import io
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

WIDTH: Final = 320
HEIGHT: Final = 160
PIECE: Final = 56  # its square, knobs included
KNOB: Final = 8  # radius
EDGE: Final = 8  # no gap so near to a side
TOLERANCE: Final = 5  # pixels to either side: steadier than most hands, and a key moves by one
FIRST_LEFT: Final = PIECE + 20  # the piece waits at the left; a gap there would hardly have to be moved to
LAST_LEFT: Final = WIDTH - PIECE - EDGE
BACKDROPS_MAX: Final = 16
CUTS_MAX: Final = 40  # of one backdrop
SCALE: Final = 4  # shapes are cut four times as fine, for smooth edges

_random: Final = secrets.SystemRandom()


class Puzzle(NamedTuple):
    """One puzzle: what is shown, and where the piece belongs."""

    picture: bytes  # JPEG, WIDTH by HEIGHT
    piece: bytes  # PNG, PIECE by PIECE, transparent around the shape
    left: int  # of the piece in its gap, in pixels: the answer
    top: int  # of both; told to everybody


def fits(left: int, given: int) -> bool:
    """Tell whether a piece that was pushed to `given` is in its gap."""
    return abs(left - given) <= TOLERANCE


class Drawer:
    """Draws puzzles, and keeps a few backdrops to cut them from."""

    def __init__(self) -> None:
        self._backdrops: deque[_Backdrop] = deque()

    def draw(self) -> Puzzle:
        """Draw one puzzle; 2 to 4 ms."""
        backdrop = self._backdrop()
        left, top = _random.randint(FIRST_LEFT, LAST_LEFT), _random.randint(EDGE, HEIGHT - PIECE - EDGE)
        shape = _shape([_random.choice((-1, 0, 1)) for _ in range(4)])
        # Each picture is the backdrop seen otherwise, so that two of them have no pixel in common.
        picture = _seen_otherwise(backdrop.picture)
        piece = picture.crop((left, top, left + PIECE, top + PIECE))
        piece.putalpha(shape)
        _outline(piece, shape)
        gap = picture.crop((left, top, left + PIECE, top + PIECE)).point(lambda value: int(value * 0.45))
        picture.paste(gap, (left, top), shape)
        rim = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(3)))
        picture.paste((245, 245, 245), (left, top), rim)
        return Puzzle(_written(picture, "JPEG", quality=82), _written(piece, "PNG"), left, top)

    def _backdrop(self) -> "_Backdrop":
        if len(self._backdrops) < BACKDROPS_MAX:
            self._backdrops.append(_Backdrop(_paint()))
        else:
            self._backdrops.rotate(_random.randrange(BACKDROPS_MAX))
        backdrop = self._backdrops[0]
        backdrop.cuts += 1
        if backdrop.cuts >= CUTS_MAX:
            self._backdrops.popleft()
        return backdrop


class _Backdrop:
    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.cuts = 0


def _paint() -> Image.Image:
    """Paint hills and discs of related colours, larger than a picture, so that each may look at another part."""
    width, height = WIDTH + 64, HEIGHT + 64
    sky, ground = _colour(150, 255), _colour(60, 190)
    slope = Image.linear_gradient("L").resize((width, height))
    picture = Image.composite(Image.new("RGB", slope.size, ground), Image.new("RGB", slope.size, sky), slope)
    brush = ImageDraw.Draw(picture)
    for _ in range(26):
        x, y, radius = _random.randrange(width), _random.randrange(height), _random.randint(8, 46)
        colour = _colour(30, 255)
        if _random.random() < 0.5:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            corners = [
                (x + _random.randint(-radius, radius) * 2, y + _random.randint(-radius, radius))
                for _ in range(3)
            ]
            brush.polygon(corners, fill=colour)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2))
    noise = Image.effect_noise((width, height), 60).convert("RGB")
    return Image.blend(picture, noise, 0.16)


def _seen_otherwise(picture: Image.Image) -> Image.Image:
    x, y = _random.randrange(picture.width - WIDTH), _random.randrange(picture.height - HEIGHT)
    part = picture.crop((x, y, x + WIDTH, y + HEIGHT))
    if _random.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    bands = list(part.split())
    _random.shuffle(bands)
    return Image.merge("RGB", bands)


def _shape(knobs: Sequence[int]) -> Image.Image:
    """Return the piece's mask. A side has a knob (1), a notch (-1) or neither; at least one has something."""
    if not any(knobs):
        knobs = (1, *knobs[1:])
    size, knob = PIECE * SCALE, KNOB * SCALE
    mask = Image.new("L", (size, size), 0)
    brush = ImageDraw.Draw(mask)
    near, far, middle = knob, size - knob, size // 2
    brush.rectangle((near, near, far, far), fill=255)
    places = ((middle, near), (far, middle), (middle, far), (near, middle))
    for (x, y), kind in zip(places, knobs, strict=True):
        if kind:
            brush.ellipse((x - knob, y - knob, x + knob, y + knob), fill=255 if kind > 0 else 0)
    return mask.resize((PIECE, PIECE), Image.Resampling.LANCZOS)


def _outline(piece: Image.Image, shape: Image.Image) -> None:
    """Give the piece a light rim, so that it is seen on any ground."""
    rim = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(3)))
    piece.paste((255, 255, 255, 255), (0, 0), rim)


def _colour(darkest: int, lightest: int) -> tuple[int, int, int]:
    return (
        _random.randint(darkest, lightest),
        _random.randint(darkest, lightest),
        _random.randint(darkest, lightest),
    )


def _written(picture: Image.Image, kind: str, **how: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()
