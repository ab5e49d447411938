"""Pages of a printed report: a pen that moves down an A4 sheet and goes on with the next one."""

from collections.abc import Callable
from io import BytesIO
from typing import Literal

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from dues.pdf import text as typeset

Align = Literal["left", "right", "center"]

LEFT, RIGHT = 48.0, A4[0] - 48.0
TOP, BOTTOM = A4[1] - 48.0, 60.0

INK = HexColor("#1b2430")
GREY = HexColor("#6b7785")
RULE = HexColor("#d5dbe1")
SHADE = HexColor("#f3f6f8")
ACCENT = HexColor("#1f6f8b")
ACCENT_LIGHT = HexColor("#b7d6e0")


class Pages:
    """Draws text and boxes; `y` is the pen's height above the foot of the page, in points."""

    def __init__(self, title: str, footer: str) -> None:
        self._buffer = BytesIO()
        self._canvas = Canvas(self._buffer, pagesize=A4, pageCompression=1)
        self._canvas.setTitle(title)
        self._canvas.setCreator("Dues")
        self._footer = footer
        self.on_new_page: Callable[[], None] | None = None
        self.y = TOP

    def room(self, height: float) -> None:
        """Make sure that `height` fits above the foot, on a new page if need be."""
        if self.y - height < BOTTOM:
            self.new_page()

    def new_page(self) -> None:
        self._end_page()
        self.y = TOP
        if self.on_new_page:
            self.on_new_page()

    def finish(self) -> bytes:
        self._end_page()
        self._canvas.save()
        return self._buffer.getvalue()

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 9,
        bold: bool = False,
        color: Color = INK,
        align: Align = "left",
        width: float | None = None,
        shrink: bool = False,
    ) -> None:
        """Write one line of printable text; what is wider than `width` ends in an ellipsis, or with `shrink` gets
        smaller."""
        if width is not None and shrink:
            size = min(size, size * width / max(typeset.width(text, size, bold=bold), 1))
        elif width is not None:
            text = typeset.fit(text, size, width, bold=bold)
        self._canvas.setFillColor(color)
        if align == "center":
            x -= typeset.width(text, size, bold=bold) / 2
        typeset.draw(self._canvas, x, y, text, size, bold=bold, right=align == "right")

    def box(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        self._canvas.setFillColor(color)
        self._canvas.rect(x, y, width, height, stroke=0, fill=1)

    def line(self, x1: float, x2: float, y: float, color: Color = RULE) -> None:
        self._canvas.setStrokeColor(color)
        self._canvas.setLineWidth(0.5)
        self._canvas.line(x1, y, x2, y)

    def _end_page(self) -> None:
        self.line(LEFT, RIGHT, BOTTOM - 14)
        self.text(LEFT, BOTTOM - 26, self._footer, size=7.5, color=GREY, width=RIGHT - LEFT - 60)
        self.text(RIGHT, BOTTOM - 26, str(self._canvas.getPageNumber()), size=7.5, color=GREY, align="right")
        self._canvas.showPage()
