"""Published tables and figures: what they say, how to run them again, and whether what comes out agrees."""
