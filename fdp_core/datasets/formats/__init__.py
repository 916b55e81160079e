"""Readers, one a format; each names the file, and the line or the entry, that it cannot read (``ParseError``)."""
