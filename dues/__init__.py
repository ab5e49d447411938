"""The business of Dues: no HTTP request and no queue is known here."""

VERSION = "0.1.0"
