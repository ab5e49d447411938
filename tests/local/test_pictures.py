"""The pictures in the docs: those that are shown are there and small, and the code that makes them works."""

import re
from pathlib import Path

import pytest
from flask import Flask
from PIL import Image

from local import pictures

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_every_picture_that_is_shown_is_there_and_small():
    shown = [
        (page.parent / found).resolve()
        for page in DOCS.glob("*.md")
        for found in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    ]
    assert {path.name for path in shown} == {path.name for path in (DOCS / "pictures").glob("*.png")}
    assert all(path.stat().st_size < 120_000 for path in shown)


def test_documents_and_reports_are_drawn(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "FOLDER", tmp_path)
    with app.app_context():
        pictures.documents()
        pictures.report(tmp_path / "home")
    drawn = {}
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            drawn[path.stem] = picture.size
    assert drawn.keys() == {"receipt", "invoice", "receipt-german", "refund", "receipt-scripts", "revenue"}
    assert all(width > 500 and height > 700 for width, height in drawn.values())
