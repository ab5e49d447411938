"""The one list of the modules that declare handlers of jobs. Importing it declares them all."""

from types import ModuleType

from workers import accounts, clocks, housekeeping, mail, payments, posts, reports, subscriptions, webhooks
from workers import cdn as edge

MODULES: tuple[ModuleType, ...] = (
    accounts,
    edge,
    clocks,
    housekeeping,
    mail,
    payments,
    posts,
    reports,
    subscriptions,
    webhooks,
)
