"""Which clients fetched which key at an address of their own."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oauth", "0008_key_ring")]
    operations = [
        migrations.CreateModel(
            name="KeySighting",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="key_sightings",
                        to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL,
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sightings",
                        to="oauth.signingkey",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            "keysighting",
            models.UniqueConstraint(fields=("client", "key"), name="key_sighting_once"),
        ),
    ]
