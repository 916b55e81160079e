"""How good is a ranking: metrics, reports, records and where they come from."""
