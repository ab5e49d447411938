"""The language of a document: its words, and how dates, amounts and countries are written in it.

Words are looked up by what they are in English. `words_of("de")("Paid by")` is `Bezahlt von`. Dates, numbers and
countries are CLDR's (the package Babel).
"""

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_decimal
from iso3166 import countries_by_alpha2

from dues.money import minor_digits

Language = Literal["de", "en", "es", "fr"]
Paper = Literal["a4", "us-letter"]

_LOCALES: dict[Language, str] = {"de": "de", "en": "en_GB", "es": "es", "fr": "fr"}
# Where letters are printed on US Letter (CLDR).
_LETTER = frozenset("BZ CA CL CO CR GT MX NI PA PH PR SV US VE".split())

# German, Spanish and French.
_WORDS: dict[str, tuple[str, str, str]] = {
    "Receipt": ("Quittung", "Recibo", "Reçu"),
    "Refund": ("Erstattung", "Reembolso", "Remboursement"),
    "Invoice": ("Rechnung", "Factura", "Facture"),
    "Credit note": ("Gutschrift", "Nota de abono", "Avoir"),
    "Page {page} of {pages}": ("Seite {page} von {pages}", "Página {page} de {pages}", "Page {page} sur {pages}"),
    "Test: no money was moved": (
        "Test: Es wurde kein Geld bewegt",
        "Prueba: no se ha movido dinero",
        "Test : aucun paiement réel",
    ),
    "paid on {day}": ("bezahlt am {day}", "pagados el {day}", "payés le {day}"),
    "refunded on {day}": ("erstattet am {day}", "reembolsados el {day}", "remboursés le {day}"),
    "credited on {day}": ("gutgeschrieben am {day}", "abonados el {day}", "crédités le {day}"),
    "Paid on {day}": ("Bezahlt am {day}", "Pagado el {day}", "Payé le {day}"),
    "from {day}": ("ab {day}", "desde el {day}", "à partir du {day}"),
    "{number} of {day}": ("{number} vom {day}", "{number} del {day}", "{number} du {day}"),
    "Receipt number": ("Quittung Nr.", "N.º de recibo", "N° de reçu"),
    "Refund number": ("Erstattung Nr.", "Reembolso n.º", "Remboursement n°"),
    "Invoice number": ("Rechnung Nr.", "N.º de factura", "N° de facture"),
    "Credit note number": (
        "Gutschrift Nr.",
        "N.º de abono",
        "N° d'avoir",
    ),
    "Date": ("Datum", "Fecha", "Date"),
    "Date of issue": ("Ausgestellt am", "Fecha de emisión", "Date d'émission"),
    "Paid by": ("Bezahlt von", "Pagado por", "Payé par"),
    "Refunded to": ("Erstattet an", "Reembolsado a", "Remboursé à"),
    "Credited to": ("Gutgeschrieben", "Abonado a", "Crédité à"),
    "Bill to": ("Rechnung an", "Facturar a", "Facturé à"),
    "From": ("Von", "De", "De"),
    "Payment method": ("Zahlungsart", "Forma de pago", "Mode de paiement"),
    "Reference": ("Referenz", "Referencia", "Référence"),
    "Reason": ("Grund", "Motivo", "Motif"),
    "For receipt": ("Zur Quittung", "Del recibo", "Pour le reçu"),
    "For invoice": ("Zur Rechnung", "De la factura", "Pour la facture"),
    "Payment": ("Zahlung", "Pago", "Paiement"),
    "Description": ("Beschreibung", "Descripción", "Description"),
    "Quantity": ("Menge", "Cantidad", "Quantité"),
    "Amount": ("Betrag", "Importe", "Montant"),
    "Total paid": ("Insgesamt bezahlt", "Total pagado", "Total payé"),
    "Paid": ("Bezahlt", "Pagado", "Payé"),
    "Refunded before": ("Früher erstattet", "Reembolsado antes", "Remboursé auparavant"),
    "This refund": ("Diese Erstattung", "Este reembolso", "Ce remboursement"),
    "Paid after refunds": ("Bezahlt nach Erstattungen", "Pagado tras los reembolsos", "Payé après remboursements"),
    "Total": ("Gesamt", "Total", "Total"),
    "Amount due": ("Zu zahlen", "Importe a pagar", "Montant dû"),
    "From your balance": ("Aus Ihrem Guthaben", "De su saldo", "De votre solde"),
    "Added to your balance": ("Ihrem Guthaben hinzugefügt", "Añadido a su saldo", "Ajouté à votre solde"),
    "Total credited": ("Insgesamt gutgeschrieben", "Total abonado", "Total crédité"),
    "your balance": ("Ihr Guthaben", "su saldo", "votre solde"),
    "Tax": ("Steuer", "Impuestos", "Taxe"),
    "Net": ("Netto", "Base imponible", "Hors taxe"),
    "Tax {rate}": ("MwSt. {rate}", "IVA {rate}", "TVA {rate}"),
    "Credit for invoice {number}": (
        "Gutschrift zur Rechnung {number}",
        "Abono de la factura {number}",
        "Avoir pour la facture {number}",
    ),
    "Tax ID {id}": ("USt-IdNr./Steuernr. {id}", "NIF/IVA {id}", "N° de TVA/SIREN {id}"),
    "{gateway} card": ("Karte über {gateway}", "Tarjeta por {gateway}", "Carte via {gateway}"),
}
_COLUMNS: dict[Language, int] = {"de": 0, "es": 1, "fr": 2}


class Words:
    """How documents speak in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._column = _COLUMNS.get(language)
        self._locale = Locale.parse(_LOCALES[language])

    def __call__(self, english: str, **parts: str) -> str:
        """What stands there for English words, with the parts that they name in braces."""
        return self._in(english).format(**parts)

    def page(self) -> str:
        """The foot of a page, for the template to put its numbers in."""
        return self._in("Page {page} of {pages}")

    def _in(self, english: str) -> str:
        words = _WORDS[english]
        return english if self._column is None else words[self._column]

    def money(self, amount: int, currency: str) -> str:
        """`1,234.56 EUR`, in German `1.234,56 EUR`."""
        digits = minor_digits(currency)
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        return f"{format_decimal(Decimal(amount).scaleb(-digits), pattern, locale=self._locale)} {currency}"

    def rate(self, millionths: int) -> str:
        """A rate of parts per million: `19 %`, `8.1 %`."""
        return f"{format_decimal(Decimal(millionths).scaleb(-4), '0.####', locale=self._locale)} %"

    def day(self, moment: datetime, timezone: str) -> str:
        """`20 November 2026`, in an IANA time zone."""
        return format_date(_there(moment, timezone).date(), "long", locale=self._locale)

    def moment(self, moment: datetime, timezone: str) -> str:
        """`20 November 2026, 15:39 UTC+01:00`. Names of zones would mean several."""
        there = _there(moment, timezone)
        offset = there.isoformat()[-6:]
        return f"{self.day(moment, timezone)}, {there:%H:%M} UTC{'' if offset == '+00:00' else offset}"

    def country(self, code: str | None) -> str | None:
        """Its name, or the code where it has none."""
        if code and self.language != "en" and (name := self._locale.territories.get(code)):
            return str(name)
        known = countries_by_alpha2.get(code or "")
        return known.name if known else code


@cache
def words_of(language: Language) -> Words:
    return Words(language)


def paper_of(chosen: Paper | None, country: str | None) -> Paper:
    """What to print on: what a store has chosen, else what is usual in its country."""
    return chosen or ("us-letter" if country in _LETTER else "a4")


def _there(moment: datetime, timezone: str) -> datetime:
    return moment.astimezone(UTC if timezone == "UTC" else ZoneInfo(timezone))
