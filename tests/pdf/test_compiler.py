"""What people write, in documents: every script is there to be seen and to be copied, whatever it says stays text, and
a document costs no more than its length."""

from collections.abc import Callable
from pathlib import Path

import manimgx_fonts
import manimgx_fonts_cjk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.pdf.compiler import ROOT, Compiler, Document, cleaned
from dues.pdf.fonts import _CHARACTERS, folders, fonts_for
from tests.pdf_reader import PDF

TEMPLATE = "payments/templates/receipt.typ"
AT = 1_795_099_140.0

Setter = Callable[..., PDF]


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    return Compiler(folders(""))


def shown(name: str = "Kestrel", payer: str = "Ada", description: str = "Plan", amount: str = "1.00 EUR") -> object:
    """What the template of a receipt shows."""
    return {
        "title": "Receipt",
        "number": "R-000001",
        "is_test": False,
        "seller": {"name": name, "lines": []},
        "headline": [amount, "paid on 20 November 2026"],
        "facts": [["Paid by", [payer]]],
        "lines": [[description, amount]],
        "sums": [["Total paid", amount, True]],
        "notes": [],
        "words": {"description": "Description", "amount": "Amount", "test": "Test"},
    }


@pytest.fixture
def typeset(compiler: Compiler) -> Setter:
    def set_receipt(**texts: str) -> PDF:
        pdf, missing = compiler.set(Document(TEMPLATE, AT), shown(**texts))
        assert not missing
        return PDF(pdf)

    return set_receipt


@pytest.fixture(scope="session")
def blank_ink(compiler: Compiler) -> int:
    """How much ink is on a receipt that names nobody."""
    pdf, _ = compiler.set(Document(TEMPLATE, AT), shown(name="", payer="", description=""))
    return PDF(pdf).ink()


SCRIPTS = {
    "latin": "Łódź „Żubr” Ñandú Straße",
    "vietnamese": "Câu lạc bộ leo núi Việt Nam",
    "decomposed": "Cafe\u0301 Zu\u0308rich",
    "greek": "Ορειβατικός Σύλλογος",
    "cyrillic": "Альпинистский клуб",
    "arabic": "نادي التسلق",
    "mixed": "Shop متجر",
    "hebrew": "מועדון טיפוס",
    "hindi": "हिन्दी पर्वतारोहण",
    "bengali": "বাংলা আরোহণ",
    "tamil": "தமிழ் ஏறுதல்",
    "telugu": "తెలుగు పర్వతారోహణ",
    "sinhala": "ශ්‍රී ලංකා",
    "thai": "สโมสรปีนเขาที่นี่",
    "lao": "ສະໂມສອນປີນຜາ",
    "khmer": "ក្លឹបឡើងភ្នំ",
    "myanmar": "မြန်မာတောင်တက်",
    "georgian": "მთამსვლელთა კლუბი",
    "armenian": "Լեռնագնացության ակումբ",
    "amharic": "ተራራ መውጣት",
    "chinese": "上海攀岩俱乐部",
    "traditional": "臺北攀岩俱樂部",
    "japanese": "㈱山田商店 クライミング",
    "beyond the first plane": "髙橋 𠮷田",
    "half-width": "ﾔﾏﾀﾞｼﾖｳﾃﾝ",
    "korean": "서울 클라이밍",
    "emoji": "🧗‍♀️ Climb 🇩🇪 Club ❤️ 1️⃣",
    "signs": "№ ™ € ₹ ½ ± × → ≤ ☎ ♀ ① 〒 ㎡",
}


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_every_script_can_be_seen_and_copied(typeset: Setter, blank_ink: int, text: str):
    pdf = typeset(name=text, payer=text, description=text)
    for font, is_embedded in pdf.fonts().items():
        assert is_embedded, font
    # Readers of PDF give right-to-left text in the order of its letters or of the page: the letters are what counts.
    copied = sorted(cleaned("".join(pdf.lines())).replace(" ", ""))
    for letter in cleaned(text).replace(" ", ""):
        assert copied.count(letter) >= 3 * text.count(letter) or not letter.isalnum(), letter
    assert pdf.ink() > blank_ink


# Every fifth family; all with `--wide`.
FAMILIES = [
    pytest.param(family, marks=pytest.mark.wide if place % 5 else ()) for place, family in enumerate(_CHARACTERS)
]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mark_never_takes_the_place_of_its_letter(compiler: Compiler, family: str):
    """The typesetter shapes both together: a font that has the mark alone must not be asked for them."""
    first = [int(part.split("-")[0], 16) for part in _CHARACTERS[family].split()]
    letters = [chr(code + i) for code in first[:4] for i in (4, 5, 6)] + ["漢", "ท"]
    bare, _ = compiler.set(Document(TEMPLATE, AT), shown(description=" ".join(letters)))
    least = PDF(bare).ink()
    for mark in ("\u0301", "\u0951", "\u20e3"):
        text = " ".join(letter + mark for letter in letters)
        marked, _ = compiler.set(Document(TEMPLATE, AT), shown(description=text))
        assert PDF(marked).ink() >= least


@pytest.mark.parametrize(
    ("text", "country", "font"),
    [
        ("山田", "JP", "JP"),
        ("山田", "TW", "TC"),
        ("山田", "HK", "HK"),
        ("山田", "KR", "KR"),
        ("山田", "", "SC"),
        ("山田の", "CN", "JP"),
        ("山田 서울", "", "KR"),
    ],
)
def test_chinese_characters_are_written_as_where_they_are_read(text: str, country: str, font: str):
    assert f"Noto Sans CJK {font}" in [each.name for each in fonts_for(text, country)]


def test_a_script_without_a_font_is_shown_by_its_code_points(compiler: Compiler):
    pdf, missing = compiler.set(Document(TEMPLATE, AT), shown(name="𒀀𒁀 Temple", description="𝒜𝓭𝓪"))
    assert "𒀀" in missing
    assert "[U+12000][U+12040] Temple" in PDF(pdf).text()
    assert "Ada" in PDF(pdf).text()


def test_many_texts_without_a_font_cost_one_more_round(compiler: Compiler):
    before = compiler.compiled
    hieroglyphs = "".join(chr(0x13000 + i) for i in range(200))
    pdf, missing = compiler.set(Document(TEMPLATE, AT), shown(description=hieroglyphs))
    assert len(missing) >= 200
    assert compiler.compiled - before == 2
    said = PDF(pdf).text().replace(" ", "")
    assert all(f"[U+{0x13000 + i:04X}]" in said for i in range(200))


def test_an_operators_font_is_used_for_what_the_others_lack(tmp_path: Path):
    without_cjk = str(Path(str(manimgx_fonts.__file__)).parent)
    for font in Path(str(manimgx_fonts_cjk.__file__)).parent.glob("*.ttc"):
        (tmp_path / "deeper").mkdir()
        (tmp_path / "deeper" / font.name).symlink_to(font)
    assert folders(str(tmp_path))[-1] == str(tmp_path)
    _, missing = Compiler([without_cjk]).set(Document(TEMPLATE, AT), shown(name="山"))
    assert missing == ["山"]
    pdf, missing = Compiler([without_cjk, str(tmp_path)]).set(Document(TEMPLATE, AT), shown(name="山"))
    assert not missing
    assert "山" in PDF(pdf).text()


INJECTIONS = [
    '#set page(fill: red) #{panic("x")}',
    '#import "@preview/cetz:0.3.0": *',
    '#read("/pdf/compiler.py") #include "/payments/receipt.py"',
    "$x^2$ `raw` *bold* _it_ = Heading <label> @ref // comment /* ",
    '"quoted" \\ backslash \\u{41} ]) }',
    "- list\n+ enum\n/ term: x",
    "{{ jinja }} ${shell} %d",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_looks_like_a_template_is_text(typeset: Setter, text: str):
    pdf = typeset(name=text, payer=text, description=text)
    assert pdf.text().replace(" ", "").count(cleaned(text).replace(" ", "")) >= 3
    assert pdf.pages == 1


def test_the_same_data_is_the_same_file(compiler: Compiler):
    texts = shown(name="Żubr", payer="山田", description="नमस्ते")
    first = compiler.set(Document(TEMPLATE, AT), texts)
    Compiler(folders("")).set(Document(TEMPLATE, AT), shown())
    assert (
        Compiler(folders("")).set(Document(TEMPLATE, AT), texts) == first == compiler.set(Document(TEMPLATE, AT), texts)
    )


# Broad and narrow, composed, joined to one another, from right to left, and none that can be seen.
LETTERS = [
    *("漢", "W", "e\u0301", "ا", "🧗‍♀️", "\u200d"),
    *(pytest.param(letters, marks=pytest.mark.wide) for letters in ("Ω", "м", "한", "カ", "क्षि", "漢 ")),
]


@pytest.mark.parametrize("letters", LETTERS)
def test_long_texts_stay_on_the_page_and_cost_as_their_length(compiler: Compiler, letters: str):
    """Counted in rounds and bytes, not in seconds."""

    def size(count: int) -> int:
        before = compiler.compiled
        long = (letters * count)[:count]
        pdf, _ = compiler.set(Document(TEMPLATE, AT), shown(name=long[:200], payer=long[:200], description=long))
        assert compiler.compiled - before == 1
        assert PDF(pdf).widest() < 0.93
        return len(pdf)

    once, twice = size(250), size(500)
    assert twice < 2 * once + 2000


def test_an_amount_is_on_one_line_beside_any_text(typeset: Setter):
    pdf = typeset(description="word " * 100, amount="9,999,999,999.999 KWD")
    assert any("9,999,999,999.999 KWD" in line for line in pdf.lines())


@given(st.text(max_size=80))
def test_any_text_makes_a_document(compiler: Compiler, text: str):
    pdf, _ = compiler.set(Document(TEMPLATE, AT), shown(name=text, payer=text, description=text))
    assert PDF(pdf).pages >= 1


def test_templates_ask_for_no_packages() -> None:
    """There is no network where documents are set."""
    templates = list(ROOT.rglob("*.typ"))
    assert len(templates) >= 3
    assert not [path for path in templates if "@preview" in path.read_text() or "@local" in path.read_text()]
