"""Keys have an end, may live in a PKCS#11 token, and there is at most one next key an algorithm."""

from datetime import UTC, datetime, timedelta

from django.db import migrations, models


def give_ends(apps, schema_editor):
    """Let keys that are retiring already end in a day, and empty those that are retired. Idempotent."""
    keys = apps.get_model("oauth", "SigningKey").objects
    keys.filter(status="retiring", retires_at=None).update(retires_at=datetime.now(UTC) + timedelta(days=1))
    keys.filter(status="retired").update(encrypted_private=b"")


class Migration(migrations.Migration):
    dependencies = [("oauth", "0007_invitations")]
    operations = [
        migrations.AddField("signingkey", "pkcs11_uri", models.TextField(blank=True, default="")),
        migrations.AddField("signingkey", "retired_at", models.DateTimeField(null=True)),
        migrations.AddField("signingkey", "retires_at", models.DateTimeField(null=True)),
        migrations.RunPython(give_ends, migrations.RunPython.noop),
        migrations.AddConstraint(
            "signingkey",
            models.UniqueConstraint(
                condition=models.Q(status="next"), fields=("algorithm",), name="signing_key_one_next"
            ),
        ),
    ]
