"""What needs no torch: files, texts, records and settings. Programs that only look at results start at once."""
