"""Mail in a Maildir: a message is its unique base name; folder and flags are its state (https://cr.yp.to/proto/maildir.html)."""
