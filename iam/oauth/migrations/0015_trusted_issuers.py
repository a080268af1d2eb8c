"""Issuers whose assertions stand for clients of ours."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0014_asked_beyond_scopes'),
    ]

    operations = [
        migrations.CreateModel(
            name='TrustedIssuer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('issuer', models.CharField(max_length=500, unique=True)),
                ('jwks', models.JSONField(blank=True, null=True)),
                ('jwks_uri', models.TextField(blank=True, default='')),
                ('algorithms', models.JSONField(default=list)),
                ('subjects', models.JSONField(default=dict)),
                ('scopes', models.JSONField(default=list)),
                ('max_life_seconds', models.PositiveIntegerField()),
                ('enabled', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('jwks__isnull', True), ('jwks_uri__gt', '')), models.Q(('jwks__isnull', False), ('jwks_uri', '')), _connector='OR'), name='trusted_issuer_keys_in_one_place')],
            },
        ),
    ]
