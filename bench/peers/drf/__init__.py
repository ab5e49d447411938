"""Django REST framework as its guide teaches: model serializers, page number pagination, `cache_page` on Redis."""
