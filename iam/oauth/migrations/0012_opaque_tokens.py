"""Opaque access tokens: what one stands for beside its digest, never the token itself."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oauth", "0011_device_grants")]
    operations = [
        migrations.AddField(model_name="accesstoken", name="claims", field=models.JSONField(default=dict)),
        migrations.AddIndex(
            model_name="accesstoken",
            index=models.Index(fields=["expires"], name="access_token_by_end"),
        ),
        migrations.AddConstraint(
            model_name="accesstoken",
            constraint=models.CheckConstraint(
                condition=models.Q(("token", "")), name="access_token_never_stored"
            ),
        ),
    ]
