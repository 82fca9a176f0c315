"""Pages for people: one self-contained HTML file each, without scripts. Needs the extra ``report``."""

from resight.reporting.page import data_uri, render, svg, thumbnail, write_page

__all__ = ["data_uri", "render", "svg", "thumbnail", "write_page"]
