"""The bridge to the organisation's LDAP directories. Imports nothing of `iam`; callers use `directory.service`."""
