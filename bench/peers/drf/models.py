from django.db import models


class User(models.Model):
    id = models.UUIDField(primary_key=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "users"


class Package(models.Model):
    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    amount = models.BigIntegerField()
    currency = models.TextField()
    interval = models.TextField()

    class Meta:
        managed = False
        db_table = "packages"


class Payment(models.Model):
    id = models.UUIDField(primary_key=True)
    store_id = models.UUIDField()
    user = models.ForeignKey(User, models.DO_NOTHING)
    package = models.ForeignKey(Package, models.DO_NOTHING)
    amount = models.BigIntegerField()
    currency = models.TextField()
    status = models.TextField()
    description = models.TextField()
    refunded_amount = models.BigIntegerField()
    version = models.BigIntegerField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "payments"
        ordering = ["-created_at", "-id"]
