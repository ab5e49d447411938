"""A newsfeed with Django REST framework as its guides teach: `select_related` for data embedded in each post,
`annotate` for what depends on the reader, cursor pagination, and `cache_page` with `vary_on_headers` on Redis."""

import redis
from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_headers
from peers.drf.feed_models import Follow, Like, Post
from rest_framework import generics, pagination, serializers


class AuthorSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()


class PostSerializer(serializers.ModelSerializer):
    author = AuthorSerializer()
    likes_count = serializers.IntegerField(source="stats.likes")
    comments_count = serializers.IntegerField(source="stats.comments")
    liked_by_me = serializers.BooleanField()

    class Meta:
        model = Post
        fields = [
            "id", "title", "body", "privacy", "likes_count", "comments_count", "liked_by_me", "created_at", "author",
        ]  # fmt: skip


class Newest(pagination.CursorPagination):
    ordering = "-feed_id"
    page_size = 20


class Newsfeed(generics.ListAPIView):
    serializer_class = PostSerializer
    pagination_class = Newest

    def get_queryset(self):
        reader = self.kwargs["reader"]
        followed = Follow.objects.filter(follower=reader).values("followed")
        return (
            Post.objects.filter(status="published")
            .filter(Q(author__in=followed, privacy__in=["public", "followers"]) | Q(author=reader))
            .select_related("author", "stats")
            .annotate(liked_by_me=Exists(Like.objects.filter(post=OuterRef("pk"), user=reader)))
        )


class CachedNewsfeed(Newsfeed):
    @method_decorator(cache_page(600))
    @method_decorator(vary_on_headers("Authorization"))
    def get(self, *args, **kwargs):
        return super().get(*args, **kwargs)


kept = redis.Redis.from_url(settings.CACHES["default"]["LOCATION"])
uncached = Newsfeed.as_view()
cached = CachedNewsfeed.as_view()


def kept_as_bytes(request, reader):
    """The cache-aside pattern of Redis' guide, by hand: the finished answer, cached under its URL."""
    key = f"bytes:{request.get_full_path()}"
    body = kept.get(key)
    if body is None:
        body = uncached(request, reader=reader).render().content
        kept.set(key, body, ex=600)
    return HttpResponse(body, content_type="application/json")
