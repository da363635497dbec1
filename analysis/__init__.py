"""Tables, statistics, figures and the report, from results alone. No ray."""
