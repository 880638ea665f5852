"""The rows of the table, one kind of work per module; `measure(bench)` gives a module's rows."""
