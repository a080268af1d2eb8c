"""The addresses of signing in."""

from django.urls import path

from . import views

app_name = "login"
urlpatterns = [
    path("sign-in", views.start, name="start"),
    path("sign-in/<str:handle>", views.flow, name="flow"),
]
