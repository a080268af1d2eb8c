"""A client that must be told that a session of its ended."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_session_live_by_end'),
        ('oauth', '0005_pairwise_salt'),
    ]

    operations = [
        migrations.CreateModel(
            name='LogoutDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField()),
                ('due_at', models.DateTimeField()),
                ('claim', models.CharField(blank=True, default='', max_length=32)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('failure', models.CharField(blank=True, default='', max_length=64)),
                ('told_at', models.DateTimeField(null=True)),
                ('given_up_at', models.DateTimeField(null=True)),
                ('client', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL)),
                ('session', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='accounts.loginsession')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('given_up_at', None), ('told_at', None)), fields=['due_at'], name='delivery_open_by_due'), models.Index(fields=['created_at'], name='delivery_by_creation')],
                'constraints': [models.UniqueConstraint(fields=('session', 'client'), name='delivery_once'), models.CheckConstraint(condition=models.Q(('told_at', None), ('given_up_at', None), _connector='OR'), name='delivery_told_or_given_up')],
            },
        ),
    ]
