import os

import redis
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from peers.drf import feed
from peers.drf.models import Package, Payment, User
from rest_framework import generics, serializers


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["id", "name"]


class PackageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Package
        fields = ["id", "name", "amount", "currency", "interval"]


class PaymentSerializer(serializers.ModelSerializer):
    user = UserSerializer()
    package = PackageSerializer()

    class Meta:
        model = Payment
        fields = [
            "id", "store_id", "amount", "currency", "status", "description", "refunded_amount", "version",
            "created_at", "updated_at", "user", "package",
        ]  # fmt: skip


class Payments(generics.ListAPIView):
    serializer_class = PaymentSerializer

    def get_queryset(self):
        return Payment.objects.filter(store_id=self.kwargs["store_id"]).select_related("user", "package")


class CachedPayments(Payments):
    @method_decorator(cache_page(600))
    def get(self, *args, **kwargs):
        return super().get(*args, **kwargs)


kept = redis.Redis.from_url(os.environ["PEER_REDIS_URL"])
uncached = Payments.as_view()


def payments_kept_as_bytes(request, store_id):
    """The cache-aside pattern of Redis' guide, by hand: the finished answer, cached under its URL."""
    key = f"bytes:{request.get_full_path()}"
    body = kept.get(key)
    if body is None:
        body = uncached(request, store_id=store_id).render().content
        kept.set(key, body, ex=600)
    return HttpResponse(body, content_type="application/json")


urlpatterns = [
    path("uncached/newsfeed/<uuid:reader>", feed.uncached),
    path("cached/newsfeed/<uuid:reader>", feed.cached),
    path("bytes/newsfeed/<uuid:reader>", feed.kept_as_bytes),
    path("uncached/stores/<uuid:store_id>/payments", uncached),
    path("bytes/stores/<uuid:store_id>/payments", payments_kept_as_bytes),
    path("cached/stores/<uuid:store_id>/payments", CachedPayments.as_view()),
]
