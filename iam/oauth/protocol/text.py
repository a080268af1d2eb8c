"""What no text from outside may hold. Pure."""

import re

# No database stores NUL, no encoding a lone surrogate; U+FFFD is what invalid UTF-8 became.
UNUSABLE = re.compile("[\x00\ud800-\udfff\ufffd]")
