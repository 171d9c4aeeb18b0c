"""Mailboxes on IMAP servers: one connection, compare-and-set as far as the server can, and a memory of what moved where."""
