"""Device grants: who asked from where, who may answer, and what became of it. The table has never had a row."""

import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("oauth", "0010_old_secret"),
    ]

    operations = [
        migrations.AlterField("devicegrant", "client_id", models.CharField(max_length=128)),
        migrations.AddField(
            "devicegrant",
            "application",
            models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="device_grants", to="oauth.client", default=None
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "devicegrant",
            "session",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="device_grants",
                to="accounts.loginsession",
            ),
        ),
        migrations.AddField("devicegrant", "family_id", models.UUIDField(default=uuid.uuid4)),
        migrations.AddField("devicegrant", "created_at", models.DateTimeField(default=None), preserve_default=False),
        migrations.AddField("devicegrant", "address", models.CharField(blank=True, max_length=45)),
        migrations.AddField("devicegrant", "decided_at", models.DateTimeField(null=True)),
        migrations.AddField("devicegrant", "used_at", models.DateTimeField(null=True)),
        migrations.AddField("devicegrant", "auth_time", models.DateTimeField(null=True)),
        migrations.AddField("devicegrant", "acr", models.CharField(blank=True, max_length=16)),
        migrations.AddField("devicegrant", "amr", models.JSONField(default=list)),
        migrations.AddField("devicegrant", "asked", models.JSONField(default=dict)),
        migrations.AddField("devicegrant", "next_poll_ms", models.BigIntegerField(default=0)),
        migrations.AddField("devicegrant", "too_fast", models.BooleanField(default=False)),
        migrations.AddIndex("devicegrant", models.Index(fields=["expires"], name="device_by_end")),
        migrations.AddIndex(
            "devicegrant",
            models.Index(
                condition=models.Q(("status", "authorization-pending")),
                fields=["application", "address"],
                name="device_waiting",
            ),
        ),
        migrations.AddConstraint(
            "devicegrant", models.UniqueConstraint(fields=("user_code",), name="device_user_code_once")
        ),
        migrations.AddConstraint(
            "devicegrant",
            models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status", "authorized"), _negated=True),
                    models.Q(("auth_time__isnull", False), ("session__isnull", False), ("user__isnull", False)),
                    _connector="OR",
                ),
                name="device_authorized_by_somebody",
            ),
        ),
    ]
