"""What a chapter measures that is too long for a cell: one module a chapter."""
