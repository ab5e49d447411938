"""Reading PDFs back: what a person copies from them and sees, and which fonts a file brings along."""

import ctypes
import io

import pypdfium2
import pypdfium2.raw as pdfium

_LIGHT = bytes(range(128, 256))


class PDF:
    """A finished PDF."""

    def __init__(self, content: bytes) -> None:
        assert content.startswith(b"%PDF-")
        assert content.rstrip().endswith(b"%%EOF")
        self._document = pypdfium2.PdfDocument(content)

    @property
    def pages(self) -> int:
        return len(self._document)

    def size(self, page: int = 0) -> tuple[int, int]:
        """Width and height of a page, points."""
        width, height = self._document[page].get_size()
        return round(width), round(height)

    def pictures(self, page: int = 0) -> int:
        """How many pictures are drawn on a page."""
        return len(list(self._document[page].get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE])))

    def place_of_picture(self, page: int = 0) -> tuple[float, float, float, float]:
        """Where the only picture of a page is drawn: left, bottom, right, top in points."""
        (found,) = self._document[page].get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE])
        left, bottom, right, top = found.get_bounds()
        return left, bottom, right, top

    def lines(self, page: int = 0) -> list[str]:
        """What is copied from a page, without the marks of where a word may break."""
        text = self._document[page].get_textpage().get_text_bounded()
        return [line.strip() for line in text.replace("\u200b", "").splitlines()]

    def text(self, page: int = 0) -> str:
        """The same in one line."""
        return " ".join(self.lines(page))

    def fonts(self) -> dict[str, bool]:
        """Each font by its name, and whether the file brings it along."""
        found = {}
        for page in self._document:
            for drawn in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_TEXT]):
                font = pdfium.FPDFTextObj_GetFont(drawn.raw)
                name = ctypes.create_string_buffer(100)
                pdfium.FPDFFont_GetBaseFontName(font, name, 100)
                found[name.value.decode()] = bool(pdfium.FPDFFont_GetIsEmbedded(font))
        return found

    def boxes(self, page: int = 0) -> list[tuple[float, float, float, float]]:
        """Where paths are drawn: left, bottom, right, top in points, in the order of drawing."""
        return [item.get_bounds() for item in self._document[page].get_objects(filter=[pdfium.FPDF_PAGEOBJ_PATH])]

    def ink(self, page: int = 0) -> int:
        """How much is seen of a page: dark dots."""
        bitmap = self._document[page].render(scale=1.5, grayscale=True)
        return len(bytes(bitmap.buffer).translate(None, delete=_LIGHT))

    def widest(self, page: int = 0) -> float:
        """How far to the right text goes, in shares of the page's width."""
        objects = self._document[page].get_objects(filter=[pdfium.FPDF_PAGEOBJ_TEXT])
        return float(max(item.get_bounds()[2] for item in objects) / self._document[page].get_width())

    def metadata(self) -> dict[str, str]:
        return dict(self._document.get_metadata_dict())

    def picture(self, page: int, scale: float) -> bytes:
        """A page as PNG."""
        file = io.BytesIO()
        self._document[page].render(scale=scale).to_pil().save(file, "png")
        return file.getvalue()
