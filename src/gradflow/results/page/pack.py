"""Data and scripts inside an HTML file: small, and nothing in them can end the element that holds them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from typing import Any

LEVEL = 6  # of gzip: 9 takes three times as long for 1 % less
_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def encoded(value: Any) -> str:
    """JSON on one line.

    >>> encoded({"a": [1, None]})
    '{"a":[1,null]}'
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def content(part: Any) -> bytes:
    """A part as it is before it is packed."""
    if isinstance(part, bytes):
        return part
    return (part if isinstance(part, str) else encoded(part)).encode()


def for_script(text: str) -> str:
    """The same JSON with what HTML or an older JavaScript could take for its own written as escapes.

    >>> for_script('["</script>"]')
    '["\\\\u003c/script\\\\u003e"]'
    """
    return text.translate(_UNSAFE)


def code_for_script(code: str) -> str:
    """JavaScript that does the same and cannot end its element: these words stand in strings and comments alone."""
    return code.replace("</script", "<\\/script").replace("</SCRIPT", "<\\/SCRIPT").replace("<!--", "<\\!--")


def style_for_style(css: str) -> str:
    """CSS that cannot end its element."""
    return css.replace("</", "<\\/")


def zipped(content: bytes) -> bytes:
    """gzip without a time: the same content gives the same bytes."""
    return gzip.compress(content, LEVEL, mtime=0)


def packed(content: bytes) -> str:
    """gzip in base64, as the page takes it apart with `DecompressionStream`."""
    return base64.b64encode(zipped(content)).decode()


def stamp(content: bytes) -> str:
    """Changes when the content does."""
    return hashlib.sha256(content).hexdigest()[:12]


def rounded(value: Any, digits: int = 4) -> Any:
    """A number to so many significant digits, whole ones as integers; null for what JSON has not. Other things, and
    those inside lists and objects, likewise.

    >>> rounded([1 / 3, 2.0, float("nan"), "word", True])
    [0.3333, 2, None, 'word', True]
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        short = float(f"{value:.{digits}g}")
        return int(short) if short.is_integer() and abs(short) < 2**53 else short
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    return value
