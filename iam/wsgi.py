"""The entry point of a server: `iam.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iam.settings")

application = get_wsgi_application()
