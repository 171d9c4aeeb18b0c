"""PostgreSQL: what a statement changed is seen by a second connection on the same snapshot, and taken back by one inverse."""
