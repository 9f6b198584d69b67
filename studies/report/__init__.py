"""What a report is made of besides figures and replies: its tables, and what a metric and a result are, in words."""
