"""Jobs about posts; dues/social does the work."""

from uuid import UUID

from dues.jobs import Run, kinds
from dues.social import posts
from workers.job import job


@job(kinds.POST_PUBLISH)
def publish(run: Run, post_id: str, publish_at: str) -> None:
    with run.completion():
        posts.publish_scheduled(UUID(post_id), publish_at)
