"""The formats a report can have: how rows become a document."""

from dues.reports.formats.csv import CSVDocument
from dues.reports.formats.document import Document, Heading
from dues.reports.formats.json import JSONDocument
from dues.reports.formats.pdf import PDFDocument
from dues.reports.formats.xlsx import XLSXDocument

FORMATS: dict[str, type[Document]] = {
    "csv": CSVDocument,
    "xlsx": XLSXDocument,
    "json": JSONDocument,
    "pdf": PDFDocument,
}

__all__ = ["FORMATS", "Document", "Heading"]
