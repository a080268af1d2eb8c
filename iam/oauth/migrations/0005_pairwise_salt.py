"""The salt of pairwise subjects: 256 random bits, made once."""

from django.db import migrations, models

import iam.oauth.models


class Migration(migrations.Migration):
    dependencies = [("oauth", "0004_pushed_request")]
    operations = [
        migrations.AddField(
            model_name="installation",
            name="pairwise_salt",
            field=models.BinaryField(default=iam.oauth.models.new_seed, editable=False),
        ),
    ]
