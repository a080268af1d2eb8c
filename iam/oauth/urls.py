"""The protocol's addresses: exactly those that the engine knows."""

from django.urls import path

from . import engine, views

urlpatterns = [
    *(path(address.lstrip("/"), views.endpoint) for address in engine.ENDPOINTS),
    *(path(f"{before.lstrip('/')}<str:name>", views.endpoint) for before in engine.NAMED),
]
