"""Telling people what they should know at once, wherever they are: on their desktop, by mail, in a chat, by a signed
webhook."""
