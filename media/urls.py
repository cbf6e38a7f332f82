"""Routes of stored files."""

from __future__ import annotations

from django.urls import path

from media import bucket_views, views

urlpatterns = [
    path("media/<path:name>", views.Media.as_view()),
    path("images/<path:name>", views.Images.as_view()),
    path("thumbnail/<path:name>", views.Thumbnail.as_view()),
    path("files/<str:bucket>/media/<str:name>", bucket_views.BucketMedia.as_view()),
    path("files/<str:bucket>/thumbnail/<str:name>", bucket_views.BucketThumbnail.as_view()),
    path("files/<str:bucket>/<str:kind>/<str:name>", bucket_views.BucketOther.as_view()),
    path("search/<path:terms>", bucket_views.Search.as_view()),
]
