"""The secret before the present one, good until its time is over."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("oauth", "0009_key_sightings")]
    operations = [
        migrations.AddField(
            "client", "old_secret_digest", models.CharField(blank=True, default="", max_length=64)
        ),
        migrations.AddField("client", "old_secret_expires_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("client", "old_secret_used_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddConstraint(
            "client",
            models.CheckConstraint(
                condition=Q(old_secret_digest="") | Q(old_secret_expires_at__isnull=False),
                name="client_old_secret_ends",
            ),
        ),
    ]
