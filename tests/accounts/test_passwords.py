from argon2 import PasswordHasher

from dues.accounts.passwords import MEMORY_KIB, NOBODY, hash_password, is_outdated, is_password
from tests.rows.people import hashed


def test_a_password_is_known_again():
    password_hash = hash_password("correct horse")
    assert is_password("correct horse", password_hash)
    assert not is_password("correct horses", password_hash)
    assert hash_password("correct horse") != password_hash


def test_hashes_cost_what_is_recommended():
    assert MEMORY_KIB == 19 * 1024
    assert hash_password("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert not is_outdated(hash_password("x"))


def test_nobodys_hash_is_as_dear_as_any_and_opens_to_nothing():
    assert NOBODY.rpartition("$")[0].rpartition("$")[0] == hash_password("x").rpartition("$")[0].rpartition("$")[0]
    assert not is_outdated(NOBODY)
    assert not is_password("", NOBODY)


def test_a_hash_of_other_parameters_is_outdated_but_still_opens():
    old = hashed("correct horse")
    assert is_outdated(old)
    assert is_password("correct horse", old)
    assert is_outdated(PasswordHasher(time_cost=3, memory_cost=MEMORY_KIB, parallelism=1).hash("x"))


def test_what_is_no_hash_opens_to_nothing():
    assert not is_password("x", "x")
