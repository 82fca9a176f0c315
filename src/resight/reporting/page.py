"""What every page shares: the frame, the style, pictures and plots inside of the file.

A page is one file: no script, no address, nothing fetched; its Content-Security-Policy says so to the browser. Names
of classes and files are strangers' text: templates escape everything, and ``shown`` makes control and direction
characters visible. Plots are SVG inside ``<img>``, where nothing in them could run.
"""

from __future__ import annotations

import base64
import io
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.images import printable
from resight.inference import save

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> str:
    """The HTML of ``templates/TEMPLATE``, everything in ``context`` escaped. A name that is missing is an error."""
    return _environment().get_template(template).render(**context)


def write_page(path: Path, template: str, **context: Any) -> None:
    """``render``, written atomically. Raises StorageError."""
    save([render(template, **context)], path)


def thumbnail(pixels: NDArray[np.uint8], side: int = 160) -> str:
    """A ``data:`` address of a JPEG no larger than ``side``, of uint8 (H, W, 1 or 3). Never enlarged."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82)
    return data_uri(stream.getvalue(), "image/jpeg")


def svg(figure: Figure) -> str:
    """A ``data:`` address of a matplotlib figure. Equal figures give equal text: no date, no random names."""
    return data_uri(image(figure, "svg"), "image/svg+xml")


def image(figure: Figure, kind: str) -> bytes:
    """The content of an ``svg`` or ``png`` file of a matplotlib figure: equal for equal figures."""
    import matplotlib

    about = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "resight", "svg.fonttype": "none"}), warnings.catch_warnings():
        # matplotlib measures names in its own font, and warns of letters that it lacks; the browser has others
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support", category=UserWarning)
        figure.savefig(stream, format=kind, metadata=about, dpi=130)
    return stream.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """``data:KIND;base64,…``, for the ``src`` of a picture."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = lambda text: printable(str(text), 120)
    environment.filters["shown_long"] = lambda text: printable(str(text), 2000)
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f} %"
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment
