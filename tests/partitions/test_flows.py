"""Jobs, mails and payments where all tables are by month: what holds of single tables, once more.

`bin/test --partitioned` runs any test so.
"""

# ruff: noqa: F401 - the tests and their fixtures are found here by their names

from tests.jobs.conftest import in_app, jobs
from tests.jobs.test_commands import (
    flask_jobs,
    test_a_failed_job_begins_anew,
    test_all_failed_jobs_of_a_kind,
    test_the_newest_jobs_in_a_table,
    test_work_that_another_job_stands_for_is_not_doubled,
)
from tests.jobs.test_lease import test_of_many_workers_at_once_exactly_one_gets_the_job
from tests.jobs.test_outbox import (
    test_a_finished_job_does_not_stand_in,
    test_a_live_job_of_the_same_kind_and_key_stands_in_for_a_new_one,
    test_it_is_one_statement,
    test_two_transactions_with_the_same_key_make_one_job,
)
from tests.jobs.test_turns import test_stores_take_turns_whatever_their_priorities
from tests.mail.conftest import configured, office
from tests.mail.test_service import (
    test_a_draft_in_doubt_is_asked_about,
    test_a_draft_is_written_down_and_sent_at_once,
    test_a_draft_of_a_known_mail_is_sent_as_it_was_written_down,
    test_a_job_that_runs_again_finds_the_mail_sent,
    test_the_same_key_is_the_same_mail,
)
from tests.payments.conftest import shop, work
from tests.payments.test_processing import test_a_payment_succeeds_and_is_confirmed_by_mail
from tests.payments.test_reads import (
    test_a_cursor_walk_back_shows_the_same_pages,
    test_includes_are_the_rows_they_say,
)
from tests.payments.test_refunds import test_refunds_of_a_part_and_of_the_rest
