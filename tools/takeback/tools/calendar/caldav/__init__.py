"""CalDAV (RFC 4791): calendars on servers, over HTTP with ETags."""
