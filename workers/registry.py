"""The one list of the modules that declare jobs. Importing it declares them all."""

from types import ModuleType

from workers import cdn as edge
from workers import clocks, housekeeping, mail, payments, reports, webhooks

MODULES: tuple[ModuleType, ...] = (edge, clocks, housekeeping, mail, payments, reports, webhooks)
