"""How 389 Directory Server speaks RFC 4533, with its plug-ins Content Synchronization and Retro Changelog on.

Measured on 2.3.1; each is a test:
- The end of a search never says that all deletions were told, although they are: read by the RFC, every poll in
  which nobody changed would be everybody's leaving. It never lists what is there instead.
- Entries that changed since a cookie come with all their attributes, the hash of the password among them, and
  without operational ones: a locked person would look like an active one. They are read again.
- Entries are known by nsUniqueId; the stream writes the same 16 bytes as a UUID.
- A cookie belongs to one server, one account and one filter; with any other the server asks to begin anew.
Without the plug-ins the directory is read whole, in pages, at every poll.
"""

import re

from directory.openldap import Dialect


def format_unique_id(uuid: str) -> str:
    """Write the UUID of the stream as nsUniqueId is written: four times eight digits."""
    digits = uuid.replace("-", "")
    return "-".join(digits[start : start + 8] for start in range(0, 32, 8))


DS389 = Dialect(
    "nsuniqueid",
    re.compile(rb"[^#]+#.+#\d+", re.DOTALL),
    format_id=format_unique_id,
    flags_deletes=False,
    keeps_attributes=False,
)
