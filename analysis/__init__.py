"""What the results say: tables, statistics, figures and the report. No ray."""
