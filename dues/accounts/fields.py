"""What people's data must look like: the types of fields that several bodies share."""

from typing import Annotated

from msgspec import Meta

from dues.mail.address import check_address
from dues.text import OneLine

_ATOM = r'[^\s\x00-\x20\x7f-\x9f<>()\[\]\\,;:"@.]+'
_LABEL = r"[^\s\x00-\x2c\x2e\x2f\x3a-\x40\x5b-\x60\x7b-\x9f\u3002\uff0e\uff61]{1,63}"

# The pattern tells readers of the API what is clearly no address; dues/mail/address.py has the last word.
Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=254,
        pattern=rf"^{_ATOM}(\.{_ATOM})*@({_LABEL}[.\u3002\uff0e\uff61])+{_LABEL}$",
        description="mail address",
        extra={"normalize": check_address},
    ),
]
Name = Annotated[OneLine, Meta(min_length=1, max_length=200)]
Password = Annotated[str, Meta(min_length=8, max_length=200, description="8 to 200 characters")]
# A password typed to log in: bounded, but judged by nothing else than whether it is right.
TypedPassword = Annotated[str, Meta(max_length=200, description="a password, as it is typed")]
TypedEmail = Annotated[str, Meta(max_length=254, description="a mail address, in any spelling")]
