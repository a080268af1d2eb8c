"""Find the sessions that ran out and were not ended yet."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_initial'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='loginsession',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['expires_at'], name='session_live_by_end'),
        ),
    ]
