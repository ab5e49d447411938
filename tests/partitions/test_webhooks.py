"""Events and their deliveries where all tables are by month: what holds of single tables, once more."""

# ruff: noqa: F401 - the tests and their fixtures are found here by their names

from tests.webhooks.conftest import hooks, reaching, receiver
from tests.webhooks.test_deliveries import (
    test_a_delivery_as_it_is_read,
    test_a_delivery_whose_worker_dies_is_made_again,
)
from tests.webhooks.test_replays import test_all_after_a_number, test_one_delivery, test_only_what_was_missed
