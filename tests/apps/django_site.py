"""A Django site of two views, in one file."""

from __future__ import annotations

import hashlib
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def page(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse(
        {
            "name": name,
            "url": request.build_absolute_uri(),
            "secure": request.is_secure(),
            "query": request.GET.dict(),
        }
    )


@csrf_exempt
def upload(request: HttpRequest) -> JsonResponse:
    if request.FILES:
        content = request.FILES["file"].read()
    else:
        content = request.body
    return JsonResponse(
        {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    )


urlpatterns = [path("page/<str:name>", page), path("upload", upload)]


def make_app(global_conf: dict[str, str], **local: str) -> Any:  # a WSGI application
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            SECRET_KEY="only for tests",
            DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        )
        django.setup(set_prefix=False)
    return WSGIHandler()
