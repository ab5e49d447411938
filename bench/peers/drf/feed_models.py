from django.db import models
from peers.drf.models import User


class Post(models.Model):
    id = models.UUIDField(primary_key=True)
    feed_id = models.UUIDField()
    author = models.ForeignKey(User, models.DO_NOTHING, related_name="posts")
    title = models.TextField(null=True)
    body = models.TextField()
    privacy = models.TextField()
    status = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "posts"


class PostStats(models.Model):
    post = models.OneToOneField(Post, models.DO_NOTHING, primary_key=True, related_name="stats")
    likes = models.BigIntegerField()
    comments = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "post_stats"


class Follow(models.Model):
    id = models.UUIDField(primary_key=True)
    follower = models.ForeignKey(User, models.DO_NOTHING, related_name="follows")
    followed = models.ForeignKey(User, models.DO_NOTHING, related_name="followed_by")

    class Meta:
        managed = False
        db_table = "follows"


class Like(models.Model):
    id = models.UUIDField(primary_key=True)
    post = models.ForeignKey(Post, models.DO_NOTHING, related_name="liked")
    user = models.ForeignKey(User, models.DO_NOTHING, related_name="likes")

    class Meta:
        managed = False
        db_table = "likes"
