"""Proving an e-mail address, and choosing a new password where the old one is lost, by links that are mailed."""

import msgspec

from api.auth import PUBLIC
from api.reply import Reply, json_reply, no_content
from api.routing import Call, Routes
from dues.accounts import recovery as service
from dues.accounts.recovery import EmailConfirmation, EmailVerification, PasswordReset, PasswordResetConfirmation

routes = Routes(
    "recovery",
    examples={
        "EmailConfirmation.code": "pRz1hC8rHkUoFqCwYwNn0m3cXv2aTq7LJd5sZbE4gKA",
        "PasswordResetConfirmation.code": "pRz1hC8rHkUoFqCwYwNn0m3cXv2aTq7LJd5sZbE4gKA",
    },
)


def _check_verification(call: Call) -> EmailVerification:
    return service.check_verification(call.actor.user_id)


@routes.post(
    "/v1/me/email-verifications",
    "account:write",
    unbound=True,
    prepare=_check_verification,
    returns=EmailVerification,
    statuses=(202,),
)
def request_email_verification(call: Call) -> Reply:
    """Have a link mailed that verifies the e-mail

    It works once, within 24 hours, and only while the account has this address. At most five an hour.
    """
    job_id = service.request_verification(call.actor.user_id)
    headers = {"Location": f"/v1/jobs/{job_id}", "Retry-After": "1"}
    return json_reply(msgspec.to_builtins(call.prepared), 202, headers)


@routes.post("/v1/email-verifications/confirmations", PUBLIC, body=EmailConfirmation, statuses=(204,), limit="login")
def confirm_email(call: Call) -> Reply:
    """Verify an e-mail with the code of a link"""
    service.verify_email(call.data)
    return no_content()


@routes.post(
    "/v1/password-resets",
    PUBLIC,
    prepare=lambda call: service.check_reset_request(call.data),
    body=PasswordReset,
    returns=PasswordReset,
    statuses=(202,),
    limit="login",
)
def request_password_reset(call: Call) -> Reply:
    """Have a link mailed to choose a new password

    The answer is the same whether or not the address has an account. The link works once, within an hour. At most five
    an hour for one address.
    """
    service.request_reset(call.data)
    return json_reply(msgspec.to_builtins(call.data), 202)


@routes.post(
    "/v1/password-resets/confirmations",
    PUBLIC,
    prepare=lambda call: service.check_reset(call.data),
    body=PasswordResetConfirmation,
    statuses=(204,),
    limit="login",
)
def reset_password(call: Call) -> Reply:
    """Choose a new password with the code of a link

    Every token of the account is revoked: log in anew.
    """
    service.reset_password(call.data, call.prepared)
    return no_content()
