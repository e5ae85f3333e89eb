"""Build the dataset: from the records that people edit to the Parquet that the Hub serves."""
