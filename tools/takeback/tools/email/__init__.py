"""Mail: a local Maildir behind one port, and sending through the outbox. A server loads `family.EmailFamily`."""
