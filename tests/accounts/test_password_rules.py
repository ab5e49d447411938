"""Which passwords are refused, and which are not."""

import pytest

from dues.accounts.password_rules import weakness

pytestmark = pytest.mark.unit

ADA = ("ada.lovelace@example.com", "Ada Lovelace")
COMMON = "is among the passwords that are tried first"
PERSONAL = "says little but the name or the e-mail"
FULLWIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "password")
MONOTONOUS = "has fewer than 4 different characters"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("password", COMMON),
        ("PassWord", COMMON),
        (" password ", COMMON),
        ("12345678", COMMON),
        ("qwertyuiop", COMMON),
        ("iloveyou", COMMON),
        (FULLWIDTH, COMMON),
        ("        ", MONOTONOUS),
        ("aaaaaaaa", MONOTONOUS),
        ("abcabcabcabc", MONOTONOUS),
        ("ada.lovelace@example.com", PERSONAL),
        ("ADA.LOVELACE@example.com", PERSONAL),
        ("AdaLovelace", PERSONAL),
        ("ada lovelace", PERSONAL),
        ("ada_lovelace!", PERSONAL),
        ("adalovelace123", PERSONAL),
        ("correct horse battery staple", None),
        ("first programme", None),
        ("adalovelace on a bicycle", None),
        ("парольчик 7", None),
        ("xk7!pq2z", None),
    ],
)
def test_a_password(password: str, why: str | None):
    assert weakness(password, *ADA) == why


def test_a_short_name_is_found_in_good_passwords_too():
    assert weakness("Bob's long way home", "bo@example.com", "Bo") is None
