"""The one table of addresses."""

from django.urls import include, path

urlpatterns = [
    path("", include("iam.oauth.urls")),
    path("", include("iam.login.urls")),
    path("", include("iam.portal.urls")),
]

handler400 = "iam.portal.views.bad_request"
handler404 = "iam.portal.views.not_found"
handler500 = "iam.portal.views.broken"
