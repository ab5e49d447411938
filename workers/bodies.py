"""The one list of the modules that declare jobs. Importing it declares them all."""

from types import ModuleType

from workers import housekeeping, mail, payments, reports, webhooks

MODULES: tuple[ModuleType, ...] = (housekeeping, mail, payments, reports, webhooks)
