"""The protocol's addresses: exactly those that the engine knows."""

from django.urls import path

from . import engine, views

urlpatterns = [path(address.lstrip("/"), views.endpoint) for address in engine.ENDPOINTS]
