"""Codes and families without constraints and indexes that nothing asks for (docs/adr/0045); on PostgreSQL also room for updates.

Django gives each unique text an index for LIKE, which no statement uses: a digest is looked for whole.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


TABLES = ("oauth_grant", "oauth_pushedrequest", "oauth_sessionclient", "oauth_usedidentifier", "oauth_revokedtoken")
# A row that is changed soon after it was made finds room in its own page, and then no index has to learn of it.
ROOM = {"oauth_grant": 70, "oauth_tokenfamily": 70}


def make_lean(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ANY(%s)"
            " AND indexdef LIKE '%%varchar_pattern_ops%%'",
            [list(TABLES)],
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX {schema_editor.quote_name(name)}")
        for table, filled in ROOM.items():
            cursor.execute(f"ALTER TABLE {table} SET (fillfactor = {filled})")


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0005_end_as_the_directory_says'),
        ('oauth', '0019_session_use'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name='grant',
            name='application',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='codes', to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL),
        ),
        migrations.AlterField(
            model_name='grant',
            name='session',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='codes', to='accounts.loginsession'),
        ),
        migrations.AlterField(
            model_name='grant',
            name='user',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='codes', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AlterField(
            model_name='tokenfamily',
            name='client',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='families', to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL),
        ),
        migrations.AlterField(
            model_name='tokenfamily',
            name='session',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='families', to='accounts.loginsession'),
        ),
        migrations.AlterField(
            model_name='tokenfamily',
            name='user',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='families', to=settings.AUTH_USER_MODEL),
        ),
        migrations.RunPython(make_lean, migrations.RunPython.noop),
    ]
