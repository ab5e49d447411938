"""What the routes of recovery are tried with."""

from tests.api.samples.declared import Samples

SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
POST   /v1/me/email-verifications                     account:write  401 202 202 202 202 202 403 403
POST   /v1/email-verifications/confirmations          -              204 204 204 204 204 204 204 204
POST   /v1/password-resets                            -              202 202 202 202 202 202 202 202
POST   /v1/password-resets/confirmations              -              204 204 204 204 204 204 204 204
""",
    bodies={
        "POST /v1/email-verifications/confirmations": lambda world, caller: {"code": world.code("verify-email")},
        "POST /v1/password-resets/confirmations": lambda world, caller: {
            "code": world.code("reset-password"),
            "password": "another good passphrase",
        },
        "POST /v1/password-resets": {"email": "{caller}@example.com"},
    },
)
