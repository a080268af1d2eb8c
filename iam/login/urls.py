"""The addresses of signing in."""

from django.urls import path

from iam.oauth.protocol.device import VERIFICATION_PATH, Outcome

from . import device, password_pages, views

app_name = "login"
urlpatterns = [
    path("sign-in", views.start, name="start"),
    path("password", password_pages.own, name="own_password"),
    path("password/forgotten", password_pages.forgotten, name="forgotten"),
    path("sign-in/<str:handle>", views.flow, name="flow"),
    path(VERIFICATION_PATH.lstrip("/"), device.enter, name="device"),
    *(path(outcome.path.lstrip("/"), device.ended, {"outcome": outcome}) for outcome in Outcome),
]
