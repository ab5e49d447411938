"""Django REST framework as its guide teaches: model serializers, pagination by page number, `cache_page` on Redis."""
