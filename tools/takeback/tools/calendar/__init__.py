"""Calendars: a folder of .ics files, or a CalDAV server, behind one port."""
