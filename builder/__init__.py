"""From the hand-tended records to the Parquet that the Hub serves."""
