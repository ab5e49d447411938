"""What people's data must look like: the types of fields that several bodies share."""

from typing import Annotated

from msgspec import Meta

# Not blank, and no control characters: names go on one line, in mails' headers too.
ONE_LINE = r"^(?![\s\S]*[\x00-\x1f\x7f])[\s\S]*\S"

_ATOM = r'[^\s\x00-\x20\x7f-\x9f<>()\[\]\\,;:"@.]+'
_LABEL = r"[^\s\x00-\x2c\x2e\x2f\x3a-\x40\x5b-\x60\x7b-\x9f.]{1,63}"

# Refuses, together with all other faults, what is clearly no address; dues.mail.address has the last word.
Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=254,
        pattern=rf"^{_ATOM}(\.{_ATOM})*@(localhost|({_LABEL}\.)+{_LABEL})$",
        description="mail address",
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=ONE_LINE, description="one line of text")]
Password = Annotated[str, Meta(min_length=8, max_length=200, description="8 to 200 characters")]
# What is typed to prove who one is: bounded, but judged by nothing else than whether it is right.
TypedPassword = Annotated[str, Meta(max_length=200)]
