"""Tables, statistics, figures and the report, computed from results alone, without Ray."""
