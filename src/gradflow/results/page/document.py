"""The page as one file: its data inside the template, with the scripts and styles beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gradflow.results.page.pack import code_for_script, content, encoded, for_script, packed, stamp, style_for_style

HERE = Path(__file__).parent
PLOTLY = "plotly"  # the one part that is no data


def document(boot: dict[str, Any], parts: Mapping[str, Any]) -> str:
    """The HTML. Every word from a config or a record is data in it, never markup.

    Args:
        boot: what the page needs at once; `boot["parts"]`, a stamp per part, is filled in where it is not given.
        parts: what is unpacked when it is first needed: text or bytes as they are, anything else as JSON. A page that
            is served has none.
    """
    contents = {name: content(part) for name, part in parts.items()}
    stamps = {name: stamp(each) for name, each in contents.items() if name != PLOTLY}
    boot = {**boot, "parts": boot.get("parts", stamps)}
    environment = Environment(
        loader=PackageLoader("gradflow.results"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        title=boot["title"],
        version=boot["version"],
        boot=Markup(for_script(encoded(boot))),
        parts={name: packed(each) for name, each in contents.items()},
        source=source,
    )


def source(name: str) -> Markup:
    """The text of a file beside this one, as the template puts it into the page."""
    text = (HERE / name).read_text(encoding="utf-8")
    return Markup(style_for_style(text) if name.endswith(".css") else code_for_script(text))


@cache
def plotly() -> bytes:
    """Plotly's JavaScript, out of the Python package, which takes a second to import and need not be."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None, "plotly is among gradflow's dependencies"
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()
